"""`./dev demo`: an overlay on one machine, looked at from all sides, in under half a minute.

Two nodes, four pods and an underlay are built in private namespaces, a udplane is started on each node, and then the
instruments show what there is to see: pings each way, one packet at every device of its way, a TCP transfer, the
counters of both nodes. Afterwards nothing is left but a packet capture.
"""

import argparse
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from dataplane.engines.registry import ENGINES
from dataplane.errors import UdplaneError
from dataplane.lab import keep, private
from dataplane.lab.netns import LabError
from dataplane.lab.overlay import Daemon, Overlay, last_line, wait_until
from dataplane.lab.overlay_view import view_of
from dataplane.lab.ping import ping
from dataplane.lab.text import BOLD, GREEN, RED, paint
from dataplane.lab.topology import Lab, Pod
from dataplane.lab.transfer import transfer
from dataplane.lab.walk_text import outcome_lines, step_lines
from dataplane.lab.walking.recorder import Ask, record

MODULE = "dataplane.lab.demo"
RUN_DIR = Path("/run/udplane-demo")
"""In the private /run: gone with it."""

TRANSFER_SECONDS = 1.0


class Demo:
    """The acts of the demo, in order."""

    def __init__(self, lab: Lab, overlay: Overlay, capture_file: Path, engine: str) -> None:
        """Show `overlay` on `lab`, whose packets go to `capture_file`; its nodes use `engine`."""
        self.lab = lab
        self.overlay = overlay
        self.capture_file = capture_file
        self.engine = engine
        self.failures: list[str] = []

    def show(self) -> None:
        """Show everything; what did not work is in `failures` afterwards."""
        self.nodes()
        with Capture(self.overlay.daemons[0], self.capture_file):
            self.pings()
            self.one_packet()
        self.transfers()
        self.counters()

    def nodes(self) -> None:
        """Which node owns which subnets, and where the pods are."""
        headline("Nodes and pods")
        for daemon in self.overlay.daemons:
            node, (subnets, mtu) = daemon.node, daemon.lease()
            at, leased = node.address(self.overlay.underlay), " and ".join(str(subnet) for subnet in subnets)
            print(f"  {paint(BOLD, node.name)}  underlay {at}, leases {leased}, MTU {mtu}")
            for pod in node.pods:
                print(f"    {pod.name}  {', '.join(str(address.ip) for address in pod.addresses)}")

    def pings(self) -> None:
        """Pings between the nodes, each way and in both families."""
        headline("Pings through the overlay (the TTL starts at 64: two kernels and two udplanes take one each)")
        first, second = (node.pods[0] for node in self.lab.nodes)
        for version in self.lab.versions:
            for source, target in ((first, second), (second, first)):
                self._ping(source, target, version)

    def _ping(self, source: Pod, target: Pod, version: int) -> None:
        replies = [reply for reply in ping(source.netns, target.address(version), count=3) if reply and reply.echoed]
        text = f"IPv{version}  {source.name} → {target.name} {target.address(version)!s:22}"
        if replies:
            best = min(reply.rtt for reply in replies) * 1e3
            print(f"  {text} {paint(GREEN, f'{len(replies)} of 3')} answers, ttl {replies[-1].ttl}, {best:.2f} ms")
        else:
            print(f"  {text} {paint(RED, 'no answer')}")
            self.failures.append(f"IPv{version} ping from {source.name} to {target.name}")

    def one_packet(self) -> None:
        """One echo request at every device of its way."""
        headline("One packet at every device of its way, and what changed there")
        node, peer = self.lab.nodes
        view = view_of(self.lab, self.overlay, engine=self.engine)
        (walk,) = record(view, Ask(node.pods[0].name, peer.pods[1].name)).walks
        steps = walk.steps_of("request")
        for number, step in enumerate(steps, 1):
            for line in step_lines(number, step, steps[number - 2] if number > 1 else None):
                print(line)
        for line in outcome_lines(walk):
            print(line)
        if walk.outcome.kind != "answered":
            self.failures.append("the packet was not answered")

    def transfers(self) -> None:
        """TCP between pods on two nodes."""
        headline("TCP between the nodes")
        source, target = (node.pods[0] for node in self.lab.nodes)
        for version in self.lab.versions:
            try:
                result = transfer(source.netns, target.netns, target.address(version), seconds=TRANSFER_SECONDS)
            except LabError as error:
                self.failures.append(str(error))
                continue
            print(
                f"  IPv{version}  {source.name} → {target.name}  {paint(BOLD, f'{result.gbits_per_second:.2f} Gb/s')}  "
                f"({result.n_bytes / 1e6:,.0f} MB in {result.seconds:.1f} s, {result.n_retransmits} retransmissions)"
            )

    def counters(self) -> None:
        """What the nodes counted."""
        headline("What the nodes say")
        for daemon in self.overlay.daemons:
            print(f"\n  {daemon.node.name}$ udplane status")
            print(textwrap.indent(daemon.node.netns.run(daemon.command("status")).stdout.rstrip(), "  "))


class Capture:
    """`udplane capture` on one node, for the length of a `with` block."""

    def __init__(self, daemon: Daemon, file: Path) -> None:
        """Write what passes on both sides of the tunnel of `daemon` to `file`."""
        self._daemon = daemon
        self._file = file
        self._log = daemon.directory / "capture.log"

    def __enter__(self) -> None:
        with self._log.open("wb") as output:
            command = self._daemon.command("capture", "-w", str(self._file))
            self._process = self._daemon.node.netns.start(command, log=output)

        def listens() -> bool:
            if self._process.poll() is not None:
                raise LabError(f"no packets can be captured: {last_line(self._log)}")
            return "capturing" in self._log.read_text()

        wait_until(listens, "udplane capture to listen")

    def __exit__(self, kind: object, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        if self._process.wait() != 0 and kind is None:
            raise LabError(f"the capture failed: {last_line(self._log)}")


def headline(text: str) -> None:
    """A line that opens a part of the demo."""
    print(f"\n{paint(BOLD, text)}", flush=True)


def how_to_go_on(overlay: Overlay) -> str:
    """How to enter a lab that stays, and how to take it down."""
    holder = os.getpid()
    rights = " -U --preserve-credentials" if private.has_own_users() else ""
    enter = f"nsenter -t {holder}{rights} -n -m"
    status = " ".join(overlay.daemons[0].command("status"))
    return "\n".join(
        [
            f"  a shell in a pod      {enter} ip netns exec pod1 bash",
            f"  a shell on a node     {enter} ip netns exec node1 bash",
            f"  there, ask udplane    {status}",
            f"  take it all down      kill {holder}",
        ]
    )


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line of the demo."""
    parser = argparse.ArgumentParser(
        prog="./dev demo", description="Two nodes, four pods and an underlay on this machine."
    )
    parser.add_argument("--engine", choices=ENGINES, default="native", help="who moves the packets (default native)")
    parser.add_argument(
        "--underlay", type=int, choices=(4, 6), default=4, help="IP version between the nodes (default 4)"
    )
    parser.add_argument("--keep", action="store_true", help="leave it standing, and print how to enter it")
    parser.add_argument(
        "--pcap", type=Path, default=Path("udplane-demo.pcapng"), metavar="FILE", help="where the captured packets go"
    )
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace, stand: Callable[[], None] | None) -> int:
    """Build, show, and either take down or stand. Returns the exit status."""
    start = time.monotonic()
    logs = arguments.pcap.absolute().with_suffix(".logs")
    with (
        Lab(prefix="") as lab,
        Overlay(lab, RUN_DIR, engine=arguments.engine, underlay=arguments.underlay, keep_logs=logs) as overlay,
    ):
        lab.add_node()
        lab.add_node()
        overlay.up()
        print(f"Two nodes and four pods stand after {time.monotonic() - start:.1f} s, engine {arguments.engine}.")
        demo = Demo(lab, overlay, arguments.pcap.absolute(), arguments.engine)
        demo.show()
        print(f"\nThe captured packets lie in {arguments.pcap}: open it with Wireshark or tshark.")
        for failure in demo.failures:
            print(f"udplane demo: failed: {failure}", file=sys.stderr)
        for death in overlay.deaths():
            print(f"udplane demo: {death}", file=sys.stderr)
        if stand and not demo.failures:
            print(f"\n{paint(BOLD, 'It stays.')}\n{how_to_go_on(overlay)}")
            stand()
    print(f"Everything else is gone again. {time.monotonic() - start:.1f} s in all.")
    return 1 if demo.failures else 0


def main() -> int:
    """Entry point."""
    arguments = parse_arguments(sys.argv[1:])
    if not private.inside():
        return private.enter([sys.executable, "-I", "-m", MODULE, *sys.argv[1:]])
    stand = keep.detach() if arguments.keep else None
    keep.end_on_signals()
    try:
        return run(arguments, stand)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout once more at its end
        return 1
    except (UdplaneError, OSError) as error:
        print(f"udplane demo: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    except SystemExit:
        print("udplane demo: ended by a signal; everything is gone again", file=sys.stderr)
        raise


if __name__ == "__main__":
    sys.exit(main())
