"""Stores by URL.

| URL | store | module |
| --- | --- | --- |
| `sqlite:PATH` | one file, several nodes on one machine | `sqlite` |
| `static:FILE` | peers listed by hand in TOML | `static` |
| `etcd://HOST:PORT[,HOST:PORT...]`, `etcds://...` with TLS | etcd v3, shared with flannel | `etcd` |
| `kube:` | the Kubernetes API: a node's podCIDR and flannel's annotations | `kubernetes` |
"""

import importlib
from dataclasses import dataclass

from dataplane.errors import UsageError
from dataplane.stores.base import Store, StoreOptions


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of stores: the module of this package that has `create`, and what is known without making one."""

    module: str
    is_file: bool = False
    """Whether the URL names a file of this host."""


STORES = {
    "sqlite": Kind("sqlite", is_file=True),
    "static": Kind("static", is_file=True),
    "etcd": Kind("etcd"),
    "etcds": Kind("etcd"),
    "kube": Kind("kubernetes"),
}
"""By the scheme of the URL."""


def open_store(url: str, options: StoreOptions | None = None) -> Store:
    """Make the store that `url` names, without talking to it yet. UsageError if no store is named so."""
    scheme, colon, location = url.partition(":")
    if scheme not in STORES or not colon:
        known = ", ".join(f"{name}:" for name in STORES)
        raise UsageError(f"{url!r} names no store; begin it with one of {known} as in sqlite:/run/udplane/store.db")
    module = importlib.import_module(f"dataplane.stores.{STORES[scheme].module}")
    store: Store = module.create(scheme, location, options or StoreOptions())
    return store


def file_of(url: str) -> str:
    """The file that a store is; empty for one that is none, or of which there is no such kind."""
    scheme, _, location = url.partition(":")
    return location if scheme in STORES and STORES[scheme].is_file else ""
