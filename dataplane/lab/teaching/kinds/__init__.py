"""The kinds of checks, by the name that an exercise calls them. To add one, add a `Kind` to one of these tables."""

from collections.abc import Mapping

from dataplane.lab.strict_toml import Section
from dataplane.lab.teaching.kinds import answers, engines, hosts, nodes, packets
from dataplane.lab.teaching.kinds.base import Check, Kind

KINDS: Mapping[str, Kind] = {**packets.KINDS, **hosts.KINDS, **nodes.KINDS, **engines.KINDS, **answers.KINDS}


def read(section: Section) -> Check:
    """A check from its table in a file. Raises ConfigError."""
    if "kind" not in section:
        raise section.wrong("kind", f"is needed; there are {', '.join(KINDS)}")
    name = section.choice("kind", "", tuple(KINDS))
    say, look = section.text("say"), section.text("look")
    values = KINDS[name].read(section)
    section.done()
    return Check(name, KINDS[name], say, look, values, section.place())
