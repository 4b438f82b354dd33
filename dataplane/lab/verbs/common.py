"""What verbs share: how a lab is named on the command line."""

import argparse


def add_lab(parser: argparse.ArgumentParser) -> None:
    """For a verb about one lab."""
    parser.add_argument(
        "--lab", metavar="NAME", help="which lab, where several stand (default: UDPLANE_LAB, or the one)"
    )
