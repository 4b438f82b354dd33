"""The embedded store against a model: any interleaving of what a few nodes do with fewer subnets."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dataplane.errors import LeaseError, LeaseLostError
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets
from dataplane.stores.base import AcquireRequest
from dataplane.stores.sqlite import SqliteStore
from tests.stores.helpers import request

hosts = st.integers(1, 5)


class LeasesAgainstModel(RuleBasedStateMachine):
    """Any interleaving of what five nodes do with three subnets, compared with a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.now = 0.0
        self.store = SqliteStore(Path(self.directory.name) / "store.db", lease_seconds=100, clock=lambda: self.now)
        asyncio.run(self.store.set_network_config('{"Network":"10.5.0.0/24"}'))
        self.rows: dict[str, Lease] = {}
        self.held: dict[int, Lease] = {}

    def teardown(self) -> None:
        self.directory.cleanup()

    def attrs(self, host: int) -> LeaseAttrs:
        return request(host).attrs

    @rule(seconds=st.sampled_from([1.0, 50.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(host=hosts)
    def acquire(self, host: int) -> None:
        self.rows = {key: row for key, row in self.rows.items() if row.expires is not None and row.expires > self.now}
        mine = [row for row in self.rows.values() if row.attrs == self.attrs(host)]
        previous: Subnets | None = self.held[host].subnets if host in self.held else None
        try:
            lease = asyncio.run(self.store.acquire(AcquireRequest(self.attrs(host), previous)))
        except LeaseError:
            assert len(self.rows) == 3
            assert not mine
            return
        if mine:
            assert lease.subnets == mine[0].subnets
        elif previous is not None and previous.key not in self.rows:
            assert lease.subnets == previous
        else:
            assert lease.key not in self.rows
        assert lease.expires == self.now + 100
        self.rows[lease.key] = self.held[host] = lease

    @rule(host=hosts)
    def renew(self, host: int) -> None:
        if host not in self.held:
            return
        row = self.rows.get(self.held[host].key)
        if row is not None and row.attrs == self.attrs(host):
            self.rows[row.key] = self.held[host] = asyncio.run(self.store.renew(self.held[host]))
            assert self.held[host].expires == self.now + 100
        else:
            with pytest.raises(LeaseLostError):
                asyncio.run(self.store.renew(self.held[host]))

    @rule(host=hosts)
    def release(self, host: int) -> None:
        if host not in self.held:
            return
        asyncio.run(self.store.release(self.held[host]))
        row = self.rows.get(self.held[host].key)
        if row is not None and row.attrs == self.attrs(host):
            del self.rows[row.key]

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        live = [row for row in self.rows.values() if row.expires is not None and row.expires > self.now]
        leases = asyncio.run(self.store.leases())
        assert sorted(lease.key for lease in leases) == sorted(row.key for row in live)
        assert len({lease.attrs for lease in leases}) == len(leases)


LeasesAgainstModel.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestLeasesAgainstModel = LeasesAgainstModel.TestCase
