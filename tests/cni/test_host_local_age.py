"""host-local's reservations from before the last boot, and those that somebody has edited in place."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from cni.lib import reservations
from cni.lib.store import read_file
from tests.cni.plugin_calls import failure, success
from tests.cni.test_host_local import FREE, SUBNET, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def next_boot(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the plugin believe that the machine has booted since."""

    def boot() -> None:
        path = tmp_path_factory.mktemp("boot") / "boot_id"
        path.write_text("another boot\n")
        monkeypatch.setattr(reservations, "BOOT_ID", str(path))

    return boot


def test_reservations_of_a_former_boot_are_freed(store: Store, next_boot: Any) -> None:
    store.add("c1")
    (store.dir / "10.1.2.4").write_text("by-the-official-plugin\r\neth0")
    os.utime(store.dir / "10.1.2.4", (0, 0))
    next_boot()
    assert store.add("c1") == ["10.1.2.3"]
    assert store.addresses() == {"10.1.2.3"}


@pytest.fixture
def oldest_in_run(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the plugin believe that the clock showed this time when the machine had just booted."""

    def pretend(seconds: float) -> None:
        real, real_stat = os.lstat, os.stat
        run_dir = tmp_path_factory.mktemp("run")
        (run_dir / "early").touch()
        monkeypatch.setattr(reservations, "RUN_DIR", str(run_dir))

        class Pretended:
            def __getattr__(self, name: str) -> Any:
                return getattr(os, name)

            def stat(self, path: str) -> Any:
                return real_stat("/proc" if path == str(run_dir) else path)  # another file system than /

            def lstat(self, path: str) -> Any:
                status = list(real(path))
                return os.stat_result([*status[:9], seconds])

        monkeypatch.setattr(reservations, "os", Pretended())

    return pretend


def by_the_official_plugin(store: Store, age: float) -> None:
    """Its reservation of every address, this many seconds old."""
    store.dir.mkdir(parents=True)
    for number in range(2, 2 + FREE):
        path = store.dir / f"10.1.2.{number}"
        path.write_text(f"former-{number}\r\neth0")
        os.utime(path, (time.time() - age,) * 2)


def test_a_range_that_the_official_plugin_filled_before_the_boot_is_free(store: Store) -> None:
    """Also at the first use on the node, which may have booted into udplane."""
    by_the_official_plugin(store, age=float((read_file("/proc/uptime") or b"").split()[0]) + 60)
    assert store.add("c1") == ["10.1.2.2"]
    assert store.addresses() == {"10.1.2.2"}


def test_what_the_official_plugin_reserved_in_this_boot_stays(store: Store) -> None:
    by_the_official_plugin(store, age=0)
    assert "no IP addresses available" in failure(store.run("ADD"))["msg"]
    assert len(store.addresses()) == FREE


@pytest.mark.parametrize(("age", "n_left"), [(1_000_000_000, FREE), (1_000_000_020, 0)])
def test_a_clock_that_was_set_since_the_boot_costs_no_pod_its_address(
    store: Store, oldest_in_run: Any, age: float, n_left: int
) -> None:
    """The clock showed a time long ago when the node booted and the official plugin wrote; then it was set right."""
    oldest_in_run(int(time.time()) - 1_000_000_010)
    by_the_official_plugin(store, age)
    assert store.run("STATUS").status == (1 if n_left else 0)
    assert len(store.addresses()) == n_left


def test_reservations_made_since_the_boot_stay(store: Store, next_boot: Any) -> None:
    store.add("c1")
    next_boot()
    (store.dir / "10.1.2.4").write_text("by-the-official-plugin\r\neth0")
    store.add("c2")
    assert store.addresses() == {"10.1.2.3", "10.1.2.4"}


def test_a_store_may_keep_its_reservations_over_a_boot(tmp_path: Path, next_boot: Any) -> None:
    store = Store(tmp_path, subnet=SUBNET, keepReservations=True)
    store.add("c1")
    next_boot()
    store.add("c2")
    assert store.addresses() == {"10.1.2.2", "10.1.2.3"}


@pytest.mark.parametrize("content", ["c2\r\neth0", "c2"], ids=["with interface", "of an old plugin"])
def test_a_file_that_was_edited_in_place_is_its_new_owners(store: Store, content: str) -> None:
    """Writing into a file leaves no trace in the directory that holds it."""
    assert store.add("c1") == ["10.1.2.2"]
    store.add("c3")
    (store.dir / "10.1.2.2").write_text(content)
    assert failure(store.run("CHECK", "c1"))["msg"].endswith("Failed to find address added by container c1")
    success(store.run("CHECK", "c2"))
    store.delete("c1")
    assert store.addresses() == {"10.1.2.2", "10.1.2.3"}
    store.delete("c2")
    assert store.addresses() == {"10.1.2.3"}


@pytest.mark.parametrize("content", ["", "c2\r\neth0"], ids=["emptied", "another's"])
@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_the_index_forgets_whose_file_is_not_its_own_any_more(store: Store, content: str, verb: str) -> None:
    store.add("c1")
    (store.dir / "10.1.2.2").write_text(content)
    if verb == "DEL":
        store.delete("c1")
    else:
        store.collect(("c2", "eth0"))
    index = store.dir.parent / ".udplane" / store.dir.name
    assert "c1@eth0" not in {path.name for path in index.iterdir()}


def test_gc_frees_a_file_that_was_edited_in_place(store: Store) -> None:
    store.add("c1")
    (store.dir / "10.1.2.2").write_text("c2\r\neth0")
    store.collect(("c1", "eth0"))
    assert store.addresses() == set()


def test_one_of_two_files_that_was_edited_in_place_is_given_back_as_well(tmp_path: Path) -> None:
    store = Store(tmp_path, ranges=[[{"subnet": SUBNET}], [{"subnet": "fd00::/64"}]])
    store.add("c1")
    store.add("c2")
    (store.dir / "fd00::2").write_text("c2\r\neth0")
    (store.dir / "fd00::3").unlink()
    store.run("STATUS")
    (store.dir / "fd00::2").write_text("c1\r\neth0")
    (store.dir / "fd00::3").write_text("c1\r\neth0")
    store.delete("c2")
    store.delete("c1")
    assert store.addresses() == set()
