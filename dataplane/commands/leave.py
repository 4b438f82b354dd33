"""`udplane leave`: give the lease back and take away all that the node left on the host.

A running node is stopped first, so there is one way to leave, whether it runs or not: from the record in its run
directory. Kernel parameters such as ip_forward stay, since others may have come to rely on them.
"""

import argparse
import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dataplane.commands.with_node import add_run_dir
from dataplane.errors import NodeError, UdplaneError
from dataplane.kernel import firewall
from dataplane.kernel.netns import current_netns, enter_netns_of
from dataplane.kernel.removal import remove_leftovers
from dataplane.node.control import ControlClient
from dataplane.node.run_directory import NodeRecord, RunDirectory
from dataplane.stores.registry import open_store

_STOP_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which node, and what its record does not hold."""
    add_run_dir(parser)
    parser.add_argument(
        "--etcd-password", default="", metavar="PASSWORD", help="etcd: password, which no node writes down"
    )


def run(namespace: argparse.Namespace) -> int:
    """Leave, and print what was done."""
    password = os.environ.get("UDPLANE_ETCD_PASSWORD", os.environ.get("FLANNELD_ETCD_PASSWORD", ""))
    for line in leave(namespace.run_dir, namespace.etcd_password or password):
        print(line, flush=True)
    return 0


def leave(run_dir: Path, etcd_password: str = "") -> Iterator[str]:
    """Leave for good, saying line by line what was done. A second call finds nothing to do.

    When the store is out of reach the host is cleaned up all the same, then NodeError says that the lease stays until
    it expires, and leaving may be tried again.
    """
    directory = RunDirectory(run_dir)
    if _stop_running_node(directory):
        yield "stopped the node"
    if not run_dir.is_dir():
        yield f"no node has run with {run_dir}; nothing to do"
        return
    with directory.locked(_STOP_SECONDS):
        record = directory.recall()
        if record is None:
            yield f"the node of {run_dir} has no lease; nothing to give back"
        else:
            if record.netns != current_netns():
                raise NodeError(f"the node of {run_dir} ran in another network namespace; run `udplane leave` there")
            yield from _clean_host(record)
            yield _release(record, etcd_password)
        directory.forget()


def _stop_running_node(directory: RunDirectory) -> bool:
    """Stop the node, if one runs, after moving into its network namespace."""
    if not directory.control_socket.exists():
        return False
    client = ControlClient(directory.control_socket)
    try:
        enter_netns_of(client.process_id())
        client.request("POST", "/v1/stop")
    except NodeError:
        if _is_running(directory):
            raise
        return False
    return True


def _is_running(directory: RunDirectory) -> bool:
    with contextlib.suppress(NodeError), directory.locked():
        return False
    return True


def _clean_host(record: NodeRecord) -> Iterator[str]:
    """The subnet file and devices, then the rules, which let pods' packets pass until the last."""
    yield from remove_leftovers(record.leftovers)
    firewall.remove_rules()
    yield "removed the firewall rules"


def _release(record: NodeRecord, etcd_password: str) -> str:
    async def release() -> None:
        store = open_store(record.store, replace(record.store_options, etcd_password=etcd_password))
        try:
            await store.release(record.lease)
        finally:
            await store.close()

    try:
        asyncio.run(release())
    except UdplaneError as error:
        raise NodeError(
            f"the host is clean, but the lease of {record.lease.subnets} could not be given back: {error}; "
            "try `udplane leave` again, or it returns to the pool when it expires"
        ) from error
    return f"gave back the lease of {record.lease.subnets}"
