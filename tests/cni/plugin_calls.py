"""Run a plugin without a process: the dispatcher in this one, on a configuration and an environment."""

from __future__ import annotations

import json
from typing import Any

from cni.lib.registry import load_plugin
from cni.lib.skel import Outcome, run

NO_SUCH_NETNS = "/run/netns/there-is-none-of-this-name"


def environment(verb: str, **overrides: str) -> dict[str, str]:
    """The CNI_* variables of a call; an empty override leaves the variable out."""
    env = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": NO_SUCH_NETNS,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/nowhere",
    }
    return {key: value for key, value in (env | overrides).items() if value}


def call(plugin: str, verb: str, conf: Any, **overrides: str) -> Outcome:
    """The outcome of a call; `conf` is an object, or the bytes of standard input."""
    stdin = conf if isinstance(conf, bytes) else json.dumps(conf).encode()
    return run(load_plugin(plugin), environment(verb, **overrides), lambda: stdin)


def failure(outcome: Outcome) -> dict[str, Any]:
    """The error object of a call that must have failed."""
    assert outcome.status == 1, outcome.output
    error: dict[str, Any] = json.loads(outcome.output)
    return error


def success(outcome: Outcome) -> dict[str, Any]:
    """The result of a call that must have succeeded; empty for a verb that prints none."""
    assert outcome.status == 0, outcome.output
    result: dict[str, Any] = json.loads(outcome.output or "{}")
    return result
