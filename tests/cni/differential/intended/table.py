"""What udplane's plugins do otherwise than the official ones on purpose, each with its reason.

An entry covers the differences whose case, step and path match its patterns (fnmatch) and whose value on udplane's side
matches `ours` (a regular expression, searched in the value's text). The run fails on a difference that no entry covers,
and on an entry that covers nothing. The oracle is containernetworking-plugins 1.9.1; what 1.1.1 does otherwise stands
in old.py.
"""

from __future__ import annotations

from tests.cni.differential.intended.chained import CHAINED
from tests.cni.differential.intended.entry import Intended
from tests.cni.differential.intended.node import NODE
from tests.cni.differential.intended.podlinks import POD_LINKS
from tests.cni.differential.intended.routing import ROUTING
from tests.cni.differential.twin import Difference

INTENDED: tuple[Intended, ...] = (*NODE, *CHAINED, *POD_LINKS, *ROUTING)


def explain(difference: Difference, table: tuple[Intended, ...] = INTENDED) -> Intended | None:
    """The entry that covers a difference, if there is one."""
    return next((entry for entry in table if entry.covers(difference)), None)
