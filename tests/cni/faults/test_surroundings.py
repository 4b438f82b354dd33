"""A node that fails or changes under the plugins: disks, delegates, foreign rules, the bridge, a reboot.

    node: /var/lib/cni on a disk of its own        cni0        pod p1: eth0
          full, read-only                          down, re-addressed
          ip nat of someone else                   CNI_PATH without host-local
                                                   another boot ID

Whatever ADD says to it, one DEL afterwards leaves the node as it was before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cni.faults.chain import CHAINS, Chain, settle, state_of
from tests.cni.world.state import State, differences
from tests.cni.world.world import Done, World

FreshChain = Callable[[str], Chain]
STATE = "/var/lib/cni"
RESERVATIONS = f"{STATE}/networks/net1"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
FOREIGN_TABLE = """
table ip nat {
    map ports {
        type inet_service : ipv4_addr
        elements = { 81 : 203.0.113.1 }
    }
    chain mine {
        type nat hook prerouting priority -90
        meta mark set 7 dnat to tcp dport map @ports
    }
}
"""


def assert_failed_cleanly(done: Done) -> None:
    """ADD ended with one error object."""
    assert done.exit == 1
    assert done.json["code"] > 0


def assert_unchanged(before: State, node: World) -> None:
    assert differences(before, state_of(node)) == {}


@pytest.mark.parametrize("name", CHAINS)
def test_full_disk(name: str, node: World, fresh_chain: FreshChain) -> None:
    """A disk on which one file after the other still finds room, until ADD succeeds."""
    fresh_chain(name)
    for inodes in range(2, 40):
        node.sh(f"mount -t tmpfs -o size=1m,nr_inodes={inodes} disk {STATE}")
        chain = fresh_chain(name)
        added = chain.add()
        deleted = chain.delete()
        left = state_of(node)
        node.sh(f"umount {STATE}")
        assert deleted.exit == 0, deleted.stdout
        assert no_pod(left)
        if added.exit == 0:
            break
        assert_failed_cleanly(added)
    else:
        pytest.fail("ADD never succeeded")
    assert inodes > 2, "the disk was never full"


def no_pod(state: State) -> bool:
    """Whether no link, rule or file of a pod is there."""
    return not any(
        "container-p1" in f"{path} {value}" or "veth(" in path or "eth0" in path for path, value in state.items()
    )


@pytest.mark.parametrize("name", CHAINS)
def test_no_space_for_content(name: str, node: World, fresh_chain: FreshChain) -> None:
    """Files can be made, but nothing can be written into them."""
    before = settle(fresh_chain(name), node)
    node.sh(f"mount -t tmpfs -o size=16k disk {STATE}; ! head -c 1m /dev/zero > {STATE}/filler 2>/dev/null")
    chain = Chain(node, *CHAINS[name])
    assert_failed_cleanly(chain.add())
    assert chain.delete().exit == 0
    node.sh(f"umount {STATE}")
    assert_unchanged(before, node)


@pytest.mark.parametrize("name", CHAINS)
def test_read_only_disk(name: str, node: World, fresh_chain: FreshChain) -> None:
    chain = fresh_chain(name)
    before = settle(chain, node)
    node.sh(f"mount --bind {STATE} {STATE}; mount -o remount,bind,ro {STATE}")
    assert_failed_cleanly(chain.add())
    chain.delete()
    node.sh(f"umount {STATE}")
    assert chain.delete().exit == 0
    assert_unchanged(before, node)


@pytest.mark.parametrize("name", CHAINS)
def test_missing_delegate(name: str, node: World, fresh_chain: FreshChain) -> None:
    """CNI_PATH leads nowhere at ADD; at DEL, after an ADD that went well, it does so once and then not again."""
    chain = fresh_chain(name)
    before = settle(chain, node)
    first = chain.kinds[0]
    assert_failed_cleanly(chain.call("ADD", first, CNI_PATH="/nowhere"))
    chain.delete()
    assert_unchanged(before, node)
    assert chain.add().exit == 0
    failed = chain.call("DEL", first, CNI_PATH="/nowhere")
    assert "failed to find plugin" in failed.json["msg"]
    assert chain.delete().exit == 0
    assert_unchanged(before, node)


@pytest.mark.parametrize("name", ["flannel", "bridge", "ptp"])
def test_foreign_table_that_iptables_cannot_read(name: str, node: World, fresh_chain: FreshChain) -> None:
    chain = fresh_chain(name)
    node.write("/run/foreign.nft", FOREIGN_TABLE)
    node.sh("nft -f /run/foreign.nft")
    before = foreign_rules(node)
    added = chain.add()
    assert added.exit == 0, added.stdout
    assert chain.delete().exit == 0
    after = state_of(node)
    assert no_pod(after)
    assert foreign_rules(node) == before


def foreign_rules(node: World) -> str:
    return node.sh("nft list chain ip nat mine; nft list map ip nat ports")


def test_bridge_that_was_taken_down_comes_up(node: World, fresh_chain: FreshChain) -> None:
    chain = fresh_chain("flannel")
    before = settle(chain, node)
    node.sh("ip link set cni0 down")
    assert chain.add().exit == 0
    assert node.run("ping", "-c", "1", "-W", "2", "10.78.5.1", pod="p1").exit == 0
    assert chain.delete().exit == 0
    assert_unchanged(before, node)


def test_bridge_without_pods_follows_the_nodes_new_subnet(node: World, fresh_chain: FreshChain) -> None:
    chain = fresh_chain("flannel")
    settle(chain, node)
    node.write_subnet_env("10.78.6.1/24")
    added = chain.add()
    assert added.exit == 0, added.stdout
    assert added.json["ips"][0]["gateway"] == "10.78.6.1"
    assert "10.78.5.1" not in node.sh("ip -4 addr show cni0")
    assert chain.delete().exit == 0


def test_bridge_in_use_keeps_its_address_and_add_fails_cleanly(node: World, fresh_chain: FreshChain) -> None:
    chain = fresh_chain("flannel")
    before = settle(chain, node)
    assert chain.add().exit == 0
    node.write_subnet_env("10.78.6.1/24")
    node.ask("pod", name="p2")
    other: dict[str, Any] = {"CNI_CONTAINERID": "container-p2", "CNI_NETNS": "/run/netns/p2"}
    refused = chain.call("ADD", "flannel", **other)
    assert "already has an IP address different from" in refused.json["msg"]
    assert chain.call("DEL", "flannel", **other).exit == 0
    node.write_subnet_env()
    assert chain.delete().exit == 0
    assert_unchanged(before, node)


def test_reservations_of_a_former_boot_are_free(node: World, fresh_chain: FreshChain) -> None:
    """All addresses are reserved when the node reboots, which takes the pods and not the files; ADD gets one."""
    small = {"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.9.0.0/29"}}
    fresh_chain("bridge")
    chain = Chain(node, small)
    settle(chain, node)
    for number in range(2, 7):
        reserved = node.plugin("host-local", "ADD", {"cniVersion": "1.1.0", "name": "net1", **small},
                               {"CNI_CONTAINERID": f"former-{number}"})  # fmt: skip
        assert reserved.exit == 0
    assert "no IP addresses available" in chain.add().json["msg"]
    reboot(node)
    try:
        assert chain.add().exit == 0
        assert chain.delete().exit == 0
        assert node.sh(f"cd {RESERVATIONS}; ls").split() == ["last_reserved_ip.0", "lock"]
    finally:
        node.sh(f"umount {BOOT_ID}")


def reboot(node: World) -> None:
    """Give the node another boot ID; the state files are older than that boot."""
    node.sh(f"find {STATE} -exec touch -h -d '2 days ago' {{}} +")
    node.write("/run/boot_id", "01234567-89ab-cdef-0123-456789abcdef\n")
    node.sh(f"mount --bind /run/boot_id {BOOT_ID}")
