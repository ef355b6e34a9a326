"""
What the ``phoenix`` command offers, from Salt.

The bridge that runs beside this master answers; these functions pass data in and
its answer out. Its socket stands in the master's configuration, where it is not
the usual one:

.. code-block:: yaml

    phoenix:
      socket: /run/phoenix/bridge.sock

Where there is no bridge, or the bridge says no, a function fails with one line
that says why, and ``salt-run`` exits with 1.
"""

import http.client
import json
import socket

import salt.exceptions

_SOCKET = "/run/phoenix/bridge.sock"

# The bridge gives up an operation after 45 seconds, and then says so.
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
    if answer["code"]:
        raise _Refused(answer["error"])
    return answer["answer"]


def _ids(minions):
    return [str(minion) for minion in minions]


def status():
    """
    Show the masters, the minions by where they stand, and this master's bridge.

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
        Only those that are LAUNCH, or only those that are TERMINATE.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.minions
        salt-run phoenix.minions status=TERMINATE
    """
    return _perform("minions.list", status=status)


def explain(minion, lines=None):
    """
    Say what is known of a minion, each rule about its key, which one decides, and
    what was decided.

    lines
        How many of the last decisions to show: 10.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.explain web-1
    """
    return _perform("minions.explain", id=str(minion), lines=lines)


def add(*minions, **flags):
    """
    Expect minions: their keys are accepted when they knock, and their first
    highstate is run once. One whose key is accepted already is adopted: nothing is
    run on it.

    again
        True to revive an id that was retired: its name has come again.

    group
        Name of an Auto Scaling group, for people.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.add web-1 web-2
        salt-run phoenix.add web-1 again=True
    """
    return _perform("minions.add", ids=_ids(minions), **flags)


def retire(*minions, **flags):
    """
    Say that minions were terminated, for good: every master deletes their keys.

    unknown
        True for ids that the fleet does not know, too.

    held
        True, and no id: those whose terminations this bridge holds, too many at once.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.retire web-1 web-2
    """
    return _perform("minions.retire", ids=_ids(minions), **flags)


def adopt(dry_run=False):
    """
    Take the minions that this master has accepted already into the fleet. Nothing is
    run on them, and no key is touched.

    dry_run
        True to say only what would be adopted.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.adopt dry_run=True
    """
    return _perform("adopt", dry_run=dry_run)


def keys():
    """
    Show this master's keys, and what each is to Phoenix.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.keys
    """
    return _perform("keys.list")


def accept(minion, rebind=False, key_sha256=None):
    """
    Accept a pending key by hand: bind it, and let its minion in.

    rebind
        True to forget the key that was bound before, of a machine that was rebuilt.
        Its highstate is run again.

    key_sha256
        Digest of the key that is meant, as ``phoenix.keys`` shows it: no other key is
        accepted. Required with ``rebind``.

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
    Ask for a highstate of minions by hand: of adopted ones, or once more. Without a
    minion, show the first highstates that are wanted, run or failed.

    force
        True to give up one that is under way.

    all
        True, and no id: show those that are done, too.

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
    Make a roster of the fleet, for salt-ssh, by what this master remembers of its
    minions' grains.

    grain
        Only minions whose grains match, as ``role:web``.

    target
        Only minions whose id matches this glob.

    user
        The user to log in as.

    host
        The grain that names the host, where it is not to be the address.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.roster
        salt-run --out=yaml phoenix.roster grain=role:web user=ec2-user
    """
    return _perform("roster", **flags)


def doctor(**flags):
    """
    Look for what is wrong on this master, and change nothing. What was found is
    returned in any case; where there are warnings or errors, it counts as no success.

    quiet
        True to leave out what is as it should be.

    salt_only
        True to look at Salt alone, and not at the store and AWS.

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
    Make tombstones of minions that were terminated long ago, and delete what has
    expired. Bridges do so by themselves, too.

    older
        Only rows that were terminated so long ago, as 48h.

    dry_run
        True to say only how many rows are due.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.prune dry_run=True
    """
    return _perform("prune", **flags)


def hint(data, tag=None):
    """
    Tell the bridge of an event of this master's bus, as a reactor has it. The bridge
    takes the minion's id from it, and looks up everything else. It is told of the
    same event by the bus, too: it does what follows once.

    data
        The event's data, with the minion's ``id``.

    tag
        The event's tag, where the data has no ``tag``: ``salt/auth``, ``salt/key``,
        ``salt/minion/ID/start`` or ``salt/job/JID/ret/ID``.

    CLI Example:

    .. code-block:: bash

        salt-run phoenix.hint '{"id": "web-1"}' tag=salt/auth
    """
    if not isinstance(data, dict):
        raise _Refused(f'tell bridge: {data!r} is no map with an id, as {{"id": "web-1"}}')
    _post("/v1/hints", {"hints": [{"tag": data.get("tag", tag), "data": data}]})
    return True
