"""`udplane lab`: a network of namespaces to learn in, without root.

A thin table: each verb is a module of `dataplane.lab.verbs` with HELP, `add_arguments` and `run`. Only the one that is
called is imported; adding one is adding its module and its name here.
"""

import argparse
import importlib
import importlib.util
from collections.abc import Iterable, Iterator
from typing import Any

GROUPS = {
    "labs": ("up", "list", "status", "down"),
    "inside": ("exec", "shell", "walk", "inject", "capture", "transfer", "step", "web"),
    "exercises": ("golden", "start", "check", "hint", "solve", "reset", "report"),
}
"""The verbs, in the order of the help."""

EXAMPLES = """examples:
  udplane lab up                        two nodes and four pods
  udplane lab exec pod1 ping -c 1 pod3  a command in a pod
  udplane lab shell node1               look around on a node
  udplane lab up routers --lab two      another one beside it
  udplane lab down                      and nothing is left
"""


class Verb(argparse.ArgumentParser):
    """The parser of one verb, which fetches the verb's module when it is called."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, once the verb has said what it takes."""
        if self.get_default("run") is None:
            module = importlib.import_module(f"dataplane.lab.verbs.{self.prog.rpartition(' ')[2]}")
            self.description = module.HELP
            module.add_arguments(self)
            self.set_defaults(run=module.run)
        return super().parse_known_args(args, namespace)


class _Overview(argparse.HelpFormatter):
    """Shows the verbs in groups, each with its line, in place of whatever there is to format."""

    def format_help(self) -> str:
        """The overview."""
        return overview()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs that there are."""
    parser.formatter_class = _Overview
    verbs = parser.add_subparsers(prog="udplane lab", metavar="VERB", required=True, parser_class=Verb)
    for name in _there(name for names in GROUPS.values() for name in names):
        verbs.add_parser(name, allow_abbrev=False)


def run(namespace: argparse.Namespace) -> int:
    """Never called: each verb says what runs."""
    raise AssertionError(namespace)


def overview() -> str:
    """What `udplane lab --help` prints."""
    lines = ["usage: udplane lab VERB ...; udplane lab VERB --help", ""]
    for group, names in GROUPS.items():
        lines += [f"{group}:", *(f"  {name:10}{_help(name)}" for name in _there(names)), ""]
    return "\n".join([*lines, EXAMPLES])


def _help(name: str) -> str:
    return str(importlib.import_module(f"dataplane.lab.verbs.{name}").HELP)


def _there(names: Iterable[str]) -> Iterator[str]:
    """Those of the verbs whose module is installed."""
    return (name for name in names if importlib.util.find_spec(f"dataplane.lab.verbs.{name}"))
