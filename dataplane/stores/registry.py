"""Stores by URL.

| URL | store | module |
| --- | --- | --- |
| `sqlite:PATH` | one file, several nodes on one machine | `sqlite` |
| `static:FILE` | peers listed by hand in TOML | `static` |
| `etcd://HOST:PORT[,HOST:PORT...]`, `etcds://...` with TLS | etcd v3, shared with flannel | `etcd` |
| `kube:` | the Kubernetes API: a node's podCIDR and flannel's annotations | `kubernetes` |
"""

import importlib

from dataplane.errors import UsageError
from dataplane.stores.base import Store, StoreOptions

STORES = {"sqlite": "sqlite", "static": "static", "etcd": "etcd", "etcds": "etcd", "kube": "kubernetes"}
"""Scheme of the URL -> module of this package, which has `create`."""


def open_store(url: str, options: StoreOptions | None = None) -> Store:
    """Make the store that `url` names, without talking to it yet. UsageError if no store is named so."""
    scheme, colon, location = url.partition(":")
    if scheme not in STORES or not colon:
        known = ", ".join(f"{name}:" for name in STORES)
        raise UsageError(f"{url!r} names no store; begin it with one of {known} as in sqlite:/run/udplane/store.db")
    module = importlib.import_module(f"dataplane.stores.{STORES[scheme]}")
    store: Store = module.create(scheme, location, options or StoreOptions())
    return store
