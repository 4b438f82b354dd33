"""The golden packets, written anew from their scapy expressions.

python -m tests.vectors.golden        fill in every input_hex and output_hex
"""

import re

from dataplane.lab.golden_packets import FILE, SUBNET4, SUBNET6, Case, load

__all__ = ["FILE", "SUBNET4", "SUBNET6", "Case", "evaluate", "load", "write_hex"]


def evaluate(expression: str, packet: bytes = b"") -> bytes:
    """The bytes that a scapy expression makes; `packet` is what it may quote."""
    import scapy.all

    return bytes(eval(expression, vars(scapy.all) | {"packet": packet}))


def write_hex(text: str) -> str:
    """The text of a packets file with all hex lines made from the expression above them."""
    made = {"input": b"", "output": b""}
    lines = []
    for line in text.splitlines():
        if match := re.fullmatch(r"(input|output) = '(.*)'", line):
            made[match[1]] = evaluate(match[2], made["input"])
        elif match := re.match(r"(input|output)_hex = ", line):
            line = f'{match[1]}_hex = "{made[match[1]].hex()}"'
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(write_hex(FILE.read_text()))
