"""ADD and DEL of udplane's plugins and of the official ones, measured in turn: `python -m bench.cni`.

    side "official"       build/tools/forky/usr/lib/cni, where `./dev test` has unpacked it, else /usr/lib/cni
    side "udplane"        python -m cni.install, into a temporary directory
    side "fallback"       the same, where no interpreter can be kept warm
    side "cold"           python -m cni.install --keep-warm 0

Each side is a node in namespaces of its own. In every round each task runs on all sides, and their order changes from
round to round, so that what slows the machine down slows all. Two rounds before the first are not counted: byte code,
file cache, the bridge and the warm interpreter are there afterwards, as on a node that runs pods. The time is that of
the whole chain, from the start of the first process to the end of the last. The table gives medians with least and
greatest value, and the ratios formed round by round.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.cni.tasks import BIG_STORE, NODE_SUBNET, POD_NETWORK, RESERVATIONS, TASKS, Conf, Task
from bench.stats import Spread, ratio

OFFICIAL = (Path("build/tools/forky/usr/lib/cni"), Path("/usr/lib/cni"))
SIDES = ("official", "udplane", "fallback", "cold")
COLD = ("--keep-warm", "0")
VERBS = ("ADD", "DEL")
WARM_UP = 2
UNSHARE = ("unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
SUBNET_ENV = f"FLANNEL_NETWORK={POD_NETWORK}\nFLANNEL_SUBNET={NODE_SUBNET}\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n"


class BenchError(Exception):
    """A measurement could not be made; the text says why and what to do."""


class Side:
    """A running side.py. Use it as a context manager."""

    def __init__(self, bin_dir: Path) -> None:
        command = [*UNSHARE, sys.executable, "-I", str(Path(__file__).with_name("side.py")), str(bin_dir)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._send({"subnet_env": SUBNET_ENV, "big_store": BIG_STORE, "reservations": RESERVATIONS})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def measure(self, chain: Sequence[Conf], verb: str, pods: int) -> float:
        """The seconds that the chain took for that many pods at once. Raises BenchError when a plugin failed."""
        self._send({"chain": list(chain), "verb": verb, "pods": pods})
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("the node's process ended; what it said stands above")
        answer = json.loads(line)
        if answer["error"]:
            raise BenchError(answer["error"])
        return float(answer["seconds"])

    def _send(self, request: object) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()


@dataclass(slots=True)
class Results:
    """Seconds by task, verb and side, one a round."""

    environment: dict[str, str]
    seconds: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def add(self, task: Task, verb: str, side: str, seconds: float) -> None:
        """Append a round's figure."""
        self.seconds.setdefault((task.name, verb, side), []).append(seconds)

    def to_json(self) -> dict[str, object]:
        """The environment and every single figure."""
        figures = [
            {"task": task, "verb": verb, "side": side, "seconds": rounds}
            for (task, verb, side), rounds in self.seconds.items()
        ]
        return {"environment": self.environment, "figures": figures}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the timing. Exit status 0, or 1 with one line of what went wrong."""
    options = _parse(argv)
    try:
        official = _require(options.official)
        results = _measure(options.rounds, official)
    except BenchError as error:
        print(f"bench.cni: {error}", file=sys.stderr)
        return 1
    print(render(results))
    if options.json:
        options.json.write_text(json.dumps(results.to_json(), indent=1) + "\n")
        print(f"every figure: {options.json}")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cni", description="Time CNI plugins beside the official ones."
    )
    parser.add_argument("--rounds", type=int, default=15, help="rounds (default %(default)s)")
    parser.add_argument("--official", type=Path, metavar="DIR", help="where the official plugins are")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _require(official: Path | None) -> Path:
    """Where the official plugins are."""
    if os.geteuid() != 0:
        raise BenchError("needs root, to make network and mount namespaces")
    places = (official,) if official else OFFICIAL
    for place in places:
        if (place / "portmap").exists():
            return place.absolute()
    wanted = " or ".join(map(str, places))
    raise BenchError(f"needs the official plugins in {wanted}: apt-get install containernetworking-plugins")


def _measure(rounds: int, official: Path) -> Results:
    results = Results(_environment(rounds, official))
    with ExitStack() as cleanup:
        places = (official, _install(cleanup), _install(cleanup), _install(cleanup, *COLD))
        _keep_cold(places[SIDES.index("fallback")])
        sides = {name: cleanup.enter_context(Side(place)) for name, place in zip(SIDES, places, strict=True)}
        for number in range(-WARM_UP, rounds):
            _progress(f"round {number + 1}/{rounds}" if number >= 0 else "warming up")
            for task in TASKS:
                _run_round(task, sides, results if number >= 0 else None, first=number % len(SIDES))
    _progress("")
    return results


def _install(cleanup: ExitStack, *options: str) -> Path:
    place = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="udplane-bench-cni-")))
    command = [sys.executable, "-I", "-m", "cni.install", "--bin-dir", str(place), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return place


def _keep_cold(place: Path) -> None:
    """Let no warm interpreter be started or found: there is no directory for its socket."""
    link = place / ".udplane" / "warm"
    link.unlink()
    link.symlink_to("/proc/nowhere/socket")


def _run_round(task: Task, sides: dict[str, Side], results: Results | None, *, first: int) -> None:
    """ADD on all sides, then DEL on all; `first` is the number of the side that begins."""
    for verb in VERBS:
        for name in SIDES[first:] + SIDES[:first]:
            chain = task.official if name == "official" else task.udplane
            seconds = sides[name].measure(chain, verb, task.pods)
            if results:
                results.add(task, verb, name, seconds)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _environment(rounds: int, official: Path) -> dict[str, str]:
    version = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "revision": version.stdout.strip(),
        "official": str(official),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": str(os.cpu_count()),
        "load before": " ".join(f"{value:.1f}" for value in os.getloadavg()),
        "rounds": str(rounds),
    }


def render(results: Results) -> str:
    """The table: milliseconds of all sides, the ratios to the official one, and the goal."""
    lines = ["  ".join(f"{key}: {value}" for key, value in results.environment.items()), ""]
    heads = "".join(f"{side:>24}" for side in SIDES) + "".join(f"{side + ' ratio':>24}" for side in SIDES[1:])
    lines.append(f"{'milliseconds, median (least - greatest)':<42}{heads}  goal")
    for task in TASKS:
        for verb in VERBS:
            official, *ours = (results.seconds[task.name, verb, side] for side in SIDES)
            cells = [_cell(seconds) for seconds in (official, *ours)] + [_ratio(seconds, official) for seconds in ours]
            goal = f"{task.limit:.2f}" if task.limit else "-"
            lines.append(f"{task.name:<37} {verb:<4}{''.join(f'{cell:>24}' for cell in cells)}  {goal:>4}")
    return "\n".join(lines)


def _ratio(seconds: Sequence[float], official: Sequence[float]) -> str:
    quotient = ratio(seconds, official)
    return f"{quotient.median:.2f} ({quotient.low:.2f} - {quotient.high:.2f})" if quotient else "-"


def _cell(seconds: Sequence[float]) -> str:
    spread = Spread.of([value * 1000 for value in seconds])
    digits = 1 if spread.high < 1000 else 0
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f} - {spread.high:.{digits}f})"
