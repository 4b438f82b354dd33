"""Engines by name."""

import importlib
from dataclasses import dataclass

from dataplane.engines.contract import Engine, EngineConfig
from dataplane.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Kind:
    """An engine: the module of this package that has `create`, and what is known without making one."""

    module: str
    made_of: str = ""
    """What it needs beside the standard library."""
    has_loop: bool = False
    """Whether it is a LoopEngine: with offloads, several workers, and real-time ones."""


ENGINES = {
    "native": Kind(
        "native", "the C extension, which is built when udplane is installed where a C compiler is", has_loop=True
    ),
    "numpy": Kind("numpy", "numpy: pip install numpy"),
    "python": Kind("python"),
}
"""By name."""


def load_engine(name: str, config: EngineConfig) -> Engine:
    """Make the engine called `name`, importing only what it needs.

    Raises ConfigError when there is no such engine, or when what it is made of is not installed.
    """
    if name not in ENGINES:
        raise ConfigError(f"no engine is called {name!r}; choose one of {', '.join(ENGINES)}")
    try:
        module = importlib.import_module(f"dataplane.engines.{ENGINES[name].module}")
    except ImportError as error:
        raise ConfigError(
            f"engine {name} cannot be loaded ({error}); it needs {ENGINES[name].made_of}. "
            "Or use --engine python, which needs nothing"
        ) from error
    engine: Engine = module.create(config)
    return engine
