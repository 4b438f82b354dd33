"""The node's log: one line an event on stderr, for people, as JSON, or as Kubernetes' programs write it (klog)."""

import json
import logging
import os
import sys
import threading
import time
import traceback

_log = logging.getLogger(__name__)

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
    logging.root.handlers = [handler]  # libraries have theirs there, which would show tracebacks over many lines
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("dataplane").setLevel(logging.INFO)
    logging.raiseExceptions = False  # where memory or disk is too short for a line there is none
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_thread_end


def _log_unraisable(ignored: "sys.UnraisableHookArgs") -> None:
    """Python goes on; such as when memory or descriptors were short while something was made, and is now unmade."""
    _log.warning("ignored in %s: %s: %s", ignored.object, type(ignored.exc_value).__name__, ignored.exc_value)


def _log_thread_end(ended: threading.ExceptHookArgs) -> None:
    name = ended.thread.name if ended.thread is not None else "one"
    _log.error("the thread %s has ended: %s: %s", name, type(ended.exc_value).__name__, ended.exc_value)


def _timestamp(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        message += f" [{_described(record.exc_info[1])}]"
    return " ".join(message.split())


def _described(error: BaseException) -> str:
    """What kind of exception it was, what it says, and the line of code that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
