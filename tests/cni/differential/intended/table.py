"""What udplane's plugins do otherwise than the official ones on purpose, each with its reason.

An entry covers the differences whose case, step and path match its patterns (fnmatch) and whose value on udplane's side
matches `ours` (a regular expression, searched in the value's text). The run fails on a difference that no entry covers,
and on an entry that covers nothing. The oracle is Debian 12's containernetworking-plugins 1.1.1; where a later official
release already does what udplane does, the reason says so.
"""

from __future__ import annotations

from tests.cni.differential.intended.chained import CHAINED
from tests.cni.differential.intended.entry import Intended
from tests.cni.differential.intended.node import NODE
from tests.cni.differential.twin import Difference

INTENDED: tuple[Intended, ...] = (*NODE, *CHAINED)


def explain(difference: Difference) -> Intended | None:
    """The entry that covers a difference, if there is one."""
    return next((entry for entry in INTENDED if entry.covers(difference)), None)
