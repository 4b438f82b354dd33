"""Leases in the Kubernetes API, as flannel keeps them: a node's podCIDR, and annotations on the node (`kube:`).

The cluster decides which subnet a node gets (`spec.podCIDRs`); the node says in annotations where it can be
reached, under a prefix that is flannel's by default:

    flannel.alpha.coreos.com/kube-subnet-manager: "true"
    flannel.alpha.coreos.com/backend-type: ""               what flannel's udp backend writes
    flannel.alpha.coreos.com/backend-data: "null"
    flannel.alpha.coreos.com/public-ip: 192.168.64.3

and, with an IPv6 underlay, `backend-v6-data` and `public-ipv6`. An operator may set `public-ip-overwrite`, which
wins, or `node-public-ip` (both with `v6` forms). A node counts as a peer when it has the first annotation, a
public address that parses, and a podCIDR of every enabled family. Nothing expires; a deleted node takes its
lease along.

The network config is not in the API but in a file (`--net-config-path`), mounted from a ConfigMap.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from dataplane.errors import ConfigError, LeaseError, LeaseLostError, NoNetworkConfigError, StoreError
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent
from dataplane.leases.network_config import NetworkConfig
from dataplane.stores.base import AcquireRequest, Complaints, Outage, Snapshot, Store, StoreOptions, WatchUpdate
from dataplane.stores.kube_api import GoneError, Json, KubeApi
from dataplane.stores.kube_node import NodeReader, annotations_of, name_of, pod_subnets, version_of
from dataplane.stores.kubeconfig import at_url, from_kubeconfig, in_cluster
from dataplane.stores.retry import Retry

_log = logging.getLogger(__name__)


def create(scheme: str, location: str, options: StoreOptions) -> "KubernetesStore":
    """The API server at the URL after `kube:`, or that of the kubeconfig file, or that of the pod.

    With both a URL and a kubeconfig file, the file says who the node is.
    """
    del scheme
    if options.kubeconfig_file:
        server = from_kubeconfig(Path(options.kubeconfig_file), location)
    elif location:
        server = at_url(location)
    else:
        server = in_cluster(os.environ)
    return KubernetesStore(KubeApi(server), options, os.environ)


class KubernetesStore(Store):
    """The nodes of a cluster as leases. `environ` tells which node this is (NODE_NAME, or POD_NAME and so on)."""

    cuts_by_config = False

    def __init__(self, api: KubeApi, options: StoreOptions, environ: Mapping[str, str]) -> None:
        self._api = api
        self._environ = environ
        self._config_path = Path(options.net_config_path)
        self._clears_condition = options.set_node_network_unavailable
        self._reader = NodeReader(options.kube_annotation_prefix)
        self._known: dict[str, Lease] = {}
        self._complaints = Complaints(_log)

    @property
    def ignored(self) -> Mapping[str, str]:
        """Nodes whose annotations or podCIDRs cannot be read."""
        return self._complaints.said

    async def network_config(self) -> str:
        """The text of the file."""
        return await asyncio.to_thread(self._read_config)

    async def set_network_config(self, text: str, *, only_if_absent: bool = False) -> bool:
        """Refused, unless only wanted where there is none: the file comes from a ConfigMap."""
        del text
        await self.network_config()
        if only_if_absent:
            return False
        raise StoreError(f"with kube: the network config is the file {self._config_path}; change its ConfigMap")

    async def leases(self) -> list[Lease]:
        """One lease each node that has published one."""
        nodes, _ = await self._api.list_nodes()
        return list((await self._leases_by_name(nodes)).values())

    async def acquire(self, request: AcquireRequest) -> Lease:
        """Publish the node's addresses on its object; its subnets are its podCIDRs."""
        return await self._publish(await self._own_name(request.node), request.attrs)

    async def renew(self, lease: Lease, attrs: LeaseAttrs | None = None) -> Lease:
        """Publish again what is missing or changed. LeaseLostError if the node has another podCIDR now."""
        renewed = await self._publish(lease.node, attrs or lease.attrs)
        if renewed.subnets != lease.subnets:
            raise LeaseLostError(f"node {lease.node} has the podCIDR {renewed.subnets} now; restart udplane there")
        return renewed

    async def ready(self, lease: Lease) -> None:
        """Clear the node's NetworkUnavailable condition, so that pods may be scheduled there."""
        if self._clears_condition:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            condition = {"type": "NetworkUnavailable", "status": "False", "lastHeartbeatTime": now}
            condition |= {"lastTransitionTime": now, "reason": "FlannelIsUp"}
            condition |= {"message": "Flannel is running on this node"}
            await self._api.patch_node_status(lease.node, {"status": {"conditions": [condition]}})

    async def release(self, lease: Lease) -> None:
        """Take the annotations away, so that peers drop their routes; the podCIDR stays with the node."""
        published = self._reader.annotations(lease.attrs)
        await self._api.patch_node_status(lease.node, {"metadata": {"annotations": dict.fromkeys(published)}})

    async def close(self) -> None:
        """Close connections."""
        await self._api.close()

    async def watch(self) -> AsyncGenerator[WatchUpdate, None]:
        """Yield a `Snapshot`, then events. After an `Outage` the watch goes on where it was, if the server can."""
        retry, reported, version = Retry(), "", ""
        while True:
            try:
                if not version:
                    nodes, version = await self._api.list_nodes()
                    self._known = await self._leases_by_name(nodes)
                    yield Snapshot(tuple(self._known.values()))
                elif reported:
                    await self._api.ping()
                    yield Snapshot(tuple(self._known.values()))
                reported = ""
                config = NetworkConfig.parse(await self.network_config())
                async with contextlib.aclosing(self._api.watch_nodes(version)) as changes:
                    async for kind, node in changes:
                        version = version_of(node) or version
                        retry.worked()
                        for event in self._follow(kind, node, config):
                            yield event
            except GoneError:
                _log.info("the API server has forgotten the changes since %s; listing the nodes anew", version)
                version = ""
            except (StoreError, ConfigError) as error:
                if str(error) != reported:
                    reported = str(error)
                    yield Outage(error)
            await retry.pause()

    def _follow(self, kind: str, node: Json, config: NetworkConfig) -> Iterator[LeaseEvent]:
        """What a change of a node object means for its lease; mostly nothing, since nodes change all the time."""
        if kind == "BOOKMARK":
            return
        name = name_of(node)
        if kind == "DELETED":
            self._complaints.settled(_entry(node))
        lease = None if kind == "DELETED" else self._lease_of(node, config)
        known = self._known.get(name)
        if known is not None and (lease is None or lease.key != known.key):
            yield LeaseEvent(Change.REMOVED, self._known.pop(name))
        if lease is not None and lease != known:
            self._known[name] = lease
            yield LeaseEvent(Change.ADDED, lease)

    async def _leases_by_name(self, nodes: list[Json]) -> dict[str, Lease]:
        config = NetworkConfig.parse(await self.network_config())
        self._complaints.only({_entry(node) for node in nodes})
        leases = {name_of(node): self._lease_of(node, config) for node in nodes}
        return {name: lease for name, lease in leases.items() if lease is not None}

    def _lease_of(self, node: Json, config: NetworkConfig) -> Lease | None:
        """The node's lease, if it has one; what is wrong with it is said once."""
        entry = _entry(node)
        try:
            lease = self._reader.lease(node, config)
        except ConfigError as error:
            self._complaints.say(entry, str(error))
            return None
        self._complaints.settled(entry)
        return lease

    async def _publish(self, name: str, attrs: LeaseAttrs) -> Lease:
        config = NetworkConfig.parse(await self.network_config())
        node = await self._api.get_node(name)
        try:
            subnets = pod_subnets(node, config)
            if not config.contains(subnets):
                raise ConfigError(f"its podCIDRs {subnets} are not in the network config's Network, one of each family")
            attrs = self._reader.published(node, attrs)
        except ConfigError as error:
            raise LeaseError(f"node {name} can have no lease: {error}") from error
        present = annotations_of(node)
        changed = {key: text for key, text in self._reader.annotations(attrs).items() if present.get(key) != text}
        if changed:
            await self._api.patch_node_status(name, {"metadata": {"annotations": changed}})
        return Lease(subnets, attrs, node=name)

    async def _own_name(self, given: str) -> str:
        """The name of the node that this process runs on: as given, or from the environment, or from its pod."""
        if name := given or self._environ.get("NODE_NAME", ""):
            return name
        pod, namespace = self._environ.get("POD_NAME", ""), self._environ.get("POD_NAMESPACE", "")
        if not pod or not namespace:
            raise ConfigError(
                "which node is this? give --node-name, or NODE_NAME or POD_NAME and POD_NAMESPACE in the environment"
            )
        try:
            found = await self._api.get_pod(namespace, pod)
        except StoreError as error:
            raise StoreError(
                f"{error}; or set NODE_NAME from the pod's spec.nodeName, for which no right is needed",
                transient=error.transient,
            ) from error
        spec = found.get("spec")
        name = str(spec.get("nodeName") or "") if isinstance(spec, dict) else ""
        if not name:
            raise StoreError(f"pod {namespace}/{pod} is not on a node yet", transient=True)
        return name

    def _read_config(self) -> str:
        try:
            return self._config_path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise NoNetworkConfigError(
                f"cannot read the network config {self._config_path} ({error.strerror}); give --net-config-path"
            ) from error


def _entry(node: Json) -> str:
    return f"node {name_of(node)}"
