"""The node's log: one line an event on stderr, for people, as JSON, or as Kubernetes' programs write it (klog)."""

import json
import logging
import os
import sys
import time

_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}


class TextFormatter(logging.Formatter):
    """`2026-11-24T02:10:11.042Z WARN  the store is out of reach`; line breaks become blanks."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        level = _LEVELS.get(record.levelname, record.levelname)
        return f"{_timestamp(record)} {level:5} {_message(record)}"


class JsonFormatter(logging.Formatter):
    """`{"time": ..., "level": ..., "logger": ..., "message": ...}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        level = _LEVELS.get(record.levelname, record.levelname).lower()
        line = {"time": _timestamp(record), "level": level, "logger": record.name, "message": _message(record)}
        return json.dumps(line)


class KlogFormatter(logging.Formatter):
    """`W1124 02:10:11.042000    5522 membership.py:174] the store is out of reach`: flanneld's form, in local time."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        level = {"CRITICAL": "F"}.get(record.levelname, record.levelname[0])
        clock = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        microseconds = int(record.created % 1 * 1e6)
        source = f"{record.filename}:{record.lineno}"
        return f"{level}{clock}.{microseconds:06} {os.getpid():7} {source}] {_message(record)}"


STYLES: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter, "klog": KlogFormatter}


def configure(style: str) -> None:
    """Log everything from INFO up to stderr, in one of the STYLES."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(STYLES[style]())
    root = logging.getLogger("dataplane")
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False


def _timestamp(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.exc_info:
        message += f" [{logging.Formatter().formatException(record.exc_info)}]"
    return " ".join(message.split())
