"""
A minion sent its key: the bridge checks it. Called by a reactor on ``salt/auth``, as in
2015.
"""


def main(miniondata):
    """
    Tell the bridge that a minion sent its key. The bridge decides whether to accept it.

    miniondata
        The event's data. Only the ``id`` is needed.

    CLI Example:

    .. code-block:: bash

        salt-run key_runner.main '{"id": "web-1"}'
    """
    return __salt__["phoenix.hint"](miniondata, "salt/auth")
