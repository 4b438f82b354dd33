"""The embedded store: one SQLite file that the nodes of one machine share (`sqlite:PATH`).

Three tables: the network config and the clock (one row each), and the leases under flannel's keys with flannel's
values, so that `sqlite3 PATH 'select * from leases'` reads like a listing of etcd. `expires` is in the store's time,
which is about unix time (see `sqlite_time`), NULL for a reservation.

Races. Every change is one transaction that begins with `BEGIN IMMEDIATE`: the writer holds SQLite's single
write lock from before it looks until it has written, so no two nodes can choose the same subnet. Others
wait for the lock up to `_BUSY_SECONDS`.

Crashes. The file uses a rollback journal, not a write-ahead log: a killed writer's half-done change is
undone by whoever opens the file next, the store is one file that can be copied, and a reader without write
permission can read it. Leases change a few times a day, so a write-ahead log's better write rate would buy nothing.

Watching. `PRAGMA data_version` changes when another connection commits, and reading it costs some
tens of microseconds; `watch` asks four times a second and reads the leases only after a change, or when one it knows of
has expired. A file that was replaced meanwhile is opened anew.
"""

import asyncio
import contextlib
import logging
import math
import random
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from dataplane import clock
from dataplane.errors import ConfigError, LeaseLostError, NoNetworkConfigError, StoreError, UsageError
from dataplane.leases.allocation import allocate, own_lease, taken_subnets
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.stores.base import LEASE_SECONDS, AcquireRequest, Complaints, Snapshot, Store, StoreOptions, WatchUpdate
from dataplane.stores.polling import watch_by_polling
from dataplane.stores.sqlite_time import TABLE, keep_offset, offset

_log = logging.getLogger(__name__)

_APPLICATION_ID = 0x7564706C  # "udpl", in the file's header: this database is ours
_BUSY_SECONDS = 30.0
_WATCH_BUSY_SECONDS = 2.0
_REMEMBERED = 64

_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    "CREATE TABLE config (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL)",
    "CREATE TABLE leases (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires REAL)",
    TABLE,
)


def create(scheme: str, location: str, options: StoreOptions) -> "SqliteStore":
    """The store at the path after `sqlite:`."""
    if not location:
        raise UsageError(f"{scheme}: needs a path, as in sqlite:/run/udplane/store.db")
    return SqliteStore(Path(location), lease_seconds=options.lease_seconds)


class SqliteStore(Store):
    """A store in the file `path`, made with its directory when the first change is written.

    `clock` (see the module of that name) and `rng` are for tests. No connection is kept open, except by a watch.
    """

    def __init__(
        self,
        path: Path,
        *,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = clock.now,
        rng: random.Random | None = None,
    ) -> None:
        self._path = path
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._rng = rng or random.Random()
        self._complaints = Complaints(_log)
        self._own_key = ""
        self._written: deque[str] = deque(maxlen=_REMEMBERED)

    @property
    def ignored(self) -> Mapping[str, str]:
        """Rows that cannot be read."""
        return self._complaints.said

    async def network_config(self) -> str:
        """The stored text."""
        return await asyncio.to_thread(self._network_config)

    async def set_network_config(self, text: str, *, only_if_absent: bool = False) -> bool:
        """Store `text` after checking that it parses."""
        NetworkConfig.parse(text)
        return await asyncio.to_thread(self._set_network_config, text, only_if_absent)

    async def leases(self) -> list[Lease]:
        """Every lease that has not expired."""
        return await asyncio.to_thread(self._leases)

    async def acquire(self, request: AcquireRequest) -> Lease:
        """Take the node's own lease, its previous subnets, or free ones."""
        return await asyncio.to_thread(self._acquire, request)

    async def renew(self, lease: Lease, attrs: LeaseAttrs | None = None) -> Lease:
        """Extend `lease`."""
        return await asyncio.to_thread(self._renew, lease, attrs or lease.attrs)

    async def release(self, lease: Lease) -> None:
        """Delete `lease`, if it is still this node's; a reservation stays."""
        await asyncio.to_thread(self._release, lease)

    async def close(self) -> None:
        """Nothing to close: connections live as long as one call."""

    async def watch(self) -> AsyncGenerator[WatchUpdate, None]:
        """Yield a `Snapshot` now and after each change of the leases."""
        with contextlib.closing(_Watcher(self._path, self._clock, self._complaints)) as watcher:
            async with contextlib.aclosing(watch_by_polling(watcher.poll)) as updates:
                async for update in updates:
                    yield self._told_of_rewriting(update) if isinstance(update, Snapshot) else update

    def _told_of_rewriting(self, snapshot: Snapshot) -> Snapshot:
        """`snapshot` with the node's own lease marked if somebody else wrote it last."""
        return Snapshot(
            tuple(
                replace(lease, rewritten=lease.key == self._own_key and lease.mark not in self._written)
                for lease in snapshot.leases
            )
        )

    def _network_config(self) -> str:
        with _reading(self._path) as database:
            return self._require_config(database)

    def _require_config(self, database: sqlite3.Connection | None) -> str:
        text = None if database is None else _stored_config(database)
        if text is None:
            raise NoNetworkConfigError(
                f"there is no network config in sqlite:{self._path} yet; "
                f"put one there with `udplane config set FILE --store sqlite:{self._path}`"
            )
        return text

    def _set_network_config(self, text: str, only_if_absent: bool) -> bool:
        with _writing(self._path) as database:
            if only_if_absent and _stored_config(database) is not None:
                return False
            database.execute("INSERT OR REPLACE INTO config VALUES (1, ?)", (text,))
        return True

    def _leases(self) -> list[Lease]:
        with _reading(self._path) as database:
            return [] if database is None else _stored_leases(database, self._clock(), self._complaints)

    def _acquire(self, request: AcquireRequest) -> Lease:
        with _writing(self._path) as database:
            config = NetworkConfig.parse(self._require_config(database))
            now = self._clock()
            database.execute("DELETE FROM leases WHERE expires <= ?", (now + keep_offset(database, now),))
            leases = _stored_leases(database, now, self._complaints)
            own = own_lease(filter(request.owns, leases), config, request.previous)
            if own is not None and config.accepts(own.subnets):
                return self._put(database, Lease(own.subnets, request.attrs, self._expiry(own, now)))
            if own is not None:
                database.execute("DELETE FROM leases WHERE key = ?", (own.key,))
            taken = taken_subnets((lease for lease in leases if lease is not own), config)
            subnets = allocate(config, taken, request.previous, self._rng)
            return self._put(database, Lease(subnets, request.attrs, now + self._lease_seconds))

    def _renew(self, lease: Lease, attrs: LeaseAttrs) -> Lease:
        with _writing(self._path) as database:
            now = self._clock()
            held = _stored_lease(database, lease.key, keep_offset(database, now), self._complaints)
            if held is None:
                raise LeaseLostError(f"the lease of {lease.subnets} is gone from sqlite:{self._path}; restart the node")
            if not held.attrs.same_node(lease.attrs):
                raise LeaseLostError(f"the subnet {lease.subnets} belongs to {held} now; restart the node")
            return self._put(database, Lease(lease.subnets, attrs, self._expiry(held, now)))

    def _release(self, lease: Lease) -> None:
        with _writing(self._path) as database:
            held = _stored_lease(database, lease.key, keep_offset(database, self._clock()), self._complaints)
            if held is not None and held.attrs.same_node(lease.attrs) and held.expires is not None:
                database.execute("DELETE FROM leases WHERE key = ?", (lease.key,))

    def _expiry(self, held: Lease, now: float) -> float | None:
        """When a lease that is extended now expires; a reservation stays one."""
        return None if held.expires is None else now + self._lease_seconds

    def _put(self, database: sqlite3.Connection, lease: Lease) -> Lease:
        ahead = offset(database, self._clock())
        expires = None if lease.expires is None else lease.expires + ahead
        row = (lease.key, lease.attrs.to_json(), expires)
        # A row that is changed in place keeps its rowid, which tells the order in which leases were made.
        database.execute(
            "INSERT INTO leases VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
            row,
        )
        self._own_key = lease.key
        self._written.append(_mark(expires))
        stored = _stored_lease(database, lease.key, ahead, self._complaints)
        assert stored is not None
        return stored


class _Watcher:
    """One connection that notices changes. `poll` and `close` may be called from different threads."""

    def __init__(self, path: Path, clock: Callable[[], float], complaints: Complaints) -> None:
        self._path = path
        self._clock = clock
        self._complaints = complaints
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._version: int | None = None
        self._next_expiry = 0.0

    def poll(self) -> Snapshot | None:
        """The leases, if they may have changed since the last call; StoreError if they cannot be read."""
        with self._lock:
            try:
                with _as_store_error(self._path):
                    return self._read_if_changed()
            except StoreError:
                self._disconnect()
                raise

    def close(self) -> None:
        """Close the connection, once a call of `poll` that is under way has ended."""
        with self._lock:
            self._disconnect()

    def _read_if_changed(self) -> Snapshot | None:
        database = self._current_database()
        (version,) = database.execute("PRAGMA data_version").fetchone()
        now = self._clock()
        if version == self._version and now < self._next_expiry:
            return None
        leases = _stored_leases(database, now, self._complaints) if _is_ours(database, self._path) else []
        self._version = version
        self._next_expiry = min((lease.expires for lease in leases if lease.expires is not None), default=math.inf)
        return Snapshot(tuple(leases))

    def _current_database(self) -> sqlite3.Connection:
        """The connection to the file that is at the path now."""
        inode = self._path.stat().st_ino
        if self._database is None or inode != self._inode:
            self._disconnect()
            self._database = _connect(self._path, "rw", _WATCH_BUSY_SECONDS, check_same_thread=False)
            self._inode = inode
        return self._database

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = self._inode = self._version = None


def _connect(
    path: Path, mode: str, busy_seconds: float = _BUSY_SECONDS, *, check_same_thread: bool = True
) -> sqlite3.Connection:
    """Open `path`: mode `rwc` makes the file, `rw` does not and falls back to reading a write-protected one."""
    uri = f"file:{quote(str(path))}?mode={mode}"
    return sqlite3.connect(
        uri, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=check_same_thread
    )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection that only reads, or None if nothing was stored yet."""
    with _as_store_error(path):
        if not path.exists():
            yield None
            return
        with contextlib.closing(_connect(path, "rw")) as database:
            yield database if _is_ours(database, path) else None


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in a transaction that holds the write lock; committed at the end, undone by an exception."""
    with _as_store_error(path):
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with contextlib.closing(_connect(path, "rwc")) as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                if not _is_ours(database, path):
                    for statement in _SCHEMA:
                        database.execute(statement)
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise


def _is_ours(database: sqlite3.Connection, path: Path) -> bool:
    """True if the database has our tables, False if it is empty; StoreError if it is another program's."""
    (application_id,) = database.execute("PRAGMA application_id").fetchone()
    if application_id == _APPLICATION_ID:
        return True
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        raise StoreError(f"{path} is the database of another program; choose another path for the store")
    return False


def _stored_config(database: sqlite3.Connection) -> str | None:
    row = database.execute("SELECT text FROM config").fetchone()
    return None if row is None else str(row[0])


def _stored_leases(database: sqlite3.Connection, now: float, complaints: Complaints) -> list[Lease]:
    """The readable leases that have not expired, by subnet. A row that somebody broke is said and skipped."""
    ahead = offset(database, now)
    query = "SELECT rowid, key, value, expires FROM leases WHERE expires IS NULL OR expires > ?"
    rows = database.execute(query, (now + ahead,)).fetchall()
    complaints.only({_entry(row) for row in rows})
    leases = [lease for row in rows if (lease := _parse_row(row, ahead, complaints)) is not None]
    return sorted(leases, key=lambda lease: [subnet.network_address.packed for subnet in lease.subnets])


def _stored_lease(database: sqlite3.Connection, key: str, ahead: int, complaints: Complaints) -> Lease | None:
    row = database.execute("SELECT rowid, key, value, expires FROM leases WHERE key = ?", (key,)).fetchone()
    return None if row is None else _parse_row(row, ahead, complaints)


_Row = tuple[int, str, str, float | None]


def _parse_row(row: _Row, ahead: int, complaints: Complaints) -> Lease | None:
    """The lease in a row; `ahead` is the offset of the store's time."""
    rowid, key, value, expires = row
    try:
        deadline = None if expires is None else float(expires)
        lease = Lease(
            Subnets.from_key(str(key)),
            LeaseAttrs.from_json(str(value)),
            None if deadline is None else deadline - ahead,
            since=rowid,
            mark=_mark(deadline),
        )
    except (ConfigError, ValueError) as error:
        complaints.say(_entry(row), str(error))
        return None
    complaints.settled(_entry(row))
    return lease


def _entry(row: _Row) -> str:
    return f"the lease {row[1]!r} in the store"


def _mark(expires: float | None) -> str:
    """Two nodes that write a lease do so at different moments; a reservation has no mark."""
    return "" if expires is None else repr(expires)


@contextlib.contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system report into one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(path, error) from error
    except FileNotFoundError as error:
        raise StoreError(
            f"the store {path} is gone; put it back or start a node that makes it", transient=True
        ) from error
    except OSError as error:
        raise StoreError(
            f"cannot use the store {path}: {error.strerror}; choose another path or make it usable"
        ) from error


def _explain(path: Path, error: sqlite3.Error) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"the store {path} is locked by another process; trying again", transient=True)
    if name.startswith("SQLITE_READONLY"):
        return StoreError(f"cannot write to the store {path}: it is read-only; make it and its directory writable")
    if name.startswith("SQLITE_CANTOPEN"):
        return StoreError(f"cannot open the store {path}; it must be a file in a directory that this user may write to")
    if name.startswith("SQLITE_FULL"):
        return StoreError(f"cannot write to the store {path}: the disk is full; make room", transient=True)
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return StoreError(f"{path} is damaged or no udplane store; move it away and start again")
    return StoreError(f"the store {path} failed: {error}; check the file and its disk", transient=True)
