"""`udplane flanneld` in the place of a flanneld whose leases are in etcd: the lease it finds, and what it writes.

node1  etcd on 127.0.0.1:2379       eth0 192.168.0.201 --- underlay
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flanneld.host import Host
from tests.stores.etcd_server import EtcdMember, require_etcd

PREFIX = "/coreos.com/network"
CONFIG = {"Network": "10.244.0.0/16", "EnableNFTables": True, "Backend": {"Type": "udp"}}
FLANNELS_VALUE = '{"PublicIP":"192.168.0.201","PublicIPv6":null}'
"""What flannel's udp backend writes: json.Marshal of its LeaseAttrs (pkg/lease/lease.go)."""


class Etcd:
    """The etcd of the drawing, asked from within its namespace."""

    def __init__(self, host: Host, member: EtcdMember) -> None:
        self._host = host
        self._member = member

    def put(self, key: str, value: str, lease: str = "0") -> None:
        self._post("kv/put", {"key": _encoded(PREFIX + key), "value": _encoded(value), "lease": lease})

    def grant(self) -> str:
        """A lease of flannel's 24 hours."""
        return str(self._post("lease/grant", {"TTL": 86400})["ID"])

    def keys(self) -> dict[str, str]:
        """Every subnet's key, without the prefix, and its value."""
        start = f"{PREFIX}/subnets/"
        found = self._post("kv/range", {"key": _encoded(start), "range_end": _encoded(start[:-1] + "0")})
        return {_decoded(kv["key"]).removeprefix(start): _decoded(kv["value"]) for kv in found.get("kvs", [])}

    def _post(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._host.netns.entered():
            return self._member.post(method, body)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


@pytest.fixture
def etcd(host: Host) -> Iterator[Etcd]:
    require_etcd()
    enter = host.netns.command([])
    member = EtcdMember(host.directory, "one", (2379, 2380), "one=http://127.0.0.1:2380", [], "http", enter=enter)
    member.start()
    try:
        with host.netns.entered():
            member.wait()
        etcd = Etcd(host, member)
        etcd.put("/config", json.dumps(CONFIG))
        yield etcd
    finally:
        member.kill()


def test_flannels_lease_is_taken_over_with_its_key_and_value(host: Host, etcd: Etcd) -> None:
    """No flag says where etcd is: of flannel's two default endpoints the first does not answer."""
    etcd.put("/subnets/10.244.7.0-24", FLANNELS_VALUE, etcd.grant())
    host.wait_until_ready(host.start_with("--ip-masq"))
    assert "FLANNEL_SUBNET=10.244.7.1/24" in host.subnet_file.read_text()
    assert etcd.keys() == {"10.244.7.0-24": FLANNELS_VALUE}


def test_the_subnet_file_tells_which_subnet_the_host_had(host: Host, etcd: Etcd) -> None:
    """Its lease may have expired while the host was down."""
    host.subnet_file.write_text("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.9.1/24\nFLANNEL_MTU=1472\n")
    host.environment = {"FLANNELD_ETCD_ENDPOINTS": "http://127.0.0.1:2379"}
    host.wait_until_ready(host.start_with())
    assert etcd.keys() == {"10.244.9.0-24": FLANNELS_VALUE}


def test_a_flannel_node_is_a_peer(host: Host, etcd: Etcd) -> None:
    etcd.put("/subnets/10.244.3.0-24", '{"PublicIP":"192.168.0.202","PublicIPv6":null}', etcd.grant())
    daemon = host.start_with("--etcd-endpoints", "http://127.0.0.1:2379")
    daemon.says("peer added: 10.244.3.0/24 of node 192.168.0.202")
    assert daemon.stop() == 0
