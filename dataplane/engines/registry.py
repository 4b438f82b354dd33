"""Engines by name."""

import importlib

from dataplane.engines.contract import Engine, EngineConfig
from dataplane.errors import ConfigError

ENGINES = {"native": "native", "numpy": "numpy", "python": "python"}
"""Name -> module of this package, which has `create`."""

_MADE_OF = {
    "native": "the C extension, which is built when udplane is installed where a C compiler is",
    "numpy": "numpy: pip install numpy",
}
"""What an engine needs beside the standard library."""


def load_engine(name: str, config: EngineConfig) -> Engine:
    """Make the engine called `name`, importing only what it needs.

    Raises ConfigError when there is no such engine, or when what it is made of is not installed.
    """
    if name not in ENGINES:
        raise ConfigError(f"no engine is called {name!r}; choose one of {', '.join(ENGINES)}")
    try:
        module = importlib.import_module(f"dataplane.engines.{ENGINES[name]}")
    except ImportError as error:
        raise ConfigError(
            f"engine {name} cannot be loaded ({error}); it needs {_MADE_OF[name]}. "
            "Or use --engine python, which needs nothing"
        ) from error
    engine: Engine = module.create(config)
    return engine
