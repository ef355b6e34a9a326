{#- salt/auth: a minion sent its key. Accepted minions do so, too, all of them at once
    after each deletion of a key: those events are left out. -#}
{%- if data.get('act') != 'accept' %}
phoenix_auth:
  runner.key_runner.main:
    - args:
      - miniondata: {{ {'tag': tag, 'id': data.get('id'), 'act': data.get('act')} | json }}
{%- endif %}
