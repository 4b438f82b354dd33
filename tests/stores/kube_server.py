"""A stand-in for the Kubernetes API server: nodes, pods, lists in pages, watches, and checks of what clients send.

It is strict where the real server is: verbs, paths, content types, resource versions, the bearer token. What a client
sent that it should not have is kept in `violations`, which a test expects to be empty.
"""

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]

STRATEGIC_MERGE = "application/strategic-merge-patch+json"


class KubeServer:
    """The cluster's state. `changed` guards it and wakes watchers."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.nodes: dict[str, Json] = {}
        self.pods: dict[tuple[str, str], Json] = {}
        self.tokens = {"first"}
        self.version = 100
        self.oldest_version = 100
        self.history: list[tuple[int, str, Json]] = []
        self.patches: list[tuple[str, Json]] = []
        self.requests: list[str] = []
        self.violations: list[str] = []
        self.failures: list[int] = []
        self.open = True
        self.url = ""

    def put_node(self, name: str, pod_cidrs: list[str], annotations: dict[str, str] | None = None) -> None:
        """Create a node or write it anew."""
        with self.changed:
            kind = "MODIFIED" if name in self.nodes else "ADDED"
            spec: Json = {"podCIDR": pod_cidrs[0], "podCIDRs": pod_cidrs} if pod_cidrs else {}
            self.nodes[name] = {
                "metadata": {"name": name, "annotations": annotations or {}},
                "spec": spec,
                "status": {},
            }
            self._record(kind, self.nodes[name])

    def delete_node(self, name: str) -> None:
        """Delete a node."""
        with self.changed:
            self._record("DELETED", self.nodes.pop(name))

    def forget_history(self) -> None:
        """Every resource version so far is too old from now on; open watches hear so."""
        with self.changed:
            self.version += 1
            self.oldest_version = self.version
            self.history.clear()
            self.changed.notify_all()

    def drop_watches(self) -> None:
        """End all connections and refuse new ones, as a server that restarts."""
        with self.changed:
            self.open = False
            self.changed.notify_all()

    def come_back(self) -> None:
        """Serve again."""
        with self.changed:
            self.open = True

    def merge(self, name: str, patch: Json) -> Json:
        """A strategic merge of annotations and conditions, which is all that nodes' daemons may patch."""
        with self.changed:
            node = self.nodes[name]
            self.patches.append((name, patch))
            annotations = node["metadata"]["annotations"]
            for key, value in patch.get("metadata", {}).get("annotations", {}).items():
                if value is None:
                    annotations.pop(key, None)
                else:
                    annotations[key] = value
            for condition in patch.get("status", {}).get("conditions", []):
                known = node["status"].setdefault("conditions", [])
                known[:] = [one for one in known if one["type"] != condition["type"]] + [condition]
            self._record("MODIFIED", node)
            return copy.deepcopy(node)

    def changes_after(self, version: int) -> list[tuple[int, str, Json]] | None:
        """Wait for changes after `version`; an empty list means that it is too old, None that the server went down."""
        with self.changed:
            self.changed.wait_for(
                lambda: (
                    not self.open or version < self.oldest_version or (self.history and self.history[-1][0] > version)
                )
            )
            if not self.open:
                return None
            return [] if version < self.oldest_version else [entry for entry in self.history if entry[0] > version]

    def _record(self, kind: str, node: Json) -> None:
        self.version += 1
        node["metadata"]["resourceVersion"] = str(self.version)
        self.history.append((self.version, kind, copy.deepcopy(node)))
        self.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    state: KubeServer

    def log_message(self, *arguments: object) -> None:
        """Tests look at `requests` instead."""

    def do_GET(self) -> None:
        if not self._admitted():
            return
        url, state = urlsplit(self.path), self.state
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        with state.changed:
            node = state.nodes.get(parts[-1])
            pod = state.pods.get((parts[3], parts[5])) if len(parts) == 6 and parts[4] == "pods" else None
        if url.path == "/version":
            self._answer(200, {"major": "1", "minor": "31"})
        elif url.path == "/api/v1/nodes" and "watch" in query:
            self._watch(query)
        elif url.path == "/api/v1/nodes":
            self._list(query)
        elif parts[:3] == ["api", "v1", "nodes"] and len(parts) == 4 and node is not None:
            self._answer(200, node)
        elif parts[:3] == ["api", "v1", "namespaces"] and pod is not None:
            self._answer(200, pod)
        else:
            self._refuse(404, f'nodes "{parts[-1]}" not found')

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._admitted():
            return
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[:3] != ["api", "v1", "nodes"] or len(parts) != 5 or parts[4] != "status":
            self._violation(f"PATCH {self.path}")
        elif self.headers.get("Content-Type") != STRATEGIC_MERGE:
            self._violation(f"content type {self.headers.get('Content-Type')}")
        elif parts[3] not in self.state.nodes:
            self._refuse(404, f'nodes "{parts[3]}" not found')
        else:
            self._answer(200, self.state.merge(parts[3], json.loads(body)))

    def _admitted(self) -> bool:
        state = self.state
        state.requests.append(f"{self.command} {self.path}")
        if not state.open:
            self.close_connection = True
            return False
        if self.headers.get("Authorization") not in {f"Bearer {token}" for token in state.tokens}:
            self._refuse(401, "Unauthorized")
            return False
        if state.failures and urlsplit(self.path).path != "/version":
            status = state.failures.pop(0)
            self._refuse(status, f"made to fail with {status}")
            return False
        return True

    def _list(self, query: dict[str, str]) -> None:
        limit, start = int(query.get("limit", "0")), int(query.get("continue", "0"))
        if limit == 0:
            self.state.violations.append("a list without limit")
        with self.state.changed:
            names = sorted(self.state.nodes)
            items = [copy.deepcopy(self.state.nodes[name]) for name in names[start : start + limit]]
            metadata = {"resourceVersion": str(self.state.version)}
        if start + limit < len(names):
            metadata["continue"] = str(start + limit)
        self._answer(200, {"kind": "NodeList", "metadata": metadata, "items": items})

    def _watch(self, query: dict[str, str]) -> None:
        state, version = self.state, int(query.get("resourceVersion", "0"))
        if version == 0 or "timeoutSeconds" not in query or "allowWatchBookmarks" not in query:
            state.violations.append(f"a watch with {query}")
        if version < state.oldest_version:
            self._refuse(410, "too old resource version")
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while changes := state.changes_after(version):
            for _, kind, node in changes:
                self._chunk({"type": kind, "object": node})
            version = changes[-1][0]
            bookmark = {"kind": "Node", "metadata": {"resourceVersion": str(version)}}
            self._chunk({"type": "BOOKMARK", "object": bookmark})
        if changes is None:
            self.close_connection = True
            return
        self._chunk({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: Json) -> None:
        data = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _violation(self, text: str) -> None:
        self.state.violations.append(text)
        self._refuse(415, text)

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, {"kind": "Status", "status": "Failure", "code": status, "message": message})

    def _answer(self, status: int, document: Json) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def kube_server() -> Iterator[KubeServer]:
    """A server on a loopback port, until the end of the test."""
    state = KubeServer()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.drop_watches()
        server.shutdown()
        server.server_close()
        thread.join()
