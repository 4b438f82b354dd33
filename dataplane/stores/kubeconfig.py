"""Where the Kubernetes API is and how a node proves who it is: from its pod, or from a kubeconfig file.

A pod finds the server in its environment, and a token and the cluster's CA in files that the kubelet keeps
fresh; the token is read again for each request, since it rotates.

A kubeconfig is YAML, for which PyYAML has to be there, or JSON. Tokens, token files and client certificates are
understood; a user that needs a helper program is refused.
"""

import base64
import contextlib
import json
import logging
import os
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dataplane.errors import ConfigError, UsageError
from dataplane.stores.http import Endpoint, tls_context

_log = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_CONVERT = "convert it with `kubectl config view --raw --minify -o json`"


@dataclass(frozen=True, slots=True)
class ApiServer:
    """The API server, and `token`, which is called for each request; None if a certificate is enough."""

    endpoint: Endpoint
    token: Callable[[], str] | None = None
    path: str = ""


def in_cluster(environ: Mapping[str, str], account: Path = SERVICE_ACCOUNT) -> ApiServer:
    """The server that a pod is told of; ConfigError outside of a pod."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port.isdecimal():
        raise ConfigError("this is no Kubernetes pod (KUBERNETES_SERVICE_HOST is not set); give --kubeconfig-file")
    try:
        tls = tls_context(cafile=str(account / "ca.crt"))
    except OSError as error:
        raise ConfigError(f"cannot read {account / 'ca.crt'} ({error.strerror}); mount the service account") from error
    return ApiServer(Endpoint(host, int(port), tls), lambda: read_token(account / "token"))


def read_token(path: Path) -> str:
    """The token in a file."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the token {path} ({error}); mount the service account") from error


def at_url(url: str) -> ApiServer:
    """The server at `url`, without credentials: a `kubectl proxy`, or one that trusts the network."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        raise UsageError(f"{url!r} is no address of an API server; give kube:https://HOST:PORT, or just kube:")
    tls = tls_context() if parts.scheme == "https" else None
    return ApiServer(Endpoint(parts.hostname, port, tls), path=parts.path.rstrip("/"))


def from_kubeconfig(path: Path, url: str = "") -> ApiServer:
    """The server and user of the file's current context; ConfigError says what the file lacks.

    `url` takes the place of the server's address.
    """
    try:
        text = path.read_text()
        document = json.loads(text) if text.lstrip().startswith("{") else _parse_yaml(text)
        context = _named(document, "context", str(document["current-context"]))
        cluster = _named(document, "cluster", str(context["cluster"]))
        user = _named(document, "user", str(context["user"]))
        return _api_server(path.parent, cluster | {"server": url} if url else cluster, user)
    except ConfigError as error:
        raise ConfigError(f"the kubeconfig {path}: {error}") from error
    except OSError as error:
        raise ConfigError(
            f"the kubeconfig {path}: {error.strerror or error}; give one with --kubeconfig-file"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"the kubeconfig {path} is not complete ({error}); {_CONVERT}") from error


def _parse_yaml(text: str) -> Any:
    """A document of YAML, with numbers and words like `true` as text."""
    try:
        import yaml
    except ImportError as error:
        raise ConfigError(f"PyYAML is not here to read it: pip install 'udplane[kube]'; or {_CONVERT}") from error
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # makes texts, lists and dicts, nothing else
    except yaml.YAMLError as error:
        raise ConfigError(f"it is not YAML: {error}") from error


def _named(document: Any, kind: str, name: str) -> dict[str, Any]:
    """The entry called `name` of the list `kind`s."""
    for entry in document[f"{kind}s"]:
        if entry["name"] == name:
            found: dict[str, Any] = entry[kind] or {}
            return found
    raise ConfigError(f"it has no {kind} {name!r}")


def _api_server(directory: Path, cluster: dict[str, Any], user: dict[str, Any]) -> ApiServer:
    server = at_url(str(cluster["server"]))
    if server.endpoint.tls is not None:
        tls = _tls(directory, cluster, user)
        server = ApiServer(Endpoint(server.endpoint.host, server.endpoint.port, tls), path=server.path)
    if "token" in user:
        token = str(user["token"])
        return ApiServer(server.endpoint, lambda: token, server.path)
    if "tokenFile" in user:
        token_file = directory / str(user["tokenFile"])
        return ApiServer(server.endpoint, lambda: read_token(token_file), server.path)
    if user.keys() & {"exec", "auth-provider", "username"}:
        raise ConfigError("its user needs a helper program or a password; use one with a token or a certificate")
    return server


def _tls(directory: Path, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    """What verifies the cluster's server and proves who the user is."""
    authority = _material(directory, cluster, "certificate-authority")
    tls = tls_context(cadata=(authority or b"").decode())
    if cluster.get("insecure-skip-tls-verify") in (True, "true"):
        if authority is not None:
            raise ConfigError(
                "it names a certificate authority and says insecure-skip-tls-verify; take one of them out"
            )
        _log.warning("the kubeconfig says insecure-skip-tls-verify: whoever is in between can be the API server")
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    certificate, key = _material(directory, user, "client-certificate"), _material(directory, user, "client-key")
    if (certificate is None) != (key is None):
        raise ConfigError("its user has only one of client-certificate and client-key; give both")
    if certificate is not None and key is not None:
        _load_chain(tls, certificate + b"\n" + key)
    return tls


def _material(directory: Path, source: dict[str, Any], name: str) -> bytes | None:
    """A certificate or key: in the file itself in base64, or in another file, relative to this one."""
    if data := source.get(f"{name}-data"):
        return base64.b64decode(str(data), validate=True)
    if path := source.get(name):
        return (directory / str(path)).read_bytes()
    return None


def _load_chain(tls: ssl.SSLContext, pem: bytes) -> None:
    """ssl reads a certificate and key only from a file: a private one, for as long as that takes."""
    descriptor, name = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        tls.load_cert_chain(name)
    finally:
        with contextlib.suppress(OSError):
            Path(name).unlink()
