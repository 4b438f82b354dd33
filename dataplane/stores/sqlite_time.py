"""What time it is in a SQLite store: a time that starts as unix time and is never stepped.

The nodes of a store share its deadlines, and all of them run on one machine. So its time is the time since boot (see
`clock`) and an offset, which the first writer after each boot chooses from the time of day and leaves in the table
`clock` for all the others. When somebody sets the time of day, no lease lives longer or shorter for it. Over a reboot,
during which nothing but the time of day goes on, the store's time may jump forward but never goes back.

Offsets are whole seconds, so that adding and subtracting one loses nothing of a moment.
"""

import sqlite3
import time

from dataplane import clock

TABLE = (
    "CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), boot TEXT, offset INTEGER, latest REAL)"
)


def offset(database: sqlite3.Connection, now: float) -> int:
    """The seconds to add to moments of `clock` to get the store's time. `now` is such a moment."""
    (exists,) = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'clock'").fetchone()
    row = database.execute("SELECT boot, offset, latest FROM clock").fetchone() if exists else None
    boot, kept, latest = row or ("", 0, 0.0)
    if boot and boot == clock.boot_id() and isinstance(kept, int):
        return kept
    return round(max(time.time(), latest if isinstance(latest, float) else 0.0) - now)


def keep_offset(database: sqlite3.Connection, now: float) -> int:
    """The same, in a transaction that may write: from then on it is so for everybody until the next boot."""
    database.execute(TABLE)
    chosen = offset(database, now)
    database.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?)", (clock.boot_id(), chosen, now + chosen))
    return chosen
