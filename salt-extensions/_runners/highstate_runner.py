"""
A minion's key changed, or the minion is connected: the bridge checks its first
highstate. Called by a reactor on ``salt/key``, as in 2015, and on
``salt/minion/*/start``.
"""


def manage(miniondata):
    """
    Tell the bridge that a minion's key changed, or that the minion is connected. The
    bridge decides whether its first highstate is due.

    miniondata
        The event's data. Only the ``id`` is needed. With a ``tag`` of
        ``salt/minion/ID/start`` the minion counts as connected.

    CLI Example:

    .. code-block:: bash

        salt-run highstate_runner.manage '{"id": "web-1"}'
    """
    return __salt__["phoenix.hint"](miniondata, "salt/key")
