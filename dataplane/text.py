"""Text for people: tables, sizes, rates, durations, lists."""

from collections.abc import Iterable, Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns, the last one as wide as it is; each row ends with a newline."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "".join(_aligned(row, widths) + "\n" for row in rows)


def _aligned(row: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def duration(seconds: float) -> str:
    """`0.3 s`, `42 s`, `5 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def size(octets: float) -> str:
    """`999 B`, `1.5 kB`, `2.0 GB`: powers of 1000, as rates are given."""
    return _scaled(octets, ("B", "kB", "MB", "GB", "TB"))


def bit_rate(octets_per_second: float) -> str:
    """`0 b/s`, `12.3 Mb/s`, `4.5 Gb/s`."""
    return _scaled(octets_per_second * 8, ("b/s", "kb/s", "Mb/s", "Gb/s"))


def _scaled(number: float, units: Sequence[str]) -> str:
    """`number` in the unit in which it has at most three digits before the point; the first unit has no fractions."""
    *smaller, largest = units
    for unit in smaller:
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == units[0] else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} {largest}"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def plural(count: int, noun: str) -> str:
    """`1 peer`, `2 peers`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def endpoint(address: str, port: int | None) -> str:
    """`192.0.2.1:8285`, `[2001:db8::1]:8285`, or the address alone."""
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
