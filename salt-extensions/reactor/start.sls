{#- salt/minion/*/start: a minion is connected, and can run its first highstate. -#}
phoenix_start:
  runner.highstate_runner.manage:
    - args:
      - miniondata: {{ {'tag': tag, 'id': data.get('id')} | json }}
