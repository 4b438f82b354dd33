"""The judge of exercise 14: allocators with each a mistake of their own, and what is said about it."""

import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.lab.teaching.exercise import find

EXERCISE = find("14").directory
SUBNET = "10.99.3.0/29"

LINKS = """
import ipaddress, os, sys
directory, subnet, verb, container = sys.argv[1:]
mine = lambda: [n for n in sorted(os.listdir(directory)) if os.readlink(f"{directory}/{n}") == container]
if verb == "del":
    for name in mine():
        os.unlink(f"{directory}/{name}")
    sys.exit()
for name in mine():
    print(name)
    sys.exit()
for address in list(ipaddress.ip_network(subnet).hosts())[1:]:
    try:
        os.symlink(container, f"{directory}/{address}")
    except FileExistsError:
        continue
    print(address)
    sys.exit()
sys.exit("all are given away")
"""
"""An address is a link, made with its owner in one call: right in all that is asked."""

FILES = (
    LINKS.replace("os.readlink(f'{directory}/{n}')", "")
    .replace('os.readlink(f"{directory}/{n}") == container', 'open(f"{directory}/{n}").read() == container')
    .replace(
        'os.symlink(container, f"{directory}/{address}")',
        'open(f"{directory}/{address}", "x").write(container)',
    )
)
"""As the official plugin: the file first, its owner afterwards."""

SPINNING = """
import os, sys, time
lock = sys.argv[1] + "/lock"
while True:
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        break
    except FileExistsError:
        time.sleep(0.01)
sys.argv[1] += "/state"
os.makedirs(sys.argv[1], exist_ok=True)
import atexit
try:
    exec(LINKS)
finally:
    os.unlink(lock)
""".replace("LINKS", repr(LINKS))
"""A lock that nobody takes back."""

SQLITE = """
import ipaddress, sqlite3, sys
directory, subnet, verb, container = sys.argv[1:]
db = sqlite3.connect(directory + "/db", isolation_level=None)
db.execute("BEGIN IMMEDIATE")
db.execute("CREATE TABLE IF NOT EXISTS t (container PRIMARY KEY, address UNIQUE)")
if verb == "del":
    db.execute("DELETE FROM t WHERE container = ?", [container])
else:
    known = dict(db.execute("SELECT container, address FROM t"))
    free = [a for a in map(str, list(ipaddress.ip_network(subnet).hosts())[1:]) if a not in known.values()]
    if container not in known and not free:
        sys.exit("all are given away")
    known.setdefault(container, free[0] if free else "")
    db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", [container, known[container]])
    print(known[container])
db.execute("COMMIT")
"""

WRONG = [
    ("alone", "print(", "was never closed"),
    ("alone", "print('hello')", "printed 'hello', which is none of 10.99.3.2 to 10.99.3.6"),
    ("alone", "import sys; sys.exit('not today')", "fails: not today"),
    ("alone", "import sys; sys.exit(3)", "fails: exit status 3"),
    ("alone", "1 / 0", "ZeroDivisionError in line 1"),
    ("alone", "print('10.99.3.2')", "nothing lies in DIRECTORY"),
    (
        "alone",
        "import os, sys; open(sys.argv[1] + '/f', 'w').close(); print('10.99.3.2')",
        "a and b both have 10.99.3.2",
    ),
    ("together", (EXERCISE / "solution/1.py").read_text(), "b and c were both told 10.99.3.3"),
    ("killed", (EXERCISE / "solution/2.py").read_text(), "was killed before write to leases.json"),
    ("killed", FILES, "one is lost"),
    ("killed", SPINNING, "waits, and would for ever"),
]
RIGHT = [
    *(("alone", LINKS), ("together", LINKS), ("killed", LINKS), ("alone", FILES), ("together", FILES)),
    *(("together", SPINNING), ("alone", SQLITE), ("together", SQLITE), ("killed", SQLITE)),
]


def judge(what: str, program: str, directory: Path) -> subprocess.CompletedProcess[str]:
    file = directory / "host_local.py"
    file.write_text(program)
    command = [sys.executable, "-I", "-B", str(EXERCISE / "judge.py"), what, str(file), SUBNET]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done


@pytest.mark.parametrize(("what", "program", "said"), WRONG)
def test_a_mistake_is_named_in_one_line(what: str, program: str, said: str, tmp_path: Path) -> None:
    done = judge(what, program, tmp_path)
    assert said in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(("what", "program"), RIGHT)
def test_every_way_that_is_right_passes(what: str, program: str, tmp_path: Path) -> None:
    done = judge(what, program, tmp_path)
    assert done.stdout.startswith(f"right: {what}"), done.stdout
    assert done.returncode == 0
