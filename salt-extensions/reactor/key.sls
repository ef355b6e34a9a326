{#- salt/key: a key was accepted (act is "accept" in Salt 3006 and 3007, "accepted" in
    3008), rejected or deleted. The bridge reads the key itself. -#}
phoenix_key:
  runner.highstate_runner.manage:
    - args:
      - miniondata: {{ {'tag': tag, 'id': data.get('id'), 'act': data.get('act')} | json }}
