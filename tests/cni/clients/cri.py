"""The few calls of the Container Runtime Interface (runtime.v1) with which a kubelet makes and removes pods.

Protocol buffers by hand: a message is a list of (field number, value), where a value is an int, a string, or a message
again. Field numbers are those of kubernetes' cri-api, pkg/apis/runtime/v1/api.proto.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

Message = list[tuple[int, Any]]

VARINT, LENGTH = 0, 2


def encode(message: Message) -> bytes:
    """The wire form; integers and booleans as varints, strings and messages with their length before them."""
    out = bytearray()
    for number, value in message:
        if isinstance(value, int):
            out += varint(number << 3 | VARINT) + varint(value)
            continue
        content = value.encode() if isinstance(value, str) else encode(value)
        out += varint(number << 3 | LENGTH) + varint(len(content)) + content
    return bytes(out)


def varint(value: int) -> bytes:
    """Base-128, least significant group first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(data: bytes, *path: int) -> bytes:
    """The content of the first length-delimited field at `path`, from the outermost message inwards; b"" if absent."""
    for number in path:
        data = next((content for found, content in length_fields(data) if found == number), b"")
    return data


def length_fields(data: bytes) -> Iterable[tuple[int, bytes]]:
    """The (number, content) of a message's strings and messages; its integers are skipped."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        size, at = read_varint(data, at)  # for an integer, this was its value
        if tag & 7 == LENGTH:
            yield tag >> 3, data[at : at + size]
            at += size


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at `at`, and where the next field starts."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


class RuntimeService:
    """A connection to a container runtime's CRI socket. Errors are grpc.RpcError, with the runtime's own text."""

    def __init__(self, socket_path: str) -> None:
        import grpc  # a test dependency: without it the tests skip

        self._channel = grpc.insecure_channel(f"unix:{socket_path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._channel.close()

    def call(self, method: str, request: Message, timeout: float = 60) -> bytes:
        """One request, its response undecoded. Waits for the socket to appear."""
        invoke = self._channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        response: bytes = invoke(encode(request), timeout=timeout, wait_for_ready=True)
        return response

    def run_pod(self, name: str, ports: list[tuple[int, int]]) -> str:
        """Make a pod that publishes (host port, container port) over TCP; its sandbox ID."""
        metadata: Message = [(1, name), (2, f"uid-{name}"), (3, "default"), (4, 0)]
        mappings = [(5, [(1, 0), (2, container), (3, host)]) for host, container in ports]
        config: Message = [(1, metadata), (2, name), (3, f"/run/log/{name}"), *mappings, (8, [])]
        return field(self.call("RunPodSandbox", [(1, config)]), 1).decode()

    def pod_address(self, sandbox: str) -> str:
        """The pod's first IP address."""
        return field(self.call("PodSandboxStatus", [(1, sandbox)]), 1, 5, 1).decode()

    def remove_pod(self, sandbox: str) -> None:
        """Stop and remove, as the kubelet does; each of the two runs the plugins' DEL."""
        self.call("StopPodSandbox", [(1, sandbox)])
        self.call("RemovePodSandbox", [(1, sandbox)])
