"""The manifest for Kubernetes: what it says, and a pod of it at work on a node that a test makes.

node1  API server stand-in on 127.0.0.1       eth0 192.168.0.201, MTU 1452 --- underlay
       node object "alpha", podCIDR 10.244.0.0/24
       the pod's container, emulated: read-only root and /proc/sys, two capabilities, the manifest's mounts
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from dataplane import __version__
from dataplane.flanneld import goflags
from dataplane.flanneld.options import FlanneldOptions
from dataplane.lab.overlay import UDPLANE
from dataplane.leases.network_config import NetworkConfig
from tests.deploy.manifest import DEPLOY, as_container, documents, host_paths, one, pod, volume_directory
from tests.flanneld.host import Host
from tests.waiting import wait_until

PROGRAMS = f"{UDPLANE.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def daemon_container() -> dict[str, Any]:
    (container,) = pod()["containers"]
    assert isinstance(container, dict)
    return container


def test_the_tun_device_is_mounted(daemon_container: dict[str, Any]) -> None:
    (name,) = (name for name, path in host_paths().items() if path == {"path": "/dev/net/tun", "type": "CharDevice"})
    assert {"name": name, "mountPath": "/dev/net/tun"} in daemon_container["volumeMounts"]


def test_no_container_is_privileged() -> None:
    for container in pod()["containers"] + pod()["initContainers"]:
        context = container["securityContext"]
        assert not context.get("privileged")
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert set(context["capabilities"].get("add", [])) <= {"NET_ADMIN", "NET_RAW"}


def test_the_flags_are_flannels_and_the_probes_ask_where_they_say(daemon_container: dict[str, Any]) -> None:
    values, rest = goflags.parse(FlanneldOptions, daemon_container["args"])
    options = FlanneldOptions(**values)
    assert rest == []
    assert options.kube_subnet_mgr
    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        where = {"host": options.healthz_ip, "port": options.healthz_port, "path": path}
        assert daemon_container[probe]["httpGet"] == where


def test_the_network_config_is_one_and_lies_where_it_is_looked_for(daemon_container: dict[str, Any]) -> None:
    config = one("ConfigMap")
    NetworkConfig.parse(config["data"]["net-conf.json"])
    (volume,) = (volume for volume in pod()["volumes"] if "configMap" in volume)
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    (mount,) = (mount for mount in daemon_container["volumeMounts"] if mount["name"] == volume["name"])
    assert Path(FlanneldOptions().net_config_path).parent == Path(mount["mountPath"])


def test_names_fit_together() -> None:
    account, binding, daemon_set = one("ServiceAccount"), one("ClusterRoleBinding"), one("DaemonSet")
    (subject,) = binding["subjects"]
    assert subject["name"] == account["metadata"]["name"] == pod()["serviceAccountName"]
    assert binding["roleRef"]["name"] == one("ClusterRole")["metadata"]["name"]
    namespace = one("Namespace")["metadata"]["name"]
    assert {subject["namespace"], account["metadata"]["namespace"], daemon_set["metadata"]["namespace"]} == {namespace}
    selector = daemon_set["spec"]["selector"]["matchLabels"].items()
    assert selector <= daemon_set["spec"]["template"]["metadata"]["labels"].items()
    volumes = {volume["name"] for volume in pod()["volumes"]}
    containers = pod()["containers"] + pod()["initContainers"]
    assert volumes == {mount["name"] for container in containers for mount in container["volumeMounts"]}
    assert {container["image"] for container in containers} == {f"udplane:{__version__}"}


def start_pod(host: Host, container: dict[str, Any]) -> Any:
    """Start the daemon's container on the node. What a pod is told of its API server comes by flags, without TLS."""
    settings = volume_directory(host.directory, "flannel-cfg")
    settings.mkdir(parents=True)
    config = json.loads(one("ConfigMap")["data"]["net-conf.json"])
    (settings / "net-conf.json").write_text(json.dumps(config | {"EnableNFTables": True}))
    (entry,) = container["command"]
    assert entry == "/opt/bin/flanneld"
    command = ["sh", str(DEPLOY / "image" / "flanneld"), *container["args"], *host.api_flags()]
    return host.run(as_container(container, host.directory, command), {"PATH": PROGRAMS})


def test_the_pod_runs_with_what_the_manifest_gives_it(host: Host, daemon_container: dict[str, Any]) -> None:
    daemon = start_pod(host, daemon_container)
    host.wait_until_ready(daemon)
    subnet_file = volume_directory(host.directory, "run") / "subnet.env"
    assert "FLANNEL_SUBNET=10.244.0.1/24" in subnet_file.read_text()
    assert "inet 10.244.0.0/32 scope global flannel0" in host.shown("ip address show dev flannel0")
    assert host.shown("sysctl -n net.ipv4.ip_forward net.ipv4.conf.flannel0.accept_local") == ["1", "1"]
    assert "table ip flannel-ipv4" in host.shown("nft list tables")
    control = volume_directory(host.directory, "udplane-run")
    status = json.loads(host.netns.run([str(UDPLANE), "status", "--run-dir", str(control), "--json"]).stdout)
    assert (status["phase"], status["lease"]["subnets"]) == ("ready", ["10.244.0.0/24"])
    capabilities = Path(f"/proc/{status['pid']}/status").read_text().partition("CapBnd:")[2].split()[0]
    assert int(capabilities, 16) == 1 << 12 | 1 << 13
    assert daemon.stop() == 0


def rules() -> set[tuple[str, str]]:
    """What the ClusterRole allows: verb and resource."""
    return {
        (verb, resource)
        for rule in one("ClusterRole")["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def right_for(request: str) -> tuple[str, str]:
    """Verb and resource by which the API server judges a request (authorization: request attributes)."""
    method, target = request.split()
    url = urlsplit(target)
    _, _, resource, *name = url.path.strip("/").split("/")
    subresource = "/" + name[1] if len(name) > 1 else ""
    reads = "watch" if "watch" in parse_qs(url.query) else "get" if name else "list"
    return {"GET": reads, "PATCH": "patch"}[method], resource + subresource


def test_the_cluster_role_allows_what_is_asked_and_no_more(host: Host, daemon_container: dict[str, Any]) -> None:
    daemon = start_pod(host, daemon_container)
    host.wait_until_ready(daemon)
    wait_until(lambda: any("watch=1" in request for request in host.server.requests), "the nodes are watched")
    assert {right_for(request) for request in host.server.requests} == rules() - FLANNELS


FLANNEL_RULES = {("get", "pods"), ("get", "nodes"), ("list", "nodes"), ("watch", "nodes"), ("patch", "nodes/status")}
"""What the ClusterRole of flannel's own kube-flannel.yml allows (0.28)."""
FLANNELS = {("get", "pods")}
"""What flanneld needs, which runs under the same role until all nodes have changed over, and udplane does not."""


def test_flanneld_can_go_on_under_the_cluster_role() -> None:
    assert rules() >= FLANNEL_RULES


OWN_NODE = {"authentication.kubernetes.io/node-name": ["alpha"], "authentication.kubernetes.io/pod-name": ["f-1"]}
ACCOUNT = "system:serviceaccount:kube-flannel:flannel"


@pytest.mark.parametrize(
    ("user", "extra", "operation", "node", "allowed"),
    [
        (ACCOUNT, OWN_NODE, "UPDATE", "alpha", True),
        (ACCOUNT, OWN_NODE, "UPDATE", "beta", False),
        (ACCOUNT, OWN_NODE, "DELETE", "alpha", False),
        (ACCOUNT, OWN_NODE, "CREATE", "alpha", False),
        (ACCOUNT, {"authentication.kubernetes.io/node-name": ["alpha", "beta"]}, "UPDATE", "alpha", False),
        (ACCOUNT, {"authentication.kubernetes.io/node-name": []}, "UPDATE", "alpha", False),
        (ACCOUNT, {"authentication.kubernetes.io/pod-name": ["alpha"]}, "UPDATE", "alpha", False),
        (ACCOUNT, {}, "UPDATE", "", False),
        (ACCOUNT, None, "UPDATE", "alpha", False),
        ("system:node:beta", None, "UPDATE", "beta", True),
        ("system:serviceaccount:other:flannel", OWN_NODE, "UPDATE", "beta", True),
    ],
)
def test_a_nodes_token_changes_its_own_node_alone(
    user: str, extra: dict[str, list[str]] | None, operation: str, node: str, allowed: bool
) -> None:
    cel = pytest.importorskip("cel", reason="needs an evaluator of CEL: run pip install common-expression-language")
    spec = one("ValidatingAdmissionPolicy")["spec"]
    info: dict[str, Any] = {"username": user} | ({} if extra is None else {"extra": extra})
    request = {"request": {"userInfo": info, "operation": operation, "name": node}}
    concerned = all(cel.evaluate(condition["expression"], request) for condition in spec["matchConditions"])
    verdicts = [cel.evaluate(validation["expression"], request) for validation in spec["validations"]]
    assert allowed == (not concerned or all(verdicts))


def test_the_policy_is_in_force_for_all_that_the_role_may_change() -> None:
    policy, binding = one("ValidatingAdmissionPolicy"), one("ValidatingAdmissionPolicyBinding")
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    assert policy["spec"]["failurePolicy"] == "Fail"
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    changed = {resource for verb, resource in rules() if verb not in ("get", "list", "watch")}
    assert changed == {"nodes/status"}
    assert set(rule["resources"]) == {"nodes", "nodes/*"}
    account = one("ServiceAccount")["metadata"]
    (condition,) = policy["spec"]["matchConditions"]
    assert f'"system:serviceaccount:{account["namespace"]}:{account["name"]}"' in condition["expression"]


def test_the_plugins_are_installed_without_any_capability(tmp_path: Path, namespaces: None) -> None:
    (container,) = pod()["initContainers"]
    program, *verbs = container["command"]
    assert program == "udplane"
    command = as_container(container, tmp_path, [str(UDPLANE), *verbs, *container["args"]])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    plugins = volume_directory(tmp_path, "cni-plugin")
    assert {"flannel", "bridge", "host-local", "portmap", "loopback"} <= {path.name for path in plugins.iterdir()}
    (conflist,) = volume_directory(tmp_path, "cni").iterdir()
    assert [plugin["type"] for plugin in json.loads(conflist.read_text())["plugins"]] == ["flannel", "portmap"]


def needs_kubectl() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl, which Debian does not have: see kubernetes.io/docs/tasks/tools")


def kustomize(directory: Path) -> list[dict[str, Any]]:
    needs_kubectl()
    done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, check=True, timeout=60)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(thing["kind"], thing["metadata"]["name"]): thing for thing in objects}


def test_the_kustomize_base_is_the_manifest() -> None:
    assert by_name(kustomize(DEPLOY / "kubernetes" / "base")) == by_name(documents())


def test_plugins_can_be_kept() -> None:
    kept, ours = by_name(kustomize(DEPLOY / "kubernetes" / "keep-plugins")), by_name(documents())
    key = ("DaemonSet", "kube-flannel-ds")
    del ours[key]["spec"]["template"]["spec"]["initContainers"]
    assert kept == ours


def test_the_way_back_removes_the_device_and_keeps_the_rest(host: Host) -> None:
    """flanneld takes over rules and subnet file, but not a TUN that is there."""
    (patch,) = documents(DEPLOY / "kubernetes" / "back-to-flannel.yaml")
    (container,) = patch["spec"]["template"]["spec"]["initContainers"]
    command = as_container(container | {"volumeMounts": []}, host.directory, container["command"])
    host.configure(EnableNFTables=True)
    daemon = host.start("--ip-masq")
    host.wait_until_ready(daemon)
    assert daemon.stop() == 0
    assert any("flannel0" in line for line in host.shown("ip link"))
    for _ in range(2):
        host.netns.run(command)
        assert not any("flannel0" in line for line in host.shown("ip link"))
    assert "table ip flannel-ipv4" in host.shown("nft list tables")
    assert host.subnet_file.exists()


@pytest.mark.parametrize("document", ["docs/flannel.md", "deploy/kubernetes/back-to-flannel.yaml"])
def test_the_documented_way_back_pulls_no_image_that_the_registry_lacks(document: str) -> None:
    """The command of the document, with a kubectl that shows what it is given."""
    root = DEPLOY.parent
    lines = [line.removeprefix("#").strip() for line in (root / document).read_text().splitlines()]
    start = next(number for number, line in enumerate(lines) if line.startswith("sed "))
    script = 'kubectl() { cat "${@: -1}"; }; ' + "\n".join(lines[start : start + 2])
    directory = root if document.startswith("docs") else (root / document).parent
    done = subprocess.run(["bash", "-c", script], cwd=directory, capture_output=True, text=True, check=True, timeout=10)
    images = {c["image"] for c in yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["initContainers"]}
    assert images == {f"registry.example.com/udplane:{__version__}"}


def test_the_way_back_is_a_patch_that_kubectl_takes(tmp_path: Path) -> None:
    needs_kubectl()
    (tmp_path / "flannel.yaml").write_text(yaml.safe_dump(one("DaemonSet")))
    patch = ["--patch-file", str(DEPLOY / "kubernetes" / "back-to-flannel.yaml")]
    command = ["kubectl", "patch", "--local", "-f", str(tmp_path / "flannel.yaml"), *patch, "-o", "yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    names = [
        container["name"] for container in yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["initContainers"]
    ]
    assert sorted(names) == ["install-cni", "remove-tun"]
