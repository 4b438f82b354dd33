"""The results of a run: collected, put into tables, written as JSON."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bench.load import Figures
from bench.stats import Spread, ratio

SUBJECTS = ("udplane", "busy-poll")
BASELINES = ("per-packet", "vxlan", "plain")
COMPARED = ("Gb/s", "kpps", "p50 us", "p99 us", "p99.9 us", "nodes CPU s/GB", "machine CPU s/GB")
"""Metrics that ratios are formed of."""

LABEL_WIDTH = 32
CELL_WIDTH = 20


@dataclass(slots=True)
class Results:
    """Figures by underlay, load and path, one entry a round; None where a load failed."""

    environment: dict[str, str]
    figures: dict[tuple[str, str], dict[str, list[Figures | None]]] = field(default_factory=dict)
    """(load, underlay) -> path -> rounds."""

    def add(self, load: str, underlay: str, path: str, figures: Figures | None) -> None:
        """Append the figures of one round."""
        self.figures.setdefault((load, underlay), {}).setdefault(path, []).append(figures)

    def to_json(self) -> dict[str, object]:
        """The environment and every single figure."""
        return {
            "environment": self.environment,
            "figures": [
                {"load": load, "underlay": underlay, "path": path, "rounds": rounds}
                for (load, underlay), paths in self.figures.items()
                for path, rounds in paths.items()
            ],
        }


def render(results: Results) -> str:
    """The tables for people: medians with spread, then ratios."""
    lines = [", ".join(f"{key} {value}" for key, value in results.environment.items())]
    for (load, underlay), paths in results.figures.items():
        lines += ["", f"{load}, {underlay}".ljust(LABEL_WIDTH) + _cells(paths)]
        for metric in _metrics(paths):
            spreads = (_spread(rounds, metric) for rounds in paths.values())
            lines.append(f"  {metric}".ljust(LABEL_WIDTH) + _cells(map(_text, spreads)))
    lines += ["", "Ratios, formed round by round".ljust(50) + _cells(f"/ {base}" for base in BASELINES)]
    lines += _ratio_lines(results)
    return "\n".join(line.rstrip() for line in lines)


def _ratio_lines(results: Results) -> Iterator[str]:
    for (load, underlay), paths in results.figures.items():
        for subject in paths.keys() & SUBJECTS:
            for metric in _metrics({subject: paths[subject]}):
                if metric in COMPARED:
                    values = _values(paths[subject], metric)
                    bases = (_values(paths[base], metric) if base in paths else [] for base in BASELINES)
                    cells = _cells(_text(ratio(values, base) if base else None) for base in bases)
                    yield f"  {subject}, {load}, {underlay}, {metric}".ljust(50) + cells


def _metrics(paths: dict[str, list[Figures | None]]) -> list[str]:
    """Names of all metrics that any path gave, in the order in which they came."""
    return list(dict.fromkeys(name for rounds in paths.values() for figures in rounds if figures for name in figures))


def _values(rounds: list[Figures | None], metric: str) -> list[float | None]:
    return [figures.get(metric) if figures else None for figures in rounds]


def _spread(rounds: list[Figures | None], metric: str) -> Spread | None:
    values = [value for value in _values(rounds, metric) if value is not None]
    return Spread.of(values) if values else None


def _cells(texts: Iterable[str]) -> str:
    return "".join(text.rjust(CELL_WIDTH) for text in texts)


def _text(spread: Spread | None) -> str:
    """`median (least-greatest)`, or a dash where nothing was measured."""
    if spread is None:
        return "-"
    extent = f" ({_number(spread.low)}-{_number(spread.high)})" if spread.rounds > 1 else ""
    return _number(spread.median) + extent


def _number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
