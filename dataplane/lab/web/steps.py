"""Stepping through a node's engine from the page: what `udplane lab step` does, over a websocket.

Node and page speak as `lab.stepping` describes; a step goes to the page with its packet dissected, as those of a
recording are. When the websocket closes, the node goes on by itself.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from dataplane.lab import stepping
from dataplane.lab.recording import RECORDED, Check, Packet
from dataplane.lab.view import NodePlace

WORDS = ("step", "packet")
MAX_LINE = 1 << 20
"""Characters of a step: the hex of a super-packet, and what a lookup has compared."""


async def serve(socket: WebSocket, node: NodePlace) -> None:
    """Show steps in the page until the page, or the node, has enough."""
    try:
        connection = await asyncio.to_thread(stepping.connect, node.run_dir)
    except OSError as error:
        await socket.send_json({"error": f"{node.name} cannot be stepped ({error.strerror}): udplane lab up --step"})
        await socket.close()
        return
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE)
    tasks = [asyncio.create_task(_to_page(reader, socket)), asyncio.create_task(_from_page(socket, writer))]
    try:
        await socket.send_json({"ready": node.name})
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()
        with suppress(RuntimeError, WebSocketDisconnect):
            await socket.close()


async def _to_page(reader: asyncio.StreamReader, socket: WebSocket) -> None:
    with suppress(ValueError, OSError):
        while line := await reader.readline():
            await socket.send_json(shown(json.loads(line)))


async def _from_page(socket: WebSocket, writer: asyncio.StreamWriter) -> None:
    with suppress(WebSocketDisconnect, OSError):
        while (word := await socket.receive_text()) in WORDS:
            writer.write(f"{word}\n".encode())
            await writer.drain()


def shown(document: dict[str, Any]) -> dict[str, Any]:
    """A step of a node as the page takes it."""
    name, args = str(document["step"]), dict(document["args"])
    check = Check("lower6" if name == "lower" and args.get("version") == 6 else name, bool(document["ok"]), args)
    packet = Packet("ip", bytes.fromhex(document["packet"]), RECORDED)
    return {"check": {"name": check.name, "ok": check.ok, "args": check.args}, "packet": packet.document()}
