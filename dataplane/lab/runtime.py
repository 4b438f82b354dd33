"""What a container runtime does for the network of its pods: it calls CNI plugins (CNI specification 1.0.0, section 4).

A conflist names plugins. To connect a pod, each is run in the node's namespace with ADD, in order, and is told in
environment variables which pod and on stdin its part of the conflist with the result of the plugin before it. To
disconnect it, each is run with DEL, in reverse order. A plugin answers with JSON on stdout.
"""

import json
import subprocess
from collections.abc import Callable, Mapping
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from dataplane.lab.netns import LabError, Namespace
from dataplane.lab.topology import Node, Pod

IFNAME = "eth0"
"""What the pod's interface is called inside the pod."""


class Runtime:
    """The runtime of one node."""

    def __init__(
        self, node: Node, bin_dir: Path, conflist: Mapping[str, Any], *, device_name: Callable[[str], str] | None = None
    ) -> None:
        """Connect pods of `node` by the plugins of `conflist`, which lie in `bin_dir`.

        The node's end of a wire keeps the name that the plugin gave it, or is called `device_name` of the pod's name.
        """
        self.node = node
        self._device_name = device_name
        self._bin_dir = bin_dir
        self._conflist = conflist
        self._results: dict[str, dict[str, Any]] = {}

    def add(self, name: str, sandbox: Namespace) -> Pod:
        """Connect the namespace `sandbox` as the pod called `name`. LabError with the plugin's words if one fails."""
        result: dict[str, Any] = {}
        for plugin in self._conflist["plugins"]:
            result = self._call("ADD", plugin, name, sandbox, result)
        self._results[name] = result
        addresses = tuple(ip_interface(ip["address"]) for ip in result["ips"])
        outside = [interface for interface in result["interfaces"] if not interface.get("sandbox")][-1]
        if self._device_name is not None:
            self._rename(outside, self._device_name(name))
        return Pod(name, sandbox, addresses, host_device=outside["name"])

    def _rename(self, interface: dict[str, Any], name: str) -> None:
        """Call the node's end of a wire otherwise, in the kernel and in the result, which CHECK and DEL go by.

        Kernels before 6.2 rename only what is down.
        """
        old, interface["name"] = interface["name"], name
        self.node.netns.ip(f"link set {old} down", f"link set {old} name {name}", f"link set {name} up")

    def delete(self, pod: Pod) -> None:
        """Disconnect a pod that `add` has connected."""
        result = self._results.pop(pod.name)
        for plugin in reversed(self._conflist["plugins"]):
            self._call("DEL", plugin, pod.name, pod.netns, result)

    def _call(
        self, command: str, plugin: Mapping[str, Any], container: str, sandbox: Namespace, result: dict[str, Any]
    ) -> dict[str, Any]:
        """Run one plugin; returns its result, which is empty for DEL."""
        config = {**plugin, "cniVersion": self._conflist["cniVersion"], "name": self._conflist["name"]}
        if result:
            config["prevResult"] = result
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(sandbox.path),
            "CNI_IFNAME": IFNAME,
            "CNI_PATH": str(self._bin_dir),
        }
        argv = [str(self._bin_dir / plugin["type"])]
        done = self.node.netns.run(argv, check=False, stdin=json.dumps(config), environment=environment)
        return _answer(f"CNI plugin {plugin['type']}, {command} for {container}", done)


def _answer(what: str, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What a plugin has answered; LabError with its error."""
    try:
        answer = json.loads(done.stdout or "{}")
    except json.JSONDecodeError:
        answer = {"msg": done.stdout}
    if done.returncode != 0:
        raise LabError(f"{what}: {answer.get('msg', 'no message')} {answer.get('details', '')} {done.stderr}")
    return dict(answer)
