"""The etcd store against clusters that lose members, want credentials or certificates, or lack the gateway."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from dataplane.errors import StoreError
from dataplane.leases.lease import Lease, LeaseEvent
from dataplane.stores.base import Snapshot, StoreOptions, WatchUpdate
from dataplane.stores.etcd import EtcdStore
from dataplane.stores.etcd_gateway import Credentials, Gateway
from dataplane.stores.http import Endpoint
from dataplane.stores.registry import open_store
from tests.stores.etcd_server import EtcdMember, etcd_cluster, rejoin, store_at
from tests.stores.helpers import list_once, once_up, request, run, watching

CONFIG = '{"Network":"10.5.0.0/16"}'
VALUE = '{"PublicIP":"192.168.0.1","PublicIPv6":null}'


async def acquire_soon(store: EtcdStore, host: int) -> Lease:
    """Acquire as a node does: trouble that can pass is tried again."""
    while True:
        try:
            return await store.acquire(request(host))
        except StoreError as error:
            assert error.transient, error
            await asyncio.sleep(0.05)


def shows(update: WatchUpdate, wanted: Lease) -> bool:
    """True if `update` reports the lease `wanted`."""
    leases = update.leases if isinstance(update, Snapshot) else [update.lease] if isinstance(update, LeaseEvent) else []
    return any(lease.key == wanted.key for lease in leases)


def test_three_members_lose_their_leader_and_one_its_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.stores.http.REQUEST_SECONDS", 1.5)

    async def story(members: list[EtcdMember]) -> None:
        members[0].put("/cluster/config", CONFIG)
        endpoints = [Endpoint("127.0.0.1", member.client_port) for member in members]
        store = EtcdStore(Gateway(endpoints, Credentials()), "/cluster", lease_seconds=86400)
        first = await store.acquire(request(1))
        async with watching(store) as seen:
            await seen(lambda it: it == Snapshot((first,)))
            leader = next(member for member in members if member.is_leader())
            leader.kill()
            second = await acquire_soon(store, 2)
            await seen(lambda it: shows(it, second))
            other = next(member for member in members if member is not leader)
            await asyncio.to_thread(rejoin, other, leader)
            other.pause()  # it answers no more, and the restored member makes the majority
            third = await acquire_soon(store, 3)
            await seen(lambda it: shows(it, third))
            assert {lease.key for lease in await store.leases()} == {first.key, second.key, third.key}
        await store.close()

    with etcd_cluster(tmp_path, 3) as members:
        run(story(members))


def test_users_and_passwords(tmp_path: Path) -> None:
    async def outlive_a_restart(member: EtcdMember) -> None:
        store = store_at(member.client_port, "/auth", user="root", password="secret")
        assert len(await store.leases()) == 1
        member.kill()
        member.start()
        await asyncio.to_thread(member.wait_for_any_answer)
        assert len(await store.leases()) == 1
        await store.close()

    with etcd_cluster(tmp_path, 1) as (member,):
        member.put("/auth/subnets/10.5.1.0-24", VALUE)
        for name, password in (("root", "secret"), ("guest", "guest")):
            member.post("auth/user/add", {"name": name, "password": password})
        member.post("auth/role/add", {"name": "root"})
        member.post("auth/user/grant", {"user": "root", "role": "root"})
        member.post("auth/enable", {})
        for user, password, complaint in (
            ("root", "wrong", "wants other credentials: .*; check --etcd-username and its password"),
            ("", "", "user name is empty; check --etcd-username"),
            ("guest", "guest", "denies access: .*; grant this user the prefix, read and write"),
        ):
            with pytest.raises(StoreError, match=complaint) as caught:
                asyncio.run(list_once(store_at(member.client_port, "/auth", user=user, password=password)))
            assert not caught.value.transient
        run(outlive_a_restart(member))


def make_certificates(directory: Path) -> None:
    """A CA, and a certificate that serves 127.0.0.1 and also identifies a client."""
    extensions = directory / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
    for command in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test CA", "-days", "2"],
        ["req", *key, "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=node"],
        ["x509", "-req", "-in", "node.csr", *authority, "-out", "node.crt", "-extfile", extensions.name, "-days", "2"],
    ):
        try:
            subprocess.run(["openssl", *command], cwd=directory, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("needs openssl: run `sudo apt-get install openssl`")


def test_client_certificates(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    ca, certificate, key = (str(tmp_path / name) for name in ("ca.crt", "node.crt", "node.key"))

    def leases(ca: str, certificate: str, key: str) -> list[Lease]:
        options = StoreOptions(
            etcd_prefix="/tls", etcd_cafile=ca, etcd_certfile=certificate, etcd_keyfile=key if certificate else ""
        )
        return asyncio.run(list_once(open_store(f"etcds://127.0.0.1:{member.client_port}", options)))

    tls = ["--cert-file", certificate, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth"]
    with etcd_cluster(tmp_path, 1, *tls, wait=False, scheme="https") as (member,):
        assert once_up(lambda: leases(ca, certificate, key)) == []
        with pytest.raises(StoreError, match=r"a certificate that cannot be trusted: .*; check --etcd-cafile"):
            leases("", certificate, key)
        with pytest.raises(StoreError, match="etcd is out of reach"):
            leases(ca, "", "")
        with pytest.raises(StoreError, match=r"whether it wants TLS \(etcds:\)"):
            asyncio.run(list_once(store_at(member.client_port, "/tls")))


def test_a_gateway_that_is_off_is_said(tmp_path: Path) -> None:
    without_gateway = etcd_cluster(tmp_path, 1, "--enable-grpc-gateway=false", wait=False)
    with without_gateway as (member,), pytest.raises(StoreError) as caught:
        once_up(lambda: asyncio.run(list_once(store_at(member.client_port, "/none"))))
    advice = "has no JSON gateway (HTTP 404); start etcd, 3.4 or later, with --enable-grpc-gateway=true"
    assert advice in str(caught.value)
