"""The few calls of the Kubernetes API that a node needs, over the small HTTP client.

Reading and watching nodes, reading a pod, patching a node's status: nothing else, so that the RBAC rules can be
as small (`get` pods; `get`, `list`, `watch` nodes; `patch` nodes/status). Answers that are refusals become
StoreErrors that say what to do.
"""

import contextlib
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from dataplane.errors import StoreError
from dataplane.stores.http import HttpClient, HttpError, HttpStatusError, Request, Response, UntrustedServerError
from dataplane.stores.kubeconfig import ApiServer

Json = dict[str, Any]

PAGE_LIMIT = 500
"""Nodes to ask for at once; a node object may take 20 KiB."""

_WATCH_SECONDS = 300
"""How long the server lets one watch live. Then it is taken up again where it ended."""


class GoneError(Exception):
    """The resource version that was asked for is too old (410): list again."""


class KubeApi:
    """Calls to one API server."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._client = HttpClient(server.endpoint)

    async def ping(self) -> None:
        """Ask for the server's version, to know whether it is there."""
        await self._call("GET", "/version")

    async def get_pod(self, namespace: str, name: str) -> Json:
        """One pod."""
        return await self._call("GET", f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}")

    async def get_node(self, name: str) -> Json:
        """One node."""
        return await self._call("GET", f"/api/v1/nodes/{quote(name)}")

    async def list_nodes(self) -> tuple[list[Json], str]:
        """All nodes, and the resource version from which to watch."""
        nodes: list[Json] = []
        query = {"limit": str(PAGE_LIMIT)}
        while True:
            page = await self._call("GET", f"/api/v1/nodes?{urlencode(query)}")
            with self._expect_shape():
                nodes += page.get("items") or []
                more, version = page["metadata"].get("continue"), str(page["metadata"]["resourceVersion"])
            if not more:
                return nodes, version
            query["continue"] = str(more)

    async def watch_nodes(self, version: str) -> AsyncGenerator[tuple[str, Json], None]:
        """Yield each change (`ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`) and its node, after `version`.

        Ends after some minutes; GoneError if `version` is too old.
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
        query["timeoutSeconds"] = str(_WATCH_SECONDS)
        request = self._request("GET", f"/api/v1/nodes?{urlencode(query)}")
        try:
            async with contextlib.aclosing(self._client.lines(request)) as lines:
                async for line in lines:
                    with self._expect_shape():
                        event = json.loads(line)
                        kind, thing = str(event["type"]), dict(event["object"])
                    if kind == "ERROR":
                        raise self._refusal(Response(int(thing.get("code") or 0), line))
                    yield kind, thing
        except HttpStatusError as error:
            raise self._refusal(error.response) from error
        except HttpError as error:
            raise StoreError(f"the watch of nodes broke: {error}; watching anew", transient=True) from error

    async def patch_node_status(self, name: str, patch: Json) -> Json:
        """Merge `patch` into a node, through the `status` subresource, which also carries annotations."""
        body = json.dumps(patch, separators=(",", ":")).encode()
        target = f"/api/v1/nodes/{quote(name)}/status"
        return await self._call("PATCH", target, body, {"Content-Type": "application/strategic-merge-patch+json"})

    async def close(self) -> None:
        """Close idle connections."""
        await self._client.close()

    async def _call(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Json:
        try:
            response = await self._client.fetch(self._request(method, target, body, headers))
        except UntrustedServerError as error:
            raise StoreError(f"{error}; check the certificate authority in the kubeconfig") from error
        except HttpError as error:
            raise StoreError(f"the Kubernetes API is out of reach: {error}; trying again", transient=True) from error
        if response.status != 200:
            raise self._refusal(response)
        with self._expect_shape():
            return dict(json.loads(response.body))

    def _request(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Request:
        fields = dict(headers or {})
        if self._server.token is not None:
            fields["Authorization"] = f"Bearer {self._server.token()}"
        return Request(method, self._server.path + target, body, fields)

    @contextlib.contextmanager
    def _expect_shape(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            where = self._server.endpoint
            raise StoreError(f"{where} does not answer like a Kubernetes API server; check its address") from error

    def _refusal(self, response: Response) -> Exception:
        """What an answer other than 200 means, and what to do."""
        where, status = self._server.endpoint, response.status
        if status == 410:
            return GoneError()
        reason = _message(response)
        if status == 401:
            return StoreError(f"{where} does not accept this node's credentials: {reason}; check token or kubeconfig")
        if status == 403:
            return StoreError(f"{where} denies access: {reason}; apply udplane's ClusterRole and its binding")
        if status == 404:
            return StoreError(f"{where} does not know it: {reason}; check NODE_NAME, or POD_NAME and POD_NAMESPACE")
        transient = status in (0, 408, 409, 429) or status >= 500
        return StoreError(f"{where} refused the request ({status}): {reason}", transient=transient)


def _message(response: Response) -> str:
    """The words of a Status object."""
    with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
        answer = json.loads(response.body)
        return str(answer.get("object", answer).get("message", ""))[:300]
    return response.body[:100].decode("utf-8", "replace")
