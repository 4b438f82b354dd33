"""What goes wrong on a site: each piece of mischief is a context, which is over at its end."""

import contextlib
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from dataplane.lab.netns import LabError
from tests.chaos.site import Site

Mischief = Callable[[Site, random.Random], AbstractContextManager[object]]


def pick(site: Site, rng: random.Random) -> int:
    """The number of a node."""
    return rng.randrange(len(site.daemons))


def sh(site: Site, number: int, command: str) -> None:
    """Run a shell command line on a node; it may fail, since other mischief is at work."""
    with contextlib.suppress(LabError):
        site.daemons[number].node.netns.run(["sh", "-c", command], check=False)


@contextlib.contextmanager
def kill(site: Site, rng: random.Random) -> Iterator[None]:
    """kill -9."""
    site.daemons[pick(site, rng)].process.kill()
    yield


@contextlib.contextmanager
def freeze(site: Site, rng: random.Random) -> Iterator[None]:
    """SIGSTOP, and SIGCONT later."""
    process = site.daemons[pick(site, rng)].process
    process.send_signal(signal.SIGSTOP)
    yield
    process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def no_descriptors(site: Site, rng: random.Random) -> Iterator[None]:
    """EMFILE for everything that a node wants to open."""
    process = site.daemons[pick(site, rng)].process
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (4, limits[1]))
    yield
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)


@contextlib.contextmanager
def no_memory(site: Site, rng: random.Random) -> Iterator[None]:
    """Larger allocations fail."""
    shim = site.shims[pick(site, rng)]
    shim.set(refuse_size=rng.choice([2048, 8192, 65536, 1 << 20]))
    yield
    shim.set(refuse_size=0)


@contextlib.contextmanager
def no_file_growth(site: Site, rng: random.Random) -> Iterator[None]:
    """No file of a node can be written (EFBIG), as on a full disk."""
    process = site.daemons[pick(site, rng)].process
    limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    yield
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def clock_jump(site: Site, rng: random.Random) -> Iterator[None]:
    """The time of day is another, by minutes or by years; it stays so until it jumps back."""
    shim = site.shims[pick(site, rng)]
    shim.set(clock_seconds=rng.choice([-(10**8), -3600, -600, 600, 3600, 86400, 10**8]))
    yield
    shim.set(clock_seconds=0)


@contextlib.contextmanager
def link_flap(site: Site, rng: random.Random) -> Iterator[None]:
    """The external interface goes down, and with it the default route."""
    number = pick(site, rng)
    sh(site, number, "ip link set eth0 down")
    yield
    sh(site, number, "ip link set eth0 up; ip route replace default via 192.168.0.1")


@contextlib.contextmanager
def mtu_change(site: Site, rng: random.Random) -> Iterator[None]:
    """The underlay gets narrower on one node."""
    number = pick(site, rng)
    sh(site, number, f"ip link set eth0 mtu {rng.choice([1400, 1300, 1450])}")
    yield
    sh(site, number, "ip link set eth0 mtu 1500")


@contextlib.contextmanager
def address_change(site: Site, rng: random.Random) -> Iterator[None]:
    """DHCP gives a node another address, and later the old one again."""
    number = pick(site, rng)
    old = str(site.daemons[number].node.address(4))
    new = f"192.168.0.{100 + number}"
    router = "ip route replace default via 192.168.0.1"
    sh(site, number, f"ip addr add {new}/24 dev eth0; ip addr del {old}/24 dev eth0; {router}")
    yield
    sh(site, number, f"ip addr add {old}/24 dev eth0; ip addr del {new}/24 dev eth0; {router}")


@contextlib.contextmanager
def store_out_of_reach(site: Site, rng: random.Random) -> Iterator[None]:
    """Nobody gets at the store."""
    del rng
    with site.store_out_of_reach():
        yield


@contextlib.contextmanager
def hostile_host(site: Site, rng: random.Random) -> Iterator[None]:
    """Another program takes away a thing that a node has set up."""
    number = pick(site, rng)
    what = [
        "ip route flush dev udplane0",
        "ip addr flush dev udplane0",
        "ip link set udplane0 down",
        "ip link set udplane0 mtu 600",
        "ip link del udplane0",
        "nft flush ruleset",
        "echo 0 > /proc/sys/net/ipv4/ip_forward",
        f"rm -f {site.daemons[number].subnet_file}",
        f"rm -f {site.daemons[number].directory}/run/*",
    ]
    sh(site, number, rng.choice(what))
    yield


ALL: tuple[Mischief, ...] = (
    kill,
    freeze,
    no_descriptors,
    no_memory,
    no_file_growth,
    clock_jump,
    link_flap,
    mtu_change,
    address_change,
    store_out_of_reach,
    hostile_host,
)
