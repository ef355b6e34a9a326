"""
A minion was let in, or is connected: let the bridge see to its first highstate.
Called by a reactor on ``salt/key``, as since 2015, and on ``salt/minion/*/start``.
"""


def manage(miniondata):
    """
    Tell the bridge that a minion's key changed, or that the minion is connected. The
    bridge decides whether its first highstate is due.

    miniondata
        The event's data; all that is needed is the ``id``. A ``tag`` of
        ``salt/minion/ID/start`` in it says that the minion is connected.

    CLI Example:

    .. code-block:: bash

        salt-run highstate_runner.manage '{"id": "web-1"}'
    """
    return __salt__["phoenix.hint"](miniondata, "salt/key")
