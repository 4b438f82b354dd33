"""What `udplane flanneld` does to a host, line by line against the record of a host of flanneld (flannel_host.toml)."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.flanneld.host import Host

RECORD: dict[str, Any] = tomllib.loads(Path(__file__).with_name("flannel_host.toml").read_text())


def recorded(part: str) -> list[str]:
    return [line for line in RECORD[part]["lines"].splitlines() if line]


def expected(part: str) -> list[str]:
    """The recorded lines with the intended differences made."""
    lines = recorded(part)
    for difference in RECORD[part].get("intended", []):
        flannel = difference["flannel"]
        (start,) = (i for i in range(len(lines)) if lines[i : i + len(flannel)] == flannel)
        lines[start : start + len(flannel)] = difference["udplane"]
    return lines


def shown(host: Host, part: str) -> list[str]:
    """What the host's tools show, without numbers of devices and the queueing discipline, which are the host's own."""
    lines = host.shown(RECORD[part]["command"])
    return [re.sub(r" qdisc \S+|^\d+: |(?<=proto static)  (?=src)", "", line) for line in lines]


def needs_bridge_filter() -> None:
    if not Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        pytest.skip("flanneld's iptables mode needs br_netfilter: run `sudo modprobe br_netfilter`")


def test_the_host_of_a_node_with_iptables(host: Host) -> None:
    needs_bridge_filter()
    host.configure()
    host.wait_until_ready(host.start("--ip-masq"))
    assert shown(host, "device") == expected("device")
    assert [line for line in shown(host, "routes") if "flannel0" in line] == expected("routes")
    assert host.subnet_file.read_text().splitlines() == expected("subnet_file")
    assert shown(host, "nat") == expected("nat")
    ours = [line for line in shown(host, "filter") if "UDPLANE-" not in line]  # the guard, which flannel has not
    assert ours == expected("filter")
    assert "flannel" not in host.netns.run(["nft", "list", "tables"]).stdout


def test_the_host_of_a_node_with_nftables(host: Host) -> None:
    """The one table says the same, apart from comments and from rule 4, in which flannel's nftables mode errs."""
    host.configure(EnableNFTables=True)
    host.wait_until_ready(host.start("--ip-masq"))
    ours = [re.sub(r' comment "flanneld (masq|forward)"$', "", line) for line in shown(host, "nftables")]
    flannels = [line for line in recorded("nftables") if not line.startswith("comment ")]
    assert ours == [
        {
            "meta mark 0x00004000 return": "meta mark & 0x00004000 == 0x00004000 return",
            "ip saddr != 10.244.0.0/24 ip daddr 10.244.0.0/16 return": (
                "ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/24 return"
            ),
        }.get(line, line)
        for line in flannels
    ]
    assert "FLANNEL" not in host.netns.run(["iptables-save"]).stdout


def test_flags_for_the_rules(host: Host) -> None:
    host.configure(EnableNFTables=True)
    host.wait_until_ready(host.start("--ip-masq", "--ip-masq-fully-random-disable", "--iptables-forward-rules=false"))
    rules = "\n".join(shown(host, "nftables"))
    assert "masquerade" in rules
    assert "fully-random" not in rules
    assert "accept" not in rules.replace("policy accept", "")


def test_rules_of_the_other_mode_are_taken_away(host: Host) -> None:
    """An operator who switches EnableNFTables on and starts anew must not keep both."""
    needs_bridge_filter()
    host.configure()
    daemon = host.start("--ip-masq")
    host.wait_until_ready(daemon)
    assert daemon.stop() == 0
    assert "FLANNEL-POSTRTG" in host.netns.run(["iptables-save"]).stdout
    host.configure(EnableNFTables=True)
    host.wait_until_ready(host.start("--ip-masq"))
    assert "FLANNEL" not in host.netns.run(["iptables-save"]).stdout
    assert "flannel-ipv4" in host.netns.run(["nft", "list", "tables"]).stdout
