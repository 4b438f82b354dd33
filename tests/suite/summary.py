"""What the end of a run tells besides its failures, a pytest plugin: how many tests were skipped for which reason."""

from __future__ import annotations

from collections import Counter

import pytest
from _pytest.terminal import TerminalReporter


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """A line for each reason, the most frequent first."""
    reasons = Counter(reason(report) for report in terminalreporter.stats.get("skipped", ()))
    if reasons:
        terminalreporter.section(f"{reasons.total()} skipped")
        for text, count in reasons.most_common():
            terminalreporter.line(f"{count:5}  {text}")


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test, or a whole file, was skipped."""
    told = report.longrepr
    return told[2].removeprefix("Skipped: ") if isinstance(told, tuple) else str(told)
