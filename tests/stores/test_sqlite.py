"""The embedded store under races, crashes, and hostile files."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane import clock
from dataplane.errors import ConfigError, LeaseError, LeaseLostError, NoNetworkConfigError, StoreError, UsageError
from dataplane.stores.base import Outage, Snapshot
from dataplane.stores.registry import open_store
from dataplane.stores.sqlite import SqliteStore
from tests.stores.helpers import request, run, until

CONFIG = '{"Network":"10.5.0.0/16"}'
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "store.db"


@pytest.fixture
def store(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    asyncio.run(store.set_network_config(CONFIG))
    return store


def test_the_network_config_is_checked_kept_and_seeded_once(path: Path) -> None:
    async def story() -> None:
        store = open_store(f"sqlite:{path}")
        with pytest.raises(NoNetworkConfigError, match="udplane config set FILE"):
            await store.network_config()
        with pytest.raises(NoNetworkConfigError):
            await store.acquire(request(1))
        with pytest.raises(ConfigError):
            await store.set_network_config("{}")
        assert await store.set_network_config(CONFIG, only_if_absent=True)
        assert not await store.set_network_config('{"Network":"10.6.0.0/16"}', only_if_absent=True)
        assert await store.network_config() == CONFIG
        assert await store.set_network_config('{"Network":"10.7.0.0/16"}')
        assert await store.network_config() == '{"Network":"10.7.0.0/16"}'

    run(story())


def test_a_node_gets_its_subnet_back(store: SqliteStore) -> None:
    async def story() -> None:
        first = await store.acquire(request(1))
        assert (await store.acquire(request(1, previous="10.5.77.0/24"))).subnets == first.subnets
        await store.release(first)
        assert await store.leases() == []
        previous = await store.acquire(request(1, previous="10.5.77.0/24"))
        assert str(previous.subnets) == "10.5.77.0/24"
        other = await store.acquire(request(2, previous="10.5.77.0/24"))
        assert other.subnets != previous.subnets
        assert [lease.key for lease in await store.leases()] == sorted(
            [previous.key, other.key], key=lambda key: int(key.split(".")[2])
        )

    run(story())


def test_a_lease_that_does_not_fit_a_new_config_is_replaced(store: SqliteStore) -> None:
    async def story() -> None:
        await store.acquire(request(1))
        await store.set_network_config('{"Network":"10.6.0.0/16","SubnetLen":26}')
        lease = await store.acquire(request(1))
        assert lease.subnets.ipv4 is not None
        assert lease.subnets.ipv4.prefixlen == 26
        assert await store.leases() == [lease]

    run(story())


def test_both_families_are_leased_together(path: Path) -> None:
    async def story() -> None:
        store = SqliteStore(path)
        await store.set_network_config('{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}')
        lease = await store.acquire(request(1))
        assert lease.subnets.ipv6 is not None
        assert await store.leases() == [lease]

    run(story())


def test_a_node_that_changes_its_public_ip_keeps_its_lease(store: SqliteStore) -> None:
    async def story() -> None:
        lease = await store.acquire(request(1))
        moved = await store.renew(lease, replace(lease.attrs, public_ip=IPv4Address("192.168.0.99")))
        assert await store.leases() == [moved]
        assert (await store.acquire(request(99))).subnets == lease.subnets
        with pytest.raises(LeaseLostError, match=r"belongs to .* 192.168.0.99"):
            await store.renew(lease)
        await store.release(lease)
        assert len(await store.leases()) == 1

    run(story())


def test_reservations_stay_reservations(store: SqliteStore, path: Path) -> None:
    async def story() -> None:
        lease = await store.acquire(request(1))
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE leases SET expires = NULL")
        reserved = replace(lease, expires=None)
        assert await store.acquire(request(1)) == reserved
        assert await store.renew(reserved) == reserved
        await store.release(reserved)
        assert await store.leases() == [reserved]

    run(story())


def test_an_exhausted_network_is_one_line(path: Path) -> None:
    async def story() -> None:
        store = SqliteStore(path)
        await store.set_network_config('{"Network":"10.5.0.0/24"}')
        for host in (1, 2, 3):
            await store.acquire(request(host))
        with pytest.raises(LeaseError, match=r"all 3 subnets of 10.5.0.0/24 are taken; release a lease"):
            await store.acquire(request(4))

    run(story())


def test_two_hundred_processes_at_once_get_two_hundred_subnets(store: SqliteStore, path: Path) -> None:
    script = Path(__file__).with_name("acquire_at_once.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-I", script, f"sqlite:{path}", "200"],
        env=environment,
        capture_output=True,
        check=True,
        timeout=120,
    )
    keys = json.loads(result.stdout)
    assert len(keys) == 200
    leases = asyncio.run(store.leases())
    assert sorted(lease.key for lease in leases) == sorted(keys)
    assert len(set(keys)) == 200
    assert len({lease.attrs.public_ip for lease in leases}) == 200


def test_a_writer_that_dies_half_way_leaves_no_trace(store: SqliteStore, path: Path) -> None:
    lease = asyncio.run(store.acquire(request(1)))
    child = os.fork()
    if child == 0:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("PRAGMA cache_size = 1")  # so that changed pages reach the file before any commit
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE leases SET value = 'half'")
        for number in range(2000):
            database.execute("INSERT INTO leases VALUES (?, ?, 0)", (f"key {number}", "x" * 200))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.with_name("store.db-journal").stat().st_size > 0
    assert asyncio.run(store.leases()) == [lease]
    asyncio.run(store.acquire(request(2)))


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may write to read-only files; other users may not."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except OSError:
        pytest.skip("needs a second user, which a user namespace does not have: run as root or without privileges")
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_file_can_be_read_and_is_said() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        store = SqliteStore(path)
        asyncio.run(store.set_network_config(CONFIG))
        lease = asyncio.run(store.acquire(request(1)))
        path.chmod(0o444)
        Path(directory).chmod(0o555)
        try:
            with as_ordinary_user():
                assert asyncio.run(store.network_config()) == CONFIG
                assert asyncio.run(store.leases()) == [lease]
                with pytest.raises(StoreError, match="it is read-only; make it and its directory writable") as caught:
                    asyncio.run(store.acquire(request(2)))
                assert not caught.value.transient
                with pytest.raises(StoreError, match="cannot open the store"):
                    asyncio.run(SqliteStore(Path(directory) / "new.db").set_network_config(CONFIG))
        finally:
            Path(directory).chmod(0o755)


def damage_nothing_there(path: Path) -> None:
    path.mkdir()


def damage_text(path: Path) -> None:
    path.write_text("this is no database, whatever its name says\n" * 100)


def damage_pages(path: Path) -> None:
    asyncio.run(SqliteStore(path).set_network_config(CONFIG))
    data = bytearray(path.read_bytes())
    data[100:] = b"\xa5" * (len(data) - 100)
    path.write_bytes(data)


def damage_foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE recipes (name TEXT)")


@pytest.mark.parametrize("damage", [damage_nothing_there, damage_text, damage_pages, damage_foreign])
def test_a_file_that_is_no_store_is_one_line_and_left_alone(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "store.db"
    assert callable(damage)
    damage(path)
    before = path.read_bytes() if path.is_file() else None
    store = SqliteStore(path)
    for call in (store.leases(), store.acquire(request(1)), store.set_network_config(CONFIG)):
        with pytest.raises(StoreError, match="store") as caught:
            asyncio.run(call)
        assert str(path) in str(caught.value)
        assert not caught.value.transient
    assert (path.read_bytes() if path.is_file() else None) == before


def test_rows_that_somebody_broke_are_said_and_skipped(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lease = asyncio.run(store.acquire(request(1)))
    rows = [("nonsense", "{}", None), ("10.5.200.0-24", "{", None), ("10.5.201.0-24", lease.attrs.to_json(), "soon")]
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.executemany("INSERT INTO leases VALUES (?, ?, ?)", rows)
    assert asyncio.run(store.leases()) == [lease]
    assert [key in caplog.text for key, _, _ in rows] == [True, True, True]


def test_an_empty_file_is_a_new_store(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    store = SqliteStore(path)
    assert asyncio.run(store.leases()) == []
    assert asyncio.run(store.set_network_config(CONFIG))


def test_a_url_without_a_path_or_with_an_unknown_scheme_is_wrong_usage() -> None:
    for url in ("sqlite:", "mysql://host", "store.db", ""):
        with pytest.raises(UsageError, match=r"sqlite:/run/udplane/store\.db"):
            open_store(url)


def test_the_watch_sees_what_other_processes_do(store: SqliteStore) -> None:
    async def story() -> None:
        async with contextlib.aclosing(store.watch()) as watch:
            assert await anext(watch) == Snapshot(())
            one = await store.acquire(request(1))
            assert await anext(watch) == Snapshot((one,))
            two = await store.acquire(request(2))
            await until(watch, lambda update: isinstance(update, Snapshot) and set(update.leases) == {one, two})
            await store.release(one)
            assert await anext(watch) == Snapshot((two,))

    run(story())


def test_the_watch_sees_a_lease_expire_although_nobody_writes(path: Path) -> None:
    now = 1000.0

    async def story() -> None:
        nonlocal now
        store = SqliteStore(path, lease_seconds=60, clock=lambda: now)
        await store.set_network_config(CONFIG)
        early = await store.acquire(request(1))
        now += 30
        late = await store.acquire(request(2))
        async with contextlib.aclosing(store.watch()) as watch:
            first = await anext(watch)
            assert isinstance(first, Snapshot)
            assert set(first.leases) == {early, late}
            now += 30
            assert await anext(watch) == Snapshot((late,))
            now += 30
            assert await anext(watch) == Snapshot(())

    run(story())


def test_the_watch_lives_through_a_store_that_goes_away_and_comes_back(store: SqliteStore, path: Path) -> None:
    async def story() -> None:
        lease = await store.acquire(request(1))
        aside = path.with_name("aside.db")
        async with contextlib.aclosing(store.watch()) as watch:
            assert await anext(watch) == Snapshot((lease,))
            path.rename(aside)
            outage = await until(watch, lambda update: isinstance(update, Outage))
            assert isinstance(outage, Outage)
            assert "is gone" in str(outage.error)
            aside.rename(path)
            assert await anext(watch) == Snapshot((lease,))
            path.unlink()
            await store.set_network_config(CONFIG)
            await until(watch, lambda update: update == Snapshot(()))

    run(story())


def test_a_watch_of_a_store_that_is_not_there_waits_for_it(path: Path) -> None:
    async def story() -> None:
        store = SqliteStore(path)
        async with contextlib.aclosing(store.watch()) as watch:
            assert isinstance(await anext(watch), Outage)
            await store.set_network_config(CONFIG)
            await until(watch, lambda update: update == Snapshot(()))

    run(story())


@pytest.mark.parametrize("step", [600.0, -600.0, 10 * 86400.0, -50 * 365 * 86400.0])
def test_setting_the_time_of_day_makes_no_lease_live_longer_or_shorter(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    now = 1000.0

    async def story() -> None:
        nonlocal now
        one, other = (SqliteStore(path, lease_seconds=60, clock=lambda: now) for _ in range(2))
        await one.set_network_config(CONFIG)
        lease = await one.acquire(request(1))
        assert lease.expires == 1060.0
        of_day = time.time()
        monkeypatch.setattr(time, "time", lambda: of_day + step)
        assert await other.leases() == [lease]
        second = await other.acquire(request(2))
        assert second.expires == 1060.0
        assert sorted(item.key for item in await other.leases()) == sorted((lease.key, second.key))
        now += 59
        assert len(await one.leases()) == 2
        now += 1
        assert await one.leases() == []

    run(story())


def test_over_a_reboot_deadlines_go_on_and_the_stores_time_never_goes_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    async def story() -> None:
        nonlocal now
        store = SqliteStore(path, lease_seconds=86400, clock=lambda: now)
        await store.set_network_config(CONFIG)
        lease = await store.acquire(request(1))
        now = 5.0
        monkeypatch.setattr(clock, "boot_id", lambda: "another start")
        for of_day, left in ((time.time() + 3600, 82800), (0.0, 86400)):  # the second: its clock has no battery
            monkeypatch.setattr(time, "time", lambda of_day=of_day: of_day)
            (found,) = await store.leases()
            assert found.key == lease.key
            assert found.expires is not None
            assert found.expires - now == pytest.approx(left, abs=2)
        renewed = await store.renew(found)
        assert renewed.expires == 86405.0
        assert await store.leases() == [renewed]

    run(story())


def test_the_order_in_which_leases_were_made_survives_renewals(store: SqliteStore) -> None:
    async def story() -> None:
        first, second = await store.acquire(request(1)), await store.acquire(request(2))
        await store.renew(second)
        await store.renew(first)
        by_age = sorted(await store.leases(), key=lambda lease: lease.since)
        assert [lease.key for lease in by_age] == [first.key, second.key]

    run(story())


def test_a_node_whose_address_has_changed_gets_back_the_lease_that_nobody_else_took(store: SqliteStore) -> None:
    async def story() -> None:
        held = await store.acquire(request(1))
        moved = replace(request(9), previous=held.subnets, held=held)
        lease = await store.acquire(moved)
        assert (lease.key, lease.attrs) == (held.key, moved.attrs)
        taken = await store.acquire(replace(request(1, previous=str(held.subnets)), held=held))  # too late by now
        assert taken.key != held.key
        assert len(await store.leases()) == 2

    run(story())
