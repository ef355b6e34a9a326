{#- As the system of 2015 did it: a runner for each knock. -#}
{% if data.get('act') == 'pend' %}
accept_the_key:
  runner.key_runner.main:
    - args:
      - miniondata: {{ data | json }}
{% endif %}
