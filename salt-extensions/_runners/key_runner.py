"""
A minion knocks: let the bridge look at its key. Called by a reactor on
``salt/auth``, as since 2015.
"""


def main(miniondata):
    """
    Tell the bridge that a minion knocked. The bridge decides whether to let it in.

    miniondata
        The event's data; all that is needed is the ``id``.

    CLI Example:

    .. code-block:: bash

        salt-run key_runner.main '{"id": "web-1"}'
    """
    return __salt__["phoenix.hint"](miniondata, "salt/auth")
