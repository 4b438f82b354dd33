"""The page as one HTML file that opens from disk: scripts and styles are put into it, the data beside them.

Browsers load no modules from disk, so the modules become functions of one script, in the order in which they need each
other. That is possible because they keep to few forms, which `_module` insists on: imports of one line each, and
exports of declarations.
"""

import re
from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

from dataplane.lab.netns import LabError
from dataplane.lab.web.assets import STATIC, page

ENTRY = "main.js"

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""The file loads nothing, from nowhere."""

SERVED_POLICY = (
    POLICY.replace("script-src ", "script-src 'self' 'wasm-unsafe-eval' ") + "; worker-src 'self'; connect-src 'self'"
)
"""The page of a folder loads Python from beside it."""

_IMPORT = re.compile(r'^import (?:(?:\* as (\w+))|(\{[^}\n]+\})) from "\./([\w.-]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?function\*?|class|const) ([\w$]+)", re.MULTILINE)


def single_page(data: Mapping[str, Any], *, served: bool = False) -> str:
    """The page as one file, starting with `data`; with `served`, it may load an engine from beside it."""
    text, policy = page(data), SERVED_POLICY if served else POLICY
    text = re.sub(r'<link rel="stylesheet" href="static/([\w./-]+)">', lambda found: _style(found[1]), text)
    text = text.replace('<script type="module" src="static/js/main.js"></script>', f"<script>\n{bundle()}</script>")
    return text.replace(
        '<meta charset="utf-8">',
        f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">',
    )


def bundle(entry: str = ENTRY) -> str:
    """The modules that `entry` needs as one script."""
    sources: dict[str, str] = {}
    needs: dict[str, list[str]] = {}
    missing = [entry]
    while missing:
        name = missing.pop()
        if name not in sources:
            sources[name] = (STATIC / "js" / name).read_text(encoding="utf-8")
            needs[name] = [found[3] for found in _IMPORT.finditer(sources[name])]
            missing += needs[name]
    order = TopologicalSorter(needs).static_order()
    script = '"use strict";\nconst modules = {};\n' + "".join(_module(name, sources[name]) for name in order)
    if "</script" in script.lower() or "<!--" in script:
        raise LabError("a script of the page would end its own element; this is a defect of udplane")
    return script


def _module(name: str, source: str) -> str:
    """A module as a function that returns what it exports."""
    exports = [found[2] for found in _EXPORT.finditer(source)]
    body = _IMPORT.sub(lambda found: f'const {found[1] or _renamed(found[2])} = modules["{found[3]}"];', source)
    body = _EXPORT.sub(r"\1 \2", body)
    if re.search(r"^(import|export)\b", body, re.MULTILINE):
        raise LabError(f"{name} imports or exports in a form that one file cannot hold; this is a defect of udplane")
    return f'modules["{name}"] = (() => {{\n{body}\nreturn {{ {", ".join(exports)} }};\n}})();\n'


def _renamed(names: str) -> str:
    """`{ a, b as c }` of an import as what a declaration takes."""
    return re.sub(r"([\w$]+) as ([\w$]+)", r"\1: \2", names)


def _style(name: str) -> str:
    return f"<style>\n{(STATIC / name).read_text(encoding='utf-8')}</style>"
