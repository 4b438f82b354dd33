"""Where the API server is: kubeconfig files as tools write them, pods' environments, and what is not understood."""

import base64
import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import ConfigError, UdplaneError
from dataplane.stores.http import tls_context
from dataplane.stores.kubeconfig import from_kubeconfig, in_cluster

# Laid out as kubeadm and kubectl write it: lists as far left as their keys, sorted keys.
KUBECONFIG = """\
apiVersion: v1
clusters:
- cluster:
    server: https://[fd00::1]:6443/clusters/one
  name: one
contexts:
- context:
    cluster: one
    user: admin
  name: admin@one
current-context: admin@one
kind: Config
preferences: {}
users:
- name: admin
  user:
    token: secret
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate `cert.pem` and its key `key.pem` in a directory."""
    directory = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=test", "-days", "2"]
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl: run `sudo apt-get install openssl`")
    return directory


@pytest.mark.parametrize("token", ["|\n      secret", "&anchor secret", "{a: b}", "!!int 1", "2026-01-01"])
def test_any_yaml_is_read(path: Path, token: str) -> None:
    path.write_text(KUBECONFIG.replace("preferences: {}", "preferences: {colors: true}").replace("secret", token))
    server = from_kubeconfig(path)
    assert server.token is not None
    assert server.token()


def test_server_and_token_of_the_current_context(path: Path) -> None:
    server = from_kubeconfig(path)
    assert str(server.endpoint) == "https://[fd00::1]:6443"
    assert server.path == "/clusters/one"
    assert server.token is not None
    assert server.token() == "secret"


def test_the_same_file_as_json(path: Path) -> None:
    path.write_text(json.dumps(yaml.safe_load(KUBECONFIG)))
    assert str(from_kubeconfig(path).endpoint) == "https://[fd00::1]:6443"


def test_certificates_lie_in_the_file_or_beside_it(path: Path, certificate: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (path.parent / name).write_bytes((certificate / name).read_bytes())
    inline = {name: base64.b64encode((certificate / name).read_bytes()).decode() for name in ("cert.pem", "key.pem")}
    for user in (
        "client-certificate: cert.pem\n    client-key: key.pem",
        f"client-certificate-data: {inline['cert.pem']}\n    client-key-data: {inline['key.pem']}",
    ):
        authority = f"certificate-authority-data: {inline['cert.pem']}\n    server:"
        path.write_text(KUBECONFIG.replace("token: secret", user).replace("server:", authority))
        server = from_kubeconfig(path)
        assert server.token is None
        assert server.endpoint.tls is not None
        assert [entry["subject"] for entry in server.endpoint.tls.get_ca_certs()] == [((("commonName", "test"),),)]


def test_a_server_is_verified_as_everywhere_else(path: Path, certificate: Path) -> None:
    authority = base64.b64encode((certificate / "cert.pem").read_bytes()).decode()
    usual = tls_context()
    for more in ("", f"certificate-authority-data: {authority}\n    ", "insecure-skip-tls-verify: 'no'\n    "):
        path.write_text(KUBECONFIG.replace("server:", f"{more}server:"))
        tls = from_kubeconfig(path).endpoint.tls
        assert tls is not None
        assert (tls.minimum_version, tls.verify_flags) == (usual.minimum_version, usual.verify_flags)
        assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert tls.minimum_version is ssl.TLSVersion.TLSv1_2
        assert not tls.verify_flags & ssl.VERIFY_X509_STRICT


def test_a_server_that_is_not_to_be_verified_is_said(
    path: Path, certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    skip = "insecure-skip-tls-verify: true\n    "
    path.write_text(KUBECONFIG.replace("server:", f"{skip}server:"))
    tls = from_kubeconfig(path).endpoint.tls
    assert tls is not None
    assert (tls.verify_mode, tls.minimum_version) == (ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2)
    assert "whoever is in between can be the API server" in caplog.text
    (path.parent / "ca.pem").write_bytes((certificate / "cert.pem").read_bytes())
    path.write_text(KUBECONFIG.replace("server:", f"{skip}certificate-authority: ca.pem\n    server:"))
    with pytest.raises(ConfigError, match="insecure-skip-tls-verify; take one of them out"):
        from_kubeconfig(path)


def test_tls_is_set_up_in_one_place() -> None:
    root = Path(__file__).parents[2] / "dataplane"
    makers = ("create_default_context", "SSLContext(", "_create_unverified_context", "wrap_socket")
    found = {file.name for file in root.rglob("*.py") if any(maker in file.read_text() for maker in makers)}
    assert found == {"http.py"}


def test_a_token_file_is_read_for_each_request(path: Path) -> None:
    path.write_text(KUBECONFIG.replace("token: secret", "tokenFile: token"))
    server = from_kubeconfig(path)
    assert server.token is not None
    with pytest.raises(ConfigError, match="cannot read the token"):
        server.token()
    for token in ("one", "two"):
        path.with_name("token").write_text(f"{token}\n")
        assert server.token() == token


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (KUBECONFIG, "", "is not complete"),
        (KUBECONFIG, "{", "is not complete"),
        (KUBECONFIG, "- a\n- b\n", "is not complete"),
        ("current-context: admin@one", "current-context: other", "has no context 'other'"),
        ("cluster: one", "cluster: two", "has no cluster 'two'"),
        ("user: admin", "user: nobody", "has no user 'nobody'"),
        ("https://[fd00::1]:6443/clusters/one", "one", "is no address of an API server"),
        ("    token: secret", "    exec:\n      command: aws", "needs a helper program"),
        ("token: secret", "client-certificate-data: '%%%'\n    client-key-data: aGk=", "is not complete"),
        ("token: secret", "client-certificate-data: aGk=\n    client-key-data: aGk=", "kubeconfig"),
        ("token: secret", "client-certificate: gone.pem\n    client-key: gone.pem", "No such file"),
        ("token: secret", "client-certificate-data: aGk=", "only one of client-certificate and client-key"),
        ("server:", "certificate-authority-data: aGk=\n    server:", "kubeconfig"),
        ("token: secret", 'token: "secret', "is not YAML"),
    ],
)
def test_what_is_missing_or_not_understood_is_one_line(path: Path, old: str, new: str, complaint: str) -> None:
    path.write_text(KUBECONFIG.replace(old, new))
    with pytest.raises(UdplaneError, match=complaint) as caught:
        from_kubeconfig(path)
    assert "\n" not in str(caught.value)


def test_a_pod_knows_the_server_from_its_environment(tmp_path: Path, certificate: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(ConfigError, match="this is no Kubernetes pod"):
        in_cluster({}, tmp_path)
    with pytest.raises(ConfigError, match="mount the service account"):
        in_cluster(environ, tmp_path)
    (tmp_path / "ca.crt").write_bytes((certificate / "cert.pem").read_bytes())
    (tmp_path / "token").write_text("of the pod")
    server = in_cluster(environ, tmp_path)
    assert str(server.endpoint) == "https://10.96.0.1:443"
    assert server.token is not None
    assert server.token() == "of the pod"


@pytest.mark.parametrize(
    "text", ["a: b: c", "a: [", "\t- a", "- a\nb: c", "a: *nobody", "!!python/name:os.system a", "\0"]
)
def test_what_is_no_yaml_is_refused_in_one_line(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"the kubeconfig {path}") as refusal:
        from_kubeconfig(path)
    assert "\n" not in str(refusal.value)


@given(st.text(alphabet=st.sampled_from("ab:- \n'\"#{}[]|&*!?"), max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "kubeconfig-of-any-text"
    path.write_text(text)
    with pytest.raises(ConfigError):
        from_kubeconfig(path)


def test_without_pyyaml_it_says_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigError, match=r"pip install 'udplane\[kube\]'; or convert it with `kubectl"):
        from_kubeconfig(path)
    path.write_text(json.dumps(yaml.safe_load(KUBECONFIG)))
    assert str(from_kubeconfig(path).endpoint) == "https://[fd00::1]:6443"
