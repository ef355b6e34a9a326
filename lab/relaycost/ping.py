"""
Time commands as the salt command runs them, without the start of Python:
ping.py CONFIG ROUNDS TARGET... prints for each target a line of JSON with the seconds
and answers of each round, and the seconds of each publish alone.
"""

import json
import sys
import time

import salt.client

config, rounds, targets = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
client = salt.client.LocalClient(config)
for target in targets:
    took, answers, published = [], [], []
    for _ in range(rounds):
        begun = time.monotonic()
        found = set()
        for part in client.cmd_cli(target, "test.ping", timeout=5):
            found.update(part)
        took.append(time.monotonic() - begun)
        answers.append(len(found))
        begun = time.monotonic()
        client.run_job(target, "test.ping", listen=False)
        published.append(time.monotonic() - begun)
        time.sleep(0.5)  # what that job returns is not part of the next round
    print(json.dumps({"target": target, "took": took, "answers": answers, "published": published}), flush=True)
