"""Programs that plugins run: what goes in and what comes out, without a pipe that could fill up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cni.lib.firewall import FirewallError, Transaction
from cni.lib.process import Process, find_program, run


def shell(script: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> tuple[int, bytes, bytes]:
    finished = run(["/bin/sh", "-c", script], stdin, env)
    return finished.status, finished.output, finished.errors


def test_status_output_and_errors() -> None:
    assert shell("cat; echo oops >&2; exit 3", b"hello") == (3, b"hello", b"oops\n")
    assert shell("kill -9 $$") == (-9, b"", b"")
    assert shell("echo $A", env={"A": "b"}) == (0, b"b\n", b"")


def test_a_program_may_write_before_it_reads() -> None:
    block = os.urandom(1 << 20)
    assert shell("head -c 1000000 /dev/zero; cat; head -c 1000000 /dev/zero >&2", block) == (
        0,
        bytes(1_000_000) + block,
        bytes(1_000_000),
    )


def test_a_program_can_be_started_before_its_input_is_known() -> None:
    process = Process(["/bin/cat"], None)
    process.feed(b"late")
    assert process.wait().output == b"late"


def test_input_for_a_program_that_has_ended_already() -> None:
    process = Process(["/bin/sh", "-c", "exit 4"], None)
    os.waitid(os.P_PID, process._pid, os.WEXITED | os.WNOWAIT)
    process.feed(bytes(1 << 20))
    assert process.wait().status == 4


def test_no_descriptor_is_left_open() -> None:
    before = n_open_files()
    shell("true")
    with pytest.raises(FileNotFoundError):
        run(["/nowhere/program"])
    process = Process(["/bin/cat"], None)
    process.feed(b"")
    process.wait()
    assert n_open_files() == before


def n_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_refused_transaction_tells_program_and_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_program("nft") is None:
        pytest.skip("needs nft: apt-get install nftables")
    with pytest.raises(
        FirewallError, match=r"^running \[/.*/nft -f -\]: exit status 1: /dev/stdin:1:9-9: Error: syntax error"
    ):
        Transaction(["nft", "-f", "-"], "nonsense").wait()
    monkeypatch.setattr("cni.lib.firewall.find_program", {}.get)
    with pytest.raises(Exception, match=r"^nft is not installed"):
        Transaction(["nft", "-f", "-"])
