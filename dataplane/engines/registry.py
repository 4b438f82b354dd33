"""Engines by name."""

import importlib
from dataclasses import dataclass
from pathlib import Path

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


OWN = Kind("own")
"""An engine from a file, in a lab."""


def is_file(name: str) -> bool:
    """Whether what is called an engine is the path of a file with one."""
    return "/" in name and name.endswith(".py")


def kind_of(name: str) -> Kind:
    """What is known of the engine called so, or of that in the file."""
    return OWN if is_file(name) else ENGINES[name]


def engine_name(text: str) -> str:
    """A reader of names of engines, and of paths of files with one."""
    if text not in ENGINES and not is_file(text):
        raise ValueError(f"{text!r} is not one of {', '.join(ENGINES)}")
    return text


def load_engine(name: str, config: EngineConfig) -> Engine:
    """Make the engine called `name`, importing only what it needs.

    Raises ConfigError when there is no such engine, or when what it is made of is not installed.
    """
    if is_file(name):
        from dataplane.engines import own

        return own.load(Path(name), config)
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
