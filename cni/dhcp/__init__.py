"""dhcp: addresses from a DHCP server, as an IPAM plugin and a daemon.

The plugin itself lives only for the moment of a call and keeps nothing: it hands ADD, DEL and CHECK over to the
daemon (`dhcp daemon`), which talks to the server and renews the lease for as long as the pod lives.

    plugin -- rpc (gob) --> daemon -- attachment -- client (state machine) -- message, lease
                              |           |
                              loop        interface (packet sockets in the pod), records (files)

Plugin and daemon speak the official ones' protocol, so either can be exchanged by itself.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping

from cni.dhcp import rpc
from cni.dhcp.gob import Value
from cni.dhcp.records import DEFAULT_SOCKET_PATH, record_directory
from cni.lib.errors import PLUGIN_NOT_AVAILABLE, CniError, describe
from cni.lib.skel import Attachment, Call, Plugin
from cni.lib.skel import main as plugin_main
from cni.lib.types import Result


def add(call: Call) -> Result:
    """Have the daemon get a lease for the pod's interface."""
    return _allocate(call)


def check(call: Call) -> None:
    """The daemon has to hold a lease still, for the address that ADD gave (where the runtime tells it)."""
    result = _allocate(call)
    previous = call.prev_result()
    if previous is not None:
        given = [config.address for config in previous.ips]
        for config in result.ips:
            if config.address not in given:
                raise CniError(f"dhcp: the lease is now for {config.address}, which the pod was not given")


def delete(call: Call) -> None:
    """Have the daemon give the lease back; one that it does not hold is no error. Without a daemon, do it here."""
    _release(call, call.container_id, call.ifname)


def gc(call: Call) -> None:
    """Release the leases of this network's attachments that the runtime does not list."""
    valid = call.valid_attachments()
    if valid is None:
        return
    problems = []
    for record in record_directory(_socket_path(call)).load():
        if record.network == call.name and Attachment(record.container_id, record.ifname) not in valid:
            try:
                _release(call, record.container_id, record.ifname)
            except CniError as error:
                problems.append(error.msg)
    if problems:
        raise CniError("; ".join(problems))


def status(call: Call) -> None:
    """Ready when the daemon listens."""
    try:
        _connect(_socket_path(call)).close()
    except CniError as error:
        raise CniError(error.msg, PLUGIN_NOT_AVAILABLE, "start it with: dhcp daemon") from None


def _allocate(call: Call) -> Result:
    connection = _connect(_socket_path(call))
    return rpc.read_result(_converse(connection, call, rpc.ALLOCATE, call.container_id, call.ifname))


def _release(call: Call, container_id: str, ifname: str) -> None:
    try:
        connection = _connect(_socket_path(call))
    except CniError:
        from cni.dhcp.attachment import release_recorded

        release_recorded(record_directory(_socket_path(call)), (container_id, call.name, ifname))
        return
    _converse(connection, call, rpc.RELEASE, container_id, ifname)


def _converse(
    connection: socket.socket, call: Call, method: str, container_id: str, ifname: str
) -> Mapping[str, Value]:
    """Make one call to the daemon and wait for its result. Raises CniError with the official plugin's texts."""
    netns = os.path.abspath(call.netns)  # the daemon may run in another directory
    client = rpc.Client(
        method,
        {
            "ContainerID": container_id,
            "Netns": netns,
            "IfName": ifname,
            "Args": call.args,
            "Path": call.env.get("CNI_PATH", ""),
            "StdinData": call.stdin,
        },
    )
    with connection:
        try:
            connection.sendall(client.greeting)
            while client.result is None:
                data = connection.recv(65536)
                if not data:
                    raise rpc.RpcError("unexpected EOF")
                connection.sendall(client.feed(data))
        except (rpc.RpcError, OSError) as error:
            raise CniError(f"error calling {method}: {describe(error)}") from None
    return client.result


def _connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        problem = f"dial unix {path}: connect: {describe(error)}"
        raise CniError(f"error dialing DHCP daemon: {problem}") from None
    return connection


def _socket_path(call: Call) -> str:
    ipam = call.fields().child("ipam", "IPAMConfig")
    return ipam.file_name("daemonSocketPath", DEFAULT_SOCKET_PATH) if ipam else DEFAULT_SOCKET_PATH


PLUGIN = Plugin("dhcp", add=add, delete=delete, check=check, gc=gc, status=status)


def main() -> None:
    """Be the plugin's process, or, as `dhcp daemon`, the daemon's."""
    if sys.argv[1:2] == ["daemon"]:
        from cni.dhcp.command import main as daemon_main

        raise SystemExit(daemon_main(sys.argv[2:]))
    plugin_main(PLUGIN)
