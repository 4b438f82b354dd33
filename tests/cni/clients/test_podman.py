"""podman with its CNI backend: run, publish a port, ask for an address, and leave nothing behind.

node namespace:  podman -- runc                   container: eth0 10.80.0.x
     cni-podman1 10.80.0.1/24 ---------- veth ----------'
     127.0.0.1:18080 --DNAT--> 10.80.0.x:80
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cni.clients.client_node import ROOTFS, leftovers, prepare_node, require_client
from tests.cni.world.world import Done, World, install_plugins

CONFLIST = {
    "cniVersion": "1.0.0",
    "name": "testnet",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni-podman1",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.80.0.0/24"}]],  # podman looks for a wished address's subnet here
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "firewall"},
        {"type": "tuning", "capabilities": {"mac": True}},
    ],
}
# runc and cgroupfs work without systemd; the limits are those that a container may set without CAP_SYS_RESOURCE.
SETTINGS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require_client("podman", "busybox")
    with World(install_plugins(tmp_path_factory.mktemp("bin"), "--keep-warm", "60")) as world:
        prepare_node(world, CONFLIST)
        world.write("/run/containers.conf", SETTINGS)
        yield world
        podman(world, "rm", "--all", "--force", "--time", "0")


def podman(node: World, *arguments: str) -> Done:
    directories = ("--root", "/run/p/root", "--runroot", "/run/p/run", "--tmpdir", "/run/p/tmp")
    env = {"CONTAINERS_CONF": "/run/containers.conf", "HOME": "/run"}
    return node.run("podman", *directories, "--storage-driver", "vfs", *arguments, env=env)


def podman_run(node: World, *arguments: str) -> str:
    """`podman run` in the test network, which must succeed; its output."""
    done = podman(node, "run", "--network", "testnet", *arguments)
    assert done.exit == 0, done.stderr
    return done.stdout


def test_container_reaches_its_gateway_and_leaves_nothing(node: World) -> None:
    script = "ip -4 addr show eth0; ping -c 2 -W 2 10.80.0.1"
    output = podman_run(node, "--rm", "--rootfs", ROOTFS, "/bin/sh", "-c", script)
    assert "inet 10.80.0." in output
    assert "2 packets received" in output
    assert leftovers(node) == {}


def test_published_port_answers_on_the_host(node: World) -> None:
    server = ("--rootfs", ROOTFS, "/bin/httpd", "-f", "-h", "/www")
    podman_run(node, "--detach", "--name", "web", "--publish", "127.0.0.1:18080:80", *server)
    # httpd may need a moment to listen: ask until it answers, for 10 s at most.
    answer = node.sh("timeout 10 sh -c 'until busybox wget -q -O - http://127.0.0.1:18080/; do :; done'")
    assert answer == "hello\n"
    assert podman(node, "rm", "--force", "--time", "0", "web").exit == 0
    assert leftovers(node) == {}


def test_address_and_mac_asked_for_are_given(node: World) -> None:
    wishes = ("--ip", "10.80.0.77", "--mac-address", "c2:c2:c2:c2:00:77")
    output = podman_run(node, "--rm", *wishes, "--rootfs", ROOTFS, "/bin/ip", "addr", "show", "eth0")
    assert "inet 10.80.0.77/24" in output
    assert "c2:c2:c2:c2:00:77" in output
    assert leftovers(node) == {}
