"""`udplane lab web`: the page of a lab.

One half of it stays outside of the lab: it makes socket and token, prints the address, opens a browser. The other
half serves inside, on that socket (see `lab.web.outside`).
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dataplane.errors import UsageError
from dataplane.lab.inside import enter
from dataplane.lab.netns import LabError
from dataplane.lab.state import Lab, find
from dataplane.lab.verbs.common import add_lab
from dataplane.lab.web import outside

HELP = "the page of the lab on 127.0.0.1; or a recorded walk as a page on disk"

BROWSERS = ("wslview", "xdg-open", "open")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("recording", nargs="?", type=Path, metavar="RECORDING", help="a walk to show, from walk --save")
    add_lab(parser)
    parser.add_argument("--port", type=int, default=0, metavar="N", help="the port on 127.0.0.1; without it a free one")
    parser.add_argument("--no-open", action="store_true", help="print the address, and open no browser")
    parser.add_argument("--without-linux", action="store_true", help="serve what needs no lab: recordings, your engine")
    parser.add_argument("--pyodide", type=Path, metavar="DIR", help="where Pyodide lies, Python for browsers")
    parser.add_argument(
        "--export", type=Path, metavar="PATH", help="write the page to disk: one file ending in .html, else a folder"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page, or serve it until Ctrl-C."""
    if arguments.export:
        return _export(arguments)
    _need_libraries()
    if not 0 <= arguments.port <= 65535:
        raise UsageError("a port is a number from 1 to 65535")
    lab = None if arguments.without_linux else find(arguments.lab)
    if lab and outside.TOKEN in os.environ:
        return _inner(lab, arguments)
    from dataplane.lab.web import server

    listener, token = server.listen(arguments.port), server.new_token()
    with listener:
        _announce(server.addresses(listener.getsockname()[1], token), lab, arguments)
        if lab is None or lab.inside:
            return _serve(listener, token, arguments, lab.directory if lab else None)
        return outside.supervise(listener, token, lab.name, [*sys.argv[2:], "--lab", lab.name])


def _inner(lab: Lab, arguments: argparse.Namespace) -> int:
    """The half inside: go there, then serve on the socket that was handed in."""
    if not lab.inside:
        # It ends with the half outside, even when that is killed.
        return enter(lab, ["setpriv", "--pdeathsig", "TERM", *outside.COMMAND, *sys.argv[2:]])
    token, note = os.environ.pop(outside.TOKEN), os.environ.pop(outside.NOTE, "")
    with _handed(outside.SOCKET) as listening, _handed(outside.WISHES) as wishes:
        listener = socket.socket(fileno=os.dup(listening))
        with listener:
            return _serve(listener, token, arguments, lab.directory, wishes=wishes, note=note)


@contextmanager
def _handed(variable: str) -> Iterator[int]:
    """A descriptor from the half outside, whose number is in an environment variable."""
    try:
        descriptor = int(os.environ.pop(variable))
        os.set_inheritable(descriptor, False)
    except (KeyError, ValueError, OSError) as error:
        raise LabError(f"the page's socket was not handed over ({error}); run `udplane lab web` again") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _export(arguments: argparse.Namespace) -> int:
    from dataplane.lab.web import export

    recording = export.read_recording(arguments.recording) if arguments.recording else None
    if arguments.export.suffix == ".html":
        if recording is None:
            raise LabError(
                "a page without a lab shows a recording: name one that `udplane lab walk FROM TO --save FILE` makes"
            )
        export.write_page(arguments.export, recording)
        print(f"{arguments.export} opens in any browser, offline")
    else:
        export.write_folder(arguments.export, recording, export.pyodide_directory(arguments.pyodide))
        print(f"{arguments.export}/index.html opens from disk; Python in the page needs a server, any one:")
        print(f"  python3 -m http.server --bind 127.0.0.1 --directory {arguments.export}")
    return 0


def _need_libraries() -> None:
    try:
        import starlette
        import uvicorn
        import websockets
    except ImportError as error:
        raise LabError(f"the page needs {error.name}: pip install 'udplane[lab]'") from error
    del starlette, uvicorn, websockets


def _serve(
    listener: socket.socket,
    token: str,
    arguments: argparse.Namespace,
    directory: Path | None,
    *,
    wishes: int | None = None,
    note: str = "",
) -> int:
    from dataplane.lab.web import export
    from dataplane.lab.web.app import Page
    from dataplane.lab.web.engine import Engine
    from dataplane.lab.web.server import serve

    recording = export.read_recording(arguments.recording) if arguments.recording else None
    engine = Engine(export.pyodide_directory(arguments.pyodide))
    serve(listener, token, Page(directory, recording, engine, wishes=wishes, note=note))
    return 0


def _announce(addresses: list[str], lab: Lab | None, arguments: argparse.Namespace) -> None:
    what = f"lab {lab.name}" if lab else "recordings and your own engine, without a lab"
    print(f"The page of {what}, for you alone; Ctrl-C ends it:")
    for address in addresses:
        print(f"  {address}")
    sys.stdout.flush()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    graphical = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"))
    if browser and graphical and not arguments.no_open:
        quiet = subprocess.DEVNULL
        subprocess.Popen([browser, addresses[0]], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
