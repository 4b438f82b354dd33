"""The requests that the page of a standing lab makes, and what answers each.

    GET    /                            the page, with the lab and all texts in it
    GET    /static/...                  its scripts and styles
    GET    /api/lab                     what stands
    GET    /api/live                    counters
    GET    /api/walks, /api/walks/NAME  recorded walks of this lab
    POST   /api/walks                   walk now: {"from": "pod1", "to": "pod4", "proto": "icmp", "size": 56}
    GET    /api/captures                captures that run
    POST   /api/captures                start one: {"where": "node1", "device": "eth0"}
    GET    /api/captures/N?after=K      its packets behind number K
    GET    /api/captures/N.pcapng       all that it has kept
    DELETE /api/captures/N
    GET    /api/exercises               as `udplane lab start --json`
    POST   /api/exercises/N/VERB        check and hint; start, solve and reset, after which the server is another one
    GET    /api/engines/NODE            packets to try its engine with
    POST   /api/engines/NODE            a packet through all three engines: {"hex": "45...", "way": "encap"}
    POST   /api/backends                the same ping by every backend of the lab
    GET    /engine/...                  what judges an engine, for Python in the page, and Pyodide if it is there
    WS     /ws/terminals/PLACE          a shell there
    WS     /ws/steps/NODE               its engine, step by step

An error is `{"error": "one sentence"}`.
"""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from dataplane.errors import UdplaneError
from dataplane.lab.netns import LabError
from dataplane.lab.view import LabView
from dataplane.lab.walking.recorder import lab_document
from dataplane.lab.web import assets, backends, compare, outside, samples, shells, steps, without_linux
from dataplane.lab.web.captures import Captures
from dataplane.lab.web.engine import Engine
from dataplane.lab.web.guard import MAX_BODY, TooLargeError
from dataplane.lab.web.live import snapshot
from dataplane.lab.web.tasks import Tasks, wish
from dataplane.lab.web.terminals import Terminals

DRAIN_SECONDS = 0.25
PACKETS_AT_ONCE = 200
WALK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}")

Answer = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Page:
    """What the page works on. Without `directory` no lab stands, and the page shows what needs none."""

    directory: Path | None
    recording: dict[str, Any] | None = None
    engine: Engine = field(default_factory=Engine)
    tasks: Tasks = field(default_factory=Tasks)
    captures: Captures = field(default_factory=Captures)
    terminals: Terminals = field(default_factory=Terminals)
    wishes: int | None = None
    """Where to write what the half outside is to do; None where there is none (see `outside`)."""
    note: str = ""
    """What became of the last wish, when that has to be told."""
    leave: Callable[[], None] = lambda: None
    """Ends the server."""

    def view(self) -> LabView:
        """What stands now. Raises LabError."""
        if self.directory is None:
            raise LabError("no lab stands behind this page; `udplane lab up`, then `udplane lab web`")
        return LabView.read(self.directory)

    def boot(self) -> dict[str, Any]:
        """What the page starts with."""
        lab = exercises = None
        if self.directory is not None:
            lab = lab_document(self.view())
        else:
            exercises = without_linux.exercises()
        shown = {"lab": lab, "recording": self.recording, "engine": self.engine.description(), "note": self.note}
        return {**shown, "exercises": exercises, "words": assets.words()}

    # ---- the page and its parts

    async def index(self, _: Request) -> Response:
        """The page."""
        return HTMLResponse(await run_in_threadpool(lambda: assets.page(self.boot())))

    async def static(self, request: Request) -> Response:
        """A script or a style sheet."""
        found = assets.static_file(request.path_params["path"])
        if found is None:
            return _error(404, "the page has no such file")
        return Response(found[0], media_type=found[1])

    async def engine_file(self, request: Request) -> Response:
        """A file for Python in the page."""
        found = await run_in_threadpool(self.engine.file, request.path_params["path"])
        if found is None:
            return _error(404, "there is no such file; `udplane lab web --pyodide DIR` names where Pyodide lies")
        return Response(found[0], media_type=found[1])

    # ---- the lab

    async def lab(self, _: Request) -> Response:
        """What stands."""
        return JSONResponse(lab_document(await run_in_threadpool(self.view)))

    async def live(self, _: Request) -> Response:
        """Counters of everything."""
        return JSONResponse(await run_in_threadpool(lambda: snapshot(self.view())))

    async def walks(self, request: Request) -> Response:
        """The recorded walks of this lab, the newest first; or one more, made now."""
        if request.method == "POST":
            return JSONResponse(await self.tasks.walk(await _body(request)))
        return JSONResponse({"walks": [file.stem for file in await run_in_threadpool(self._walk_files)]})

    async def walk(self, request: Request) -> Response:
        """One of them."""
        name = request.path_params["name"]
        files = {file.stem: file for file in await run_in_threadpool(self._walk_files)}
        if not WALK_NAME.fullmatch(name) or name not in files:
            return _error(404, f"no walk called {name} was recorded in this lab")
        return Response(await run_in_threadpool(files[name].read_bytes), media_type="application/json")

    def _walk_files(self) -> list[Path]:
        directory = Path(self.view().directory, "walks")
        files = [file for file in directory.glob("*.json") if file.is_file() and not file.is_symlink()]
        return sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)[:100]

    # ---- captures

    async def all_captures(self, request: Request) -> Response:
        """Those that run, and one more."""
        if request.method == "POST":
            wish = await _body(request)
            where, device = str(wish.get("where", "")), str(wish.get("device", ""))
            started = await run_in_threadpool(lambda: self.captures.start(self.view(), where, device))
            return JSONResponse(started.summary())
        self.captures.drain()
        return JSONResponse({"captures": [capture.summary() for capture in self.captures.all()]})

    async def capture(self, request: Request) -> Response:
        """One capture's packets, or its end."""
        number = request.path_params["number"]
        if request.method == "DELETE":
            self.captures.stop(number)
            return JSONResponse({})
        after = request.query_params.get("after", "0")
        capture = self.captures.get(number)
        packets = capture.packets(int(after) if after.isdecimal() else 0, PACKETS_AT_ONCE)
        return JSONResponse({**capture.summary(), "list": packets})

    async def capture_file(self, request: Request) -> Response:
        """One capture as a file."""
        capture = self.captures.get(request.path_params["number"])
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{capture.where}-{capture.device}.pcapng")
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(capture.pcapng(), media_type="application/x-pcapng", headers=headers)

    # ---- exercises and terminals

    async def exercises(self, _: Request) -> Response:
        """Every exercise."""
        return JSONResponse(await self.tasks.exercises())

    async def exercise(self, request: Request) -> Response:
        """Do something with one."""
        number, verb, options = request.path_params["number"], request.path_params["verb"], await _body(request)
        if verb not in outside.VERBS:
            return JSONResponse(await self.tasks.exercise(number, verb, options))
        if self.wishes is None:
            raise LabError(f"this page cannot {verb} an exercise, since it was not started outside of the lab")
        await run_in_threadpool(os.write, self.wishes, json.dumps(wish(number, verb, options)).encode() + b"\n")
        self.leave()
        return JSONResponse({"again": True})

    # ---- engines

    async def engines(self, request: Request) -> Response:
        """Packets to try the engine of a node with; or what all three engines make of one."""
        name = request.path_params["node"]
        if request.method == "POST":
            asked = compare.question(await _body(request))
            return JSONResponse(await run_in_threadpool(lambda: compare.compare(self.view().node(name), asked)))
        view = await run_in_threadpool(self.view)
        return JSONResponse({"samples": samples.samples(view, view.node(name))})

    async def backends(self, _: Request) -> Response:
        """The same ping by every backend of the lab."""
        return JSONResponse(await run_in_threadpool(lambda: backends.side_by_side(self.view())))

    async def steps(self, socket: WebSocket) -> None:
        """The engine of a node, step by step."""
        await socket.accept()
        try:
            node = await run_in_threadpool(lambda: self.view().node(socket.path_params["node"]))
        except UdplaneError as error:
            await socket.send_json({"error": str(error)})
            await socket.close()
            return
        await steps.serve(socket, node)

    async def terminal(self, socket: WebSocket) -> None:
        """A shell at a place."""
        await socket.accept()
        try:
            argv, environment = await run_in_threadpool(lambda: shells.shell(self.view(), socket.path_params["place"]))
        except UdplaneError as error:
            await socket.send_text(str(error))
            await socket.close()
            return
        await self.terminals.serve(socket, argv, environment)

    # ---- all of it

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Keep the captures' sockets empty as long as the server runs, and end them with it."""

        async def draining() -> None:
            while True:
                await asyncio.sleep(DRAIN_SECONDS)
                self.captures.drain()

        task = asyncio.create_task(draining())
        try:
            with self.captures:
                yield
        finally:
            task.cancel()

    def app(self) -> Starlette:
        """The ASGI application, without its guard."""
        return Starlette(
            routes=[
                Route("/", self.index),
                Route("/static/{path:path}", self.static),
                Route("/engine/{path:path}", self.engine_file),
                Route("/api/lab", _guarded(self.lab)),
                Route("/api/live", _guarded(self.live)),
                Route("/api/walks", _guarded(self.walks), methods=["GET", "POST"]),
                Route("/api/walks/{name}", _guarded(self.walk)),
                Route("/api/captures", _guarded(self.all_captures), methods=["GET", "POST"]),
                Route("/api/captures/{number:int}.pcapng", _guarded(self.capture_file)),
                Route("/api/captures/{number:int}", _guarded(self.capture), methods=["GET", "DELETE"]),
                Route("/api/exercises", _guarded(self.exercises)),
                Route("/api/exercises/{number}/{verb}", _guarded(self.exercise), methods=["POST"]),
                Route("/api/engines/{node}", _guarded(self.engines), methods=["GET", "POST"]),
                Route("/api/backends", _guarded(self.backends), methods=["POST"]),
                WebSocketRoute("/ws/terminals/{place}", self.terminal),
                WebSocketRoute("/ws/steps/{node}", self.steps),
            ],
            lifespan=self.lifespan,
        )


def _guarded(answer: Answer) -> Answer:
    """`answer`, whose errors become sentences."""

    async def answering(request: Request) -> Response:
        try:
            return await answer(request)
        except TooLargeError:
            return _error(413, f"a request has {MAX_BODY} bytes at most")
        except UdplaneError as error:
            return _error(409, str(error))
        except OSError as error:
            return _error(409, f"{error.filename or 'the lab'}: {error.strerror}")

    return answering


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object in a request; empty where there is none. Raises LabError for anything else."""
    body = await request.body()
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise LabError("the request's body is no JSON") from error
    if not isinstance(document, dict):
        raise LabError("the request's body is no JSON object")
    return document


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)
