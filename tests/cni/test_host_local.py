"""host-local on a directory of its own. The official layout of the state is the contract; see cni.lib.reservations."""

from __future__ import annotations

import shutil
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cni.lib import reservations
from cni.lib.store import read_file
from tests.cni.plugin_calls import call, failure, success

SUBNET = "10.1.2.0/29"
FREE = 5  # .2 to .6; .1 is the gateway


class Store:
    """One network's reservations, used through the plugin."""

    def __init__(self, data_dir: Path, **ipam: Any) -> None:
        self.data_dir = data_dir
        self.dir = data_dir / "n1"
        self.ipam = {"type": "host-local", "dataDir": str(data_dir)} | (ipam or {"ranges": [[{"subnet": SUBNET}]]})

    def conf(self, **more: Any) -> dict[str, Any]:
        return {"cniVersion": "1.1.0", "name": "n1", "ipam": self.ipam} | more

    def run(self, verb: str, container: str = "c1", ifname: str = "eth0", **more: Any) -> Any:
        overrides = {"CNI_ARGS": more.pop("cni_args", "")}
        conf = self.conf(**more)
        return call("host-local", verb, conf, CNI_CONTAINERID=container, CNI_IFNAME=ifname, **overrides)

    def add(self, container: str = "c1", ifname: str = "eth0", **more: Any) -> list[str]:
        return [ip["address"].partition("/")[0] for ip in success(self.run("ADD", container, ifname, **more))["ips"]]

    def delete(self, container: str = "c1", ifname: str = "eth0") -> None:
        assert success(self.run("DEL", container, ifname)) == {}

    def collect(self, *alive: tuple[str, str]) -> None:
        valid = [{"containerID": container, "ifname": ifname} for container, ifname in alive]
        more: dict[str, Any] = {"cni.dev/valid-attachments": valid}
        assert success(self.run("GC", **more)) == {}

    def files(self) -> dict[str, str]:
        return {path.name: path.read_bytes().decode() for path in self.dir.iterdir()}

    def addresses(self) -> set[str]:
        return {name for name in self.files() if name != "lock" and not name.startswith("last_reserved_ip")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_state_is_laid_out_as_the_official_plugin_expects(store: Store) -> None:
    assert store.add("c1") == ["10.1.2.2"]
    assert store.add("c2", "net1") == ["10.1.2.3"]
    assert store.files() == {
        "lock": "",
        "last_reserved_ip.0": "10.1.2.3",
        "10.1.2.2": "c1\r\neth0",
        "10.1.2.3": "c2\r\nnet1",
    }
    assert (store.dir / "lock").stat().st_mode & 0o777 == 0o750
    assert (store.dir / "10.1.2.2").stat().st_mode & 0o777 == 0o600


def test_result_names_gateway_routes_and_dns(tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("# comment\nnameserver 1.1.1.1\ndomain d\nsearch a b\noptions ndots:5\nnameserver\n")
    ranges = [[{"subnet": SUBNET}], [{"subnet": "fd00::/64", "gateway": "fd00::ff"}]]
    store = Store(tmp_path / "data", ranges=ranges, routes=[{"dst": "0.0.0.0/0"}], resolvConf=str(resolv_conf))
    result = success(store.run("ADD"))
    assert result == {
        "cniVersion": "1.1.0",
        "ips": [
            {"address": "10.1.2.2/29", "gateway": "10.1.2.1"},
            {"address": "fd00::1/64", "gateway": "fd00::ff"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["1.1.1.1"], "domain": "d", "search": ["a", "b"], "options": ["ndots:5"]},
    }


def test_a_freed_address_rests_until_the_others_had_their_turn(store: Store) -> None:
    first = store.add("c1")
    store.delete("c1")
    turn = [store.add(f"c{i}")[0] for i in range(2, 2 + FREE)]
    assert turn.index(first[0]) == FREE - 1


def test_a_full_range_says_so_and_status_too(store: Store) -> None:
    for i in range(FREE):
        assert success(store.run("STATUS")) == {}
        store.add(f"c{i}")
    text = "no IP addresses available in range set: 10.1.2.1-10.1.2.6"
    assert failure(store.run("ADD", "late")) == {"code": 999, "msg": f"failed to allocate for range 0: {text}"}
    assert failure(store.run("STATUS")) == {"code": 50, "msg": text}
    store.delete("c0")
    assert success(store.run("STATUS")) == {}
    assert store.add("late")


def test_one_attachment_gets_one_address(store: Store) -> None:
    store.add("c1")
    msg = "failed to allocate for range 0: 10.1.2.2 has been allocated to c1, duplicate allocation is not allowed"
    assert failure(store.run("ADD", "c1"))["msg"] == msg
    assert store.addresses() == {"10.1.2.2"}
    assert store.add("c1", "eth1") == ["10.1.2.3"]


@pytest.mark.parametrize(
    ("more", "cni_args"),
    [
        ({}, "IP=10.1.2.5"),
        ({}, "IP=10.1.2.5/24"),
        ({"runtimeConfig": {"ips": ["10.1.2.5/29"]}}, ""),
        ({"args": {"cni": {"ips": ["10.1.2.5"]}}}, ""),
    ],
)
def test_a_wish_for_an_address(store: Store, more: dict[str, Any], cni_args: str) -> None:
    assert store.add(**more, cni_args=cni_args) == ["10.1.2.5"]


@pytest.mark.parametrize(
    ("wish", "msg"),
    [
        ("10.1.2.1", "failed to allocate for range 0: requested ip 10.1.2.1 is subnet's gateway"),
        (
            "10.1.2.2",
            (
                "failed to allocate for range 0: "
                "requested IP address 10.1.2.2 is not available in range set 10.1.2.1-10.1.2.6"
            ),
        ),
        ("10.9.9.9", "failed to allocate all requested IPs: 10.9.9.9"),
        ("x", 'ARGS: error parsing value of pair "IP=x": invalid IP address x'),
    ],
)
def test_a_wish_that_cannot_be_granted_leaves_nothing(store: Store, wish: str, msg: str) -> None:
    store.add("c1")
    assert failure(store.run("ADD", "c2", cni_args=f"IP={wish}"))["msg"] == msg
    assert store.addresses() == {"10.1.2.2"}


def test_all_sets_or_none(tmp_path: Path) -> None:
    ranges = [[{"subnet": SUBNET}], [{"subnet": "10.1.3.0/30"}]]
    store = Store(tmp_path, ranges=ranges)
    assert store.add("c1") == ["10.1.2.2", "10.1.3.2"]
    assert failure(store.run("ADD", "c2"))["msg"].startswith("failed to allocate for range 1: no IP addresses")
    assert store.addresses() == {"10.1.2.2", "10.1.3.2"}


@pytest.mark.parametrize(
    ("ipam", "msg"),
    [
        ({"x": 1}, "no IP ranges specified"),
        ({"ranges": [[]]}, "invalid range set 0: empty range set"),
        ({"subnet": "10.1.2.0/31"}, "invalid range set 0: Network 10.1.2.0/31 too small to allocate from"),
        (
            {"subnet": "10.1.2.1/24"},
            (
                "invalid range set 0: Network has host bits set. "
                "For a subnet mask of length 24 the network address is 10.1.2.0"
            ),
        ),
        ({"subnet": "x"}, "invalid CIDR address: x"),
        ({"ranges": [[{}]]}, "invalid range set 0: IP <nil> not v4 nor v6"),
        (
            {"subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1"},
            "invalid range set 0: RangeStart 10.1.3.1 not in network 10.1.2.0/24",
        ),
        (
            {"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.5"},
            "invalid range set 0: RangeStart 10.1.2.9 not in network 10.1.2.0/24",
        ),
        (
            {"subnet": "10.1.2.0/24", "rangeEnd": "10.1.3.1"},
            "invalid range set 0: RangeEnd 10.1.3.1 not in network 10.1.2.0/24",
        ),
        (
            {"ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "fd00::/64"}]]},
            "invalid range set 0: mixed address families",
        ),
        (
            {"ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "10.1.0.0/16"}]]},
            "invalid range set 0: subnets 10.1.2.1-10.1.2.254 and 10.1.0.1-10.1.255.254 overlap",
        ),
        (
            {"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.0.0/16"}]]},
            "range set 0 overlaps with 1",
        ),
        (
            {"ranges": [[5]]},
            "json: cannot unmarshal number into Go struct field IPAMConfig.ipam.ranges of type allocator.Range",
        ),
    ],
)
def test_unusable_ranges(tmp_path: Path, ipam: dict[str, Any], msg: str) -> None:
    assert failure(Store(tmp_path, **ipam).run("ADD")) == {"code": 999, "msg": msg}


def test_del_knows_only_its_own_and_may_come_any_number_of_times(store: Store) -> None:
    store.add("c1")
    store.add("c2")
    for _ in range(3):
        store.delete("c1")
        store.delete("never-added")
    assert store.addresses() == {"10.1.2.3"}


@pytest.mark.parametrize("routes", [[{}], [{"dst": "everywhere"}], {}])
def test_whatever_has_become_of_the_routes_an_address_is_given_back(store: Store, routes: Any) -> None:
    store.add()
    store.ipam["routes"] = routes
    failure(store.run("STATUS"))
    failure(store.run("ADD", "c2"))
    assert store.addresses() == {"10.1.2.2"}
    store.delete()
    assert store.addresses() == set()


@pytest.mark.parametrize("verb", ["DEL", "CHECK", "GC", "STATUS"])
def test_only_add_makes_a_store(store: Store, verb: str) -> None:
    more: dict[str, Any] = {"cni.dev/valid-attachments": []}
    store.run(verb, **more)
    assert not store.dir.exists()


def test_reservations_of_plugins_of_old_carry_the_container_alone(store: Store) -> None:
    store.add("c1")
    (store.dir / "10.1.2.4").write_text("old")
    assert success(store.run("CHECK", "old")) == {}
    store.delete("old")
    assert store.addresses() == {"10.1.2.2"}


def test_check(store: Store) -> None:
    store.add("c1")
    assert success(store.run("CHECK", "c1")) == {}
    (store.dir / "10.1.2.2").unlink()
    assert failure(store.run("CHECK", "c1"))["msg"] == "host-local: Failed to find address added by container c1"


def test_gc_frees_what_no_live_attachment_holds(store: Store) -> None:
    for container, ifname in (("c1", "eth0"), ("c1", "eth1"), ("c2", "eth0")):
        store.add(container, ifname)
    (store.dir / "10.1.2.5").write_text("old")
    store.collect(("c1", "eth0"), ("old", "eth0"))
    assert store.addresses() == {"10.1.2.2", "10.1.2.5"}
    assert success(store.run("GC")) == {}
    assert store.addresses() == {"10.1.2.2", "10.1.2.5"}
    store.collect()
    assert store.addresses() == set()
    assert {"lock", "last_reserved_ip.0"} <= set(store.files())


@pytest.mark.parametrize("torn", [b"", b"\0\0\0\0", b"\r\n"])
def test_a_file_that_a_crash_left_without_content_is_free(store: Store, torn: bytes) -> None:
    store.add("c1")
    for i in range(3, 7):
        (store.dir / f"10.1.2.{i}").write_bytes(torn)
    assert len({store.add(f"c{i}")[0] for i in range(2, 2 + FREE - 1)}) == FREE - 1


def test_a_reservation_that_lost_its_content_is_given_back_by_its_owner(store: Store) -> None:
    store.add("c1")
    (store.dir / "10.1.2.2").write_bytes(b"")
    store.delete("c1")
    assert store.addresses() == set()


@pytest.mark.parametrize("content", [b"", b"garbage", b"10.9.9.9", b"\xff"])
def test_an_unreadable_last_address_starts_the_search_anew(store: Store, content: bytes) -> None:
    store.add("c1")
    (store.dir / "last_reserved_ip.0").write_bytes(content)
    assert store.add("c2") == ["10.1.2.3"]


def test_what_the_official_plugin_writes_meanwhile_is_noticed(store: Store) -> None:
    store.add("c1")
    (store.dir / "10.1.2.3").write_text("c2\r\neth0")
    (store.dir / "last_reserved_ip.0").write_text("10.1.2.3")
    assert "duplicate allocation" in failure(store.run("ADD", "c2"))["msg"]
    assert store.add("c3") == ["10.1.2.4"]
    store.delete("c2")
    assert store.addresses() == {"10.1.2.2", "10.1.2.4"}


def test_the_index_may_be_lost(store: Store) -> None:
    store.add("c1")
    shutil.rmtree(store.data_dir / ".udplane")
    assert "duplicate allocation" in failure(store.run("ADD", "c1"))["msg"]
    store.delete("c1")
    assert store.addresses() == set()


def test_a_verb_does_not_read_the_reservations_of_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What 5,000 reservations cost is what 5 cost: the number of files that are read does not depend on them."""
    opened: list[str] = []

    def noting_read_file(path: str) -> bytes | None:
        opened.append(path)
        return read_file(path)

    monkeypatch.setattr(reservations, "read_file", noting_read_file)
    store.ipam["ranges"] = [[{"subnet": "10.1.0.0/16"}]]
    costs = []
    for container in range(20):
        opened.clear()
        store.add(f"c{container}")
        costs.append(len(opened))
    assert costs[1] == costs[-1]
    opened.clear()
    store.delete("c7")
    assert not [path for path in opened if path.endswith(("/10.1.0.2", "/10.1.0.20"))]


def test_a_very_long_container_id(store: Store) -> None:
    container = "c" * 250
    store.add(container)
    assert "duplicate allocation" in failure(store.run("ADD", container))["msg"]
    store.delete(container)
    assert store.addresses() == set()


def allocate_many(data_dir: str, worker: int, count: int) -> list[str]:
    store = Store(Path(data_dir), ranges=[[{"subnet": "10.2.0.0/16"}]])
    return [store.add(f"w{worker}-{i}")[0] for i in range(count)]


def test_processes_in_parallel_never_share_an_address(tmp_path: Path) -> None:
    with get_context("fork").Pool(4) as pool:
        given = pool.starmap(allocate_many, [(str(tmp_path), worker, 25) for worker in range(4)])
    addresses = [address for part in given for address in part]
    assert len(set(addresses)) == len(addresses) == 100


class HostLocalMachine(RuleBasedStateMachine):
    """Any order of verbs, with crashes and the official plugin in between, against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.store = Store(self.root)
        self.model: dict[str, str] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @rule(container=st.sampled_from("abcdefg"))
    def add(self, container: str) -> None:
        outcome = self.store.run("ADD", container)
        if container in self.model or len(self.model) == FREE:
            failure(outcome)
            return
        address = success(outcome)["ips"][0]["address"].partition("/")[0]
        assert address not in self.model.values()
        self.model[container] = address

    @rule(container=st.sampled_from("abcdefg"))
    def delete(self, container: str) -> None:
        self.store.delete(container)
        self.model.pop(container, None)

    @rule(alive=st.sets(st.sampled_from("abcdefg")))
    def collect(self, alive: set[str]) -> None:
        self.store.collect(*((container, "eth0") for container in alive))
        self.model = {container: ip for container, ip in self.model.items() if container in alive}

    @precondition(lambda self: len(self.model) < FREE and self.store.dir.exists())
    @rule(container=st.sampled_from("abcdefg"), last=st.integers(2, 6))
    def official_add(self, container: str, last: int) -> None:
        address = f"10.1.2.{last}"
        if container not in self.model and address not in self.model.values():
            (self.store.dir / address).write_text(f"{container}\r\neth0")
            (self.store.dir / "last_reserved_ip.0").write_text(address)
            self.model[container] = address

    @precondition(lambda self: self.store.dir.exists())
    @rule(last=st.integers(2, 6))
    def crash_between_create_and_write(self, last: int) -> None:
        address = f"10.1.2.{last}"
        if address not in self.model.values():
            (self.store.dir / address).touch()

    @invariant()
    def files_are_those_of_the_model(self) -> None:
        if self.store.dir.exists():
            held = {name: content for name, content in self.store.files().items() if name in self.store.addresses()}
            assert {name: text for name, text in held.items() if text} == {
                address: f"{container}\r\neth0" for container, address in self.model.items()
            }


TestHostLocalMachine = HostLocalMachine.TestCase
TestHostLocalMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
