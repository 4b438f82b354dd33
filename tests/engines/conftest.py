"""One fixture over all engines."""

import importlib.util
from collections.abc import Callable

import pytest

from dataplane.engines.contract import Engine, EngineConfig
from dataplane.engines.registry import ENGINES, load_engine

MakeEngine = Callable[[EngineConfig], Engine]


def available(name: str) -> bool:
    """Whether the engine is built; the Python ones always are."""
    return name != "native" or importlib.util.find_spec("dataplane._native") is not None


@pytest.fixture(scope="session", params=ENGINES)
def make_engine(request: pytest.FixtureRequest) -> MakeEngine:
    """Makes engines of one kind; a test that asks for it runs once for each kind."""
    name = request.param
    if not available(name):
        pytest.skip("the C extension is not built: run ./dev test, or pip install -e .")
    return lambda config: load_engine(name, config)
