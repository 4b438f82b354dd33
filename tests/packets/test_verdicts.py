"""The one list of outcomes: complete, and the same in the documentation."""

from pathlib import Path

import pytest

from dataplane.packets.verdicts import Direction, Event, Verdict

PACKET_RULES = Path(__file__).parents[2] / "docs" / "packet-rules.md"


@pytest.mark.parametrize("kind", [Direction, Verdict, Event])
def test_numbers_are_indices(kind: type[Direction | Verdict | Event]) -> None:
    """Counters are arrays indexed by them."""
    assert [int(member) for member in kind] == list(range(len(kind)))


@pytest.mark.parametrize("member", [*Direction, *Verdict, *Event], ids=repr)
def test_every_outcome_is_described(member: Direction | Verdict | Event) -> None:
    assert member.description


@pytest.mark.parametrize("kind", [Verdict, Event])
def test_the_documentation_lists_the_same_in_the_same_words(kind: type[Verdict | Event]) -> None:
    rows = [f"| `{member.name.lower()}` | {member.description} |" for member in kind]
    assert "\n".join(rows) in PACKET_RULES.read_text()
