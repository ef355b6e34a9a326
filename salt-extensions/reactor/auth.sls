{#- salt/auth: a minion has knocked. Those that are let in already do so as well, all
    of them at once after each deletion of a key: nothing follows from that. -#}
{%- if data.get('act') != 'accept' %}
phoenix_auth:
  runner.key_runner.main:
    - args:
      - miniondata: {{ {'tag': tag, 'id': data.get('id'), 'act': data.get('act')} | json }}
{%- endif %}
