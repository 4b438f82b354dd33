"""The node's log: one line an event on stderr, for people or as JSON for log shippers."""

import json
import logging
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


def configure(style: str) -> None:
    """Log everything from INFO up to stderr, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
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
