"""The time of day is for people to read: nothing that must happen in time goes by it."""

from pathlib import Path

ROOT = Path(__file__).parents[2] / "dataplane"

ALLOWED = {
    "clock.py": "turns a deadline into a time of day, for people",
    "commands/stats.py": "puts it before each sample",
    "stores/sqlite_time.py": "starts a store's time with it",
}


def test_the_time_of_day_is_asked_for_in_few_places() -> None:
    found = {str(file.relative_to(ROOT)) for file in ROOT.rglob("*.py") if "time.time()" in file.read_text()}
    assert found == ALLOWED.keys()
