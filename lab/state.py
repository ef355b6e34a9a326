"""
The state that the lab's highstate applies. It counts its own runs, so that a
test need not believe what a master or the bridge says of them.
"""

import json
import os
import time

import salt.payload


def ran(name):
    """
    Note the begin and the end of this run in <root_dir>/runs, in between wait while
    <root_dir>/hold is there, and then take as long, and end as well, as
    <root_dir>/state.json says. In test mode it does nothing, as states do.
    """
    if __opts__["test"]:
        return {"name": name, "result": None, "changes": {}, "comment": "test mode"}
    root = __opts__["root_dir"]
    with open(os.path.join(root, "state.json"), encoding="utf-8") as file:
        behaviour = json.load(file)
    jid = _jid()
    begun = _note(root, "begin", jid)
    while os.path.exists(os.path.join(root, "hold")):
        time.sleep(0.05)
    time.sleep(behaviour["seconds"])
    failures = behaviour["fail"]
    good = 0 <= failures < begun
    _note(root, "succeed" if good else "fail", jid)
    return {
        "name": name,
        "result": good,
        "changes": {},
        "comment": f"run {begun}, jid {jid}",
    }


def _jid():
    """
    The job of this very process: Salt notes each in <cachedir>/proc. States are
    not told (3006 to 3008).
    """
    proc = os.path.join(__opts__["cachedir"], "proc")
    for jid in os.listdir(proc):
        with open(os.path.join(proc, jid), "rb") as file:
            job = salt.payload.loads(file.read())
        if job and job["pid"] == os.getpid():
            return jid
    return "none"


def _note(root, what, jid):
    """
    Append a line, and say how many runs have begun.
    """
    path = os.path.join(root, "runs")
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{what} {jid}\n")
    with open(path, encoding="ascii") as file:
        return sum(line.startswith("begin ") for line in file)
