"""
The commands of ``phoenix`` as runners.

Each function passes its arguments to the bridge that runs beside this master, and
returns the bridge's answer. If the bridge's socket is not the default, name it in the
master's configuration:

.. code-block:: yaml

    phoenix:
      socket: /run/phoenix/bridge.sock

If no bridge answers, or the bridge refuses, a function fails with one line that gives
the reason, and ``salt-run`` exits with 1.
"""

import http.client
import json
import re
import socket

import salt.exceptions

_SOCKET = "/run/phoenix/bridge.sock"

# The bridge ends an operation after 45 seconds, with an error.
_TIMEOUT = 60


class _Refused(salt.exceptions.NotImplemented):
    # The runner client of Salt 3006 to 3008 (salt/client/mixins.py) makes a
    # traceback of any other exception, and of this one a line and exit code 1.
    pass


class _Bridge(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("bridge", timeout=_TIMEOUT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def _post(url, body):
    path = (__opts__.get("phoenix") or {}).get("socket", _SOCKET)
    bridge = _Bridge(path)
    try:
        bridge.request("POST", url, json.dumps(body, default=str))
        response = bridge.getresponse()
        text = response.read().decode()
    except (FileNotFoundError, ConnectionRefusedError):
        raise _Refused(
            f"ask bridge: none answers on {path} (start phoenix bridge on this master)"
        ) from None
    except PermissionError:
        raise _Refused(
            f"ask bridge on {path}: not allowed (run it as root or as the master's user)"
        ) from None
    except (OSError, http.client.HTTPException) as exc:
        raise _Refused(f"ask bridge on {path}: {exc or type(exc).__name__}") from None
    finally:
        bridge.close()
    if response.status == 404:
        raise _Refused(
            f"ask bridge on {path}: it is older than this runner (restart phoenix-bridge)"
        )
    if response.status >= 300:
        raise _Refused(text.strip())
    return json.loads(text) if text else None


def _ask(operation, **arguments):
    given = {
        name: value
        for name, value in arguments.items()
        # Salt adds names of its own, as __orchestration_jid__.
        if value is not None and not name.startswith("__")
    }
    return _post("/v1/operation", {"operation": operation, "arguments": given})


def _perform(operation, **arguments):
    answer = _ask(operation, **arguments)
    if not answer["code"]:
        return answer["answer"]
    reason = _as_arguments(answer["error"])
    done = _changed(answer["answer"])
    if done:
        reason += "; done: " + ", ".join(done)
    raise _Refused(reason)


def _as_arguments(reason):
    # The bridge names the flags of its command: "(--unknown to retire it all the same)".
    return re.sub(r"--([a-z-]+)(?= to )", r"\1=True", re.sub("^--", "", reason))


def _changed(rows):
    # An operation on several minions returns the rows of those that it did change, beside
    # the reason why it did not change the others.
    if not isinstance(rows, list):
        return []
    return [
        row.get("minion_id") or row.get("instanceid") or "?"
        for row in rows
        if isinstance(row, dict)
    ]


def _ids(minions):
    return [str(minion) for minion in minions]


def status():
    """
    Show the masters, the minions by phase, and this master's bridge.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.status
    """
    return _perform("status")


def masters():
    """
    Show the masters of the fleet.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.masters
    """
    return _perform("masters.list")


def minions(status=None):
    """
    Show the minions of the fleet.

    status
        Only minions with this status: LAUNCH or TERMINATE.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.minions
        salt-run phoenix.minions status=TERMINATE
    """
    return _perform("minions.list", status=status)


def explain(minion, lines=None):
    """
    Show what is known of a minion, each rule about its key, the rule that decides, and
    past decisions.

    lines
        How many of the last decisions to show. Default: 10.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.explain web-1
    """
    return _perform("minions.explain", id=str(minion), lines=lines)


def add(*minions, **flags):
    """
    List new minions: their keys are accepted when they ask, and their first highstate
    runs once. A minion whose key is already accepted is adopted: nothing runs on it.

    again
        True to list an id again that was retired.

    group
        Name of its Auto Scaling group. It is shown, and decides nothing.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.add web-1 web-2
        salt-run phoenix.add web-1 again=True
    """
    return _perform("minions.add", ids=_ids(minions), **flags)


def retire(*minions, **flags):
    """
    Record minions as terminated, for good: every master deletes their keys.

    unknown
        True to record ids that the fleet does not know, too.

    held
        True, without ids: those whose terminations this bridge holds because there were
        too many at once.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.retire web-1 web-2
    """
    return _perform("minions.retire", ids=_ids(minions), **flags)


def adopt(dry_run=False):
    """
    Add the minions whose keys this master has accepted to the fleet. Nothing runs on
    them, and no key changes.

    dry_run
        True to return only what would be adopted.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.adopt dry_run=True
    """
    return _perform("adopt", dry_run=dry_run)


def keys():
    """
    Show this master's keys, and how Phoenix classifies each.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.keys
    """
    return _perform("keys.list")


def accept(minion, rebind=False, key_sha256=None):
    """
    Accept a pending key by hand, and bind it.

    rebind
        True to replace the key that was bound before, of a machine that was rebuilt.
        Its first highstate runs again.

    key_sha256
        Digest of the key, as ``phoenix.keys`` shows it: no other key is accepted.
        Required with ``rebind``.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.accept web-1
        salt-run phoenix.accept web-1 rebind=True key_sha256=0a5e...
    """
    return _perform(
        "keys.accept", ids=[str(minion)], rebind=rebind, key_sha256=key_sha256
    )


def highstate(*minions, **flags):
    """
    Run the first highstate of minions by hand: of adopted ones, or once more. Without
    ids, show the first highstates that are pending, running or failed.

    force
        True: also if one is running. Its result is not recorded, and it is not stopped.

    all
        True, without ids: show those that are done, too.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.highstate
        salt-run phoenix.highstate db-1
    """
    if minions:
        return _perform("highstate.run", ids=_ids(minions), **flags)
    return _perform("highstate.list", **flags)


def resume():
    """
    Close the circuit breaker of first highstates: they begin again, on all masters.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.resume
    """
    return _perform("highstate.resume")


def roster(**flags):
    """
    Make a roster of the fleet for salt-ssh, from the grains of its minions that this
    master has cached.

    grain
        Only minions whose grains match, such as ``role:web``.

    target
        Only minions whose id matches this glob.

    user
        The user to log in as.

    host
        The grain with the name of the host. Default: an address.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.roster
        salt-run --out=yaml phoenix.roster grain=role:web user=ec2-user
    """
    return _perform("roster", **flags)


def doctor(**flags):
    """
    Examine this master, and change nothing. The findings are returned in any case; if
    there are warnings or errors, ``success`` is false.

    quiet
        True to leave out checks that found nothing.

    salt_only
        True to examine Salt only, and not the store and AWS.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.doctor
    """
    answer = _ask("doctor", **flags)
    if answer["answer"] is None:
        raise _Refused(answer["error"])
    if answer["code"]:
        __context__["retcode"] = answer["code"]
    return answer["answer"]


def prune(**flags):
    """
    Strip the rows of minions that were terminated long ago, and delete rows that have
    expired. Bridges do this by themselves, too.

    older
        Only rows of minions that were terminated at least so long ago, such as 48h.

    dry_run
        True to return only how many rows are due.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.prune dry_run=True
    """
    return _perform("prune", **flags)


def hint(data, tag=None):
    """
    Pass an event of this master's bus to the bridge, as a reactor receives it. The bridge
    uses only the minion's id, and of a return the result of one of its own jobs. If it
    receives the same event from the bus, too, it acts once.

    data
        The event's data, with the minion's ``id``.

    tag
        The event's tag, if the data has no ``tag``: ``salt/auth``, ``salt/key``,
        ``salt/minion/ID/start`` or ``salt/job/JID/ret/ID``.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.hint '{"id": "web-1"}' tag=salt/auth
    """
    if not isinstance(data, dict):
        raise _Refused(
            f'pass event to bridge: {data!r} is not a map with an id, such as {{"id": "web-1"}}'
        )
    _post("/v1/hints", {"hints": [{"tag": data.get("tag", tag), "data": data}]})
    return True
