"""What a node of a lab says about itself."""

from __future__ import annotations

from dataplane.lab.view import NodePlace
from dataplane.node.control import ControlClient
from dataplane.node.document import StatusDocument
from dataplane.node.run_directory import RunDirectory


def ask_status(node: NodePlace) -> StatusDocument:
    """Ask its udplane. Raises NodeError when that does not answer."""
    return ControlClient(RunDirectory(node.run_dir).control_socket).status()
