"""
Accept a minion's key if the fleet's table has the minion: the way of the system
of 2015, with the table in SQLite in the place of DynamoDB. Kept for the
benchmark only.
"""

import sqlite3

import salt.key


def _scan():
    # The table was scanned for each minion, all attributes, all rows.
    table = sqlite3.connect(__opts__["fleet_table"])
    try:
        table.row_factory = sqlite3.Row
        return [dict(row) for row in table.execute("SELECT * FROM minions")]
    finally:
        table.close()


def main(miniondata):
    for row in _scan():
        if row["instanceid"] == miniondata["id"] and row["status"] == "LAUNCH":
            key = salt.key.Key(__opts__)
            key.accept(match=miniondata["id"])
            return True
    return False
