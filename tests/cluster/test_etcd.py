"""A cluster through its etcd's misfortunes, with real members, real nodes and pods that never stop talking.

    node1  node2  node3     the etcd members              node4 ... node13   ten udplane nodes, each with a pod
      |      |      |                                       |          |
    --+------+------+---------------- underlay -------------+----------+-----+--- 192.168.0.0/24
                                                                           node14, who comes when there is no room

The network has just ten subnets, so that the subnet of a node that is lost is wanted at once. The test is one story,
told in order by one function each; its figures are printed.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from dataplane.lab.overlay import Daemon, Overlay, last_line
from dataplane.lab.topology import Lab
from dataplane.leases.lease import Subnets
from tests.cluster.site import (
    PREFIX,
    Flows,
    cut_off,
    etcd_members,
    holders,
    public_ip,
    ready_or_ended,
    start_nodes,
    status,
    store_url,
)
from tests.stores.etcd_server import EtcdMember, rejoin
from tests.waiting import wait_until

NODES = 10
LEASE_SECONDS = 20
CONFIG = {
    "Network": "10.254.0.0/16",
    "SubnetMin": "10.254.1.0",
    "SubnetMax": f"10.254.{NODES}.0",
    "Backend": {"Type": "udp"},
}


@dataclass
class Story:
    """What the acts share, and the figures that they leave."""

    lab: Lab
    overlay: Overlay
    members: list[EtcdMember]
    daemons: list[Daemon]
    figures: dict[str, str] = field(default_factory=dict)

    def subnets(self) -> dict[str, Subnets]:
        """Each living node's own subnets, as its daemon says."""
        return {d.node.name: Subnets.of(d.lease()[0]) for d in self.daemons}

    def all_know_all(self) -> bool:
        """Whether every node has a route to every other."""
        return all(len(peers(daemon)) == len(self.daemons) - 1 for daemon in self.daemons)

    def timed(self, what: str, condition: Callable[[], object], seconds: float = 30) -> None:
        """Wait for a condition and note how long that took."""
        started = time.monotonic()
        wait_until(condition, what, seconds)
        self.figures[what] = f"{time.monotonic() - started:.2f} s"


@pytest.fixture
def story(namespaces: None, tun_device: None, tmp_path: Path) -> Iterator[Story]:
    """Three members, ten nodes and their pods. The test's thread is on the underlay, where it can talk to all."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(versions=(4,)))
        stack.enter_context(lab.underlay.entered())
        members = stack.enter_context(etcd_members(lab, tmp_path, 3))
        flags = ["--lease-seconds", str(LEASE_SECONDS), "--healthz-port", "0"]
        overlay = stack.enter_context(Overlay(lab, tmp_path / "nodes", engine="python", flags=flags))
        overlay.store = store_url(members)
        (overlay.directory / "net-conf.json").write_text(json.dumps(CONFIG))
        started = time.monotonic()
        daemons = start_nodes(lab, overlay, NODES)
        story = Story(lab, overlay, members, daemons)
        story.figures[f"{NODES} nodes with a pod each started within"] = f"{time.monotonic() - started:.1f} s"
        yield story


def state(daemon: Daemon) -> str:
    """How a node's lease is doing."""
    return str(status(daemon)["lease"]["state"])


def renewal_failed(daemon: Daemon) -> bool:
    """Whether a node has tried in vain to renew its lease."""
    lease = status(daemon)["lease"]
    return lease["state"] == "renewing" and bool(lease["trouble"])


def peers(daemon: Daemon) -> set[str]:
    """The subnets to which a node has routes."""
    return {peer["subnets"][0] for peer in status(daemon)["peers"]}


def the_leader_is_killed_and_comes_back_from_nothing(story: Story) -> EtcdMember:
    """Leases go on in the meantime. Returns a member that lives all the time."""
    leader = next(member for member in story.members if member.is_leader())
    witness = next(member for member in story.members if member is not leader)
    leader.kill()
    story.timed("writes go on after the leader was killed", lambda: try_to_write(witness))
    started = time.monotonic()
    rejoin(witness, leader)
    story.figures["the member is back, from an empty disk"] = f"{time.monotonic() - started:.2f} s"
    return witness


def try_to_write(member: EtcdMember) -> bool:
    try:
        member.post("kv/put", {"key": "YQ==", "value": "YQ=="}, seconds=1.0)
    except OSError:
        return False
    return True


def a_node_is_cut_off_while_history_is_compacted(story: Story, witness: EtcdMember) -> None:
    """It misses a peer's arrival and a renewal of its own, and catches up with both; its pods notice nothing."""
    lonely = story.daemons[0]
    own = lonely.lease()
    wait_until(lambda: state(lonely) == "held", "the node that is to be cut off has just renewed its lease", 30)
    with cut_off(lonely.node.netns, story.members):
        story.timed("the cut-off node knows that it is", lambda: status(lonely)["store"]["trouble"])
        witness.put(f"{PREFIX}/subnets/10.254.200.0-24", '{"PublicIP":"192.168.0.99","PublicIPv6":null}')
        others = story.daemons[1:]
        story.timed("all others know a new peer", lambda: all("10.254.200.0/24" in peers(d) for d in others))
        witness.compact()
        wait_until(lambda: renewal_failed(lonely), "the renewal of the cut-off node has failed", 30)
        assert "10.254.200.0/24" not in peers(lonely)
    story.timed("it has caught up with what was compacted", lambda: "10.254.200.0/24" in peers(lonely))
    story.timed("it has renewed its lease", lambda: state(lonely) == "held")
    assert lonely.lease() == own
    witness.delete(f"{PREFIX}/subnets/10.254.200.0-24")


def a_node_is_lost_and_its_subnet_given_to_another(story: Story, witness: EtcdMember) -> None:
    """A newcomer finds no room as long as the lost node's lease lives."""
    lost = story.daemons.pop()
    subnets, expires = Subnets.of(lost.lease()[0]), status(lost)["lease"]["expires"]
    lost.process.kill()
    lost.process.wait()
    expiry = datetime.fromisoformat(expires).timestamp()
    node, refusals = story.lab.add_node(), 0
    newcomer = story.overlay.start(node)
    while not ready_or_ended(newcomer):
        assert f"all {NODES} subnets of 10.254.0.0/16 are taken" in last_line(newcomer.log)
        holder = holders(witness).get(subnets)
        assert holder is None or holder.public_ip == lost.node.address(4)
        refusals += 1
        newcomer = story.overlay.start(node)
    late = time.time() - expiry
    assert late >= 0, "the subnet was given away before its lease had expired"
    assert Subnets.of(newcomer.lease()[0]) == subnets
    assert public_ip(node) == str(holders(witness)[subnets].public_ip)
    story.daemons.append(newcomer)
    story.figures["a lost node's subnet was another's, after its expiry"] = f"{late:.2f} s"
    story.figures["refused before that"] = f"{refusals} times"


def test_the_life_of_a_cluster(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    before = story.subnets()
    living = story.daemons[:-1]
    story.timed("every node knows all others", story.all_know_all)
    with Flows([daemon.node.pods[0] for daemon in living]) as traffic:
        witness = the_leader_is_killed_and_comes_back_from_nothing(story)
        a_node_is_cut_off_while_history_is_compacted(story, witness)
        a_node_is_lost_and_its_subnet_given_to_another(story, witness)
        story.timed("every node knows all others again", story.all_know_all)
        traffic.stop()
    after = story.subnets()
    assert len(set(after.values())) == NODES, "two nodes have one subnet"
    assert {name: after[name] for name in before if name in after} == {n: s for n, s in before.items() if n in after}
    held = {attrs.public_ip: subnets for subnets, attrs in holders(witness).items()}
    assert held == {daemon.node.address(4): after[daemon.node.name] for daemon in story.daemons}
    for flow in traffic.flows:
        assert (flow.sent > 0, flow.lost) == (True, 0), flow
    sent, longest = sum(flow.sent for flow in traffic.flows), max(flow.longest for flow in traffic.flows)
    story.figures[f"echoes lost, of {sent} in {len(traffic.flows)} flows"] = "0"
    story.figures["longest time to an answer"] = f"{longest:.3f} s"
    with capsys.disabled():
        print()
        for what, figure in story.figures.items():
            print(f"  {what:60}{figure:>10}")
