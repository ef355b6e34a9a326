#!py
# salt/job/*/ret/*: a job has returned. The bridge knows which jobs are its own, but a
# runner's call costs a master more than this list: what a first highstate is
# (highstate.function in phoenix.yaml), and what the bridge asks minions.
FUNCTIONS = (
    "state.highstate",
    "test.ping",
    "saltutil.find_job",
    "saltutil.find_cached_job",
    "config.get",
)


def run():
    # In Python, since what a job returned may be large, and is not to be rendered.
    if data.get("fun") not in FUNCTIONS:
        return {}
    return {
        "phoenix_ret": {
            "runner.phoenix.hint": [{"args": [{"data": data}, {"tag": tag}]}],
        }
    }
