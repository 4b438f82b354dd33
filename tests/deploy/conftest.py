"""What the tests of the deployment files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flanneld.host import Host, kubernetes_host


@pytest.fixture
def host(namespaces: None, tun_device: None, tmp_path: Path) -> Iterator[Host]:
    with kubernetes_host(tmp_path) as host:
        yield host
