"""The node's log: one line an event, whatever is in it."""

import json
import logging
import os
import re
from collections.abc import Iterator

import pytest

from dataplane import logs

NASTY = "two\nlines\tand \u2028 more"


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    root = logging.getLogger("dataplane")
    before = root.handlers, root.level, root.propagate
    yield logging.getLogger("dataplane.test")
    root.handlers, root.level, root.propagate = before


def test_text_for_people(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text")
    log.warning("the store %s", NASTY)
    (line,) = capsys.readouterr().err.splitlines()
    stamp, level, message = line.split(maxsplit=2)
    assert (len(stamp), stamp[-1], level) == (24, "Z", "WARN")
    assert message == "the store two lines and more"


def test_json_for_programs(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    log.error("the store %s", NASTY)
    (line,) = capsys.readouterr().err.splitlines()
    document = json.loads(line)
    assert (document["level"], document["logger"]) == ("error", "dataplane.test")
    assert document["message"] == "the store two lines and more"


def test_klog_for_who_reads_flanneld(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("klog")
    log.warning("the store %s", NASTY)
    (line,) = capsys.readouterr().err.splitlines()
    header = (
        r"W[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6} +([0-9]+) test_logs\.py:[0-9]+\] the store two lines and more"
    )
    match = re.fullmatch(header, line)
    assert match is not None
    assert int(match[1]) == os.getpid()


def test_an_exception_stays_on_its_line(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: why" in line


def test_debug_is_not_logged(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text")
    log.debug("nothing")
    assert capsys.readouterr().err == ""
