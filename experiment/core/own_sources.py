"""The source of people's own code: of a module, and of their own modules that it imports.

Own is what belongs neither to the standard library, nor to an installed package, nor to this
software as it is shipped. A plug-in that somebody has added to this software is own code.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from experiment.core.dependencies import Dependencies, Dependency, Kind
from experiment.core.own_code import is_own, shortened
from experiment.core.shipped import PLUGIN_MODULES


@dataclass(frozen=True)
class Source:
    """The text of a module, as far as it matters here."""

    filename: str
    digest: str
    imported: tuple[str, ...]  # full names, of which some may be no modules


# A module that was imported runs the text that it had then, whatever its file says now. With the
# source goes the specification of the module, which is another one when it is imported again.
_sources: WeakKeyDictionary[ModuleType, tuple[ModuleSpec | None, Source | None]]
_sources = WeakKeyDictionary()


def own_sources(module: str) -> Dependencies:
    """The sources of a module and of all that it imports, directly or not, as far as they are own.

    Follows the `import` statements; imports nothing. In the order of the modules' names.
    """
    found: dict[str, Source | None] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            source = found[name] = _own_source(name)
            waiting += _enclosing(name)
            waiting += source.imported if source else ()
    return tuple(
        Dependency(Kind.SOURCE, name, source.digest, f"the source of {shortened(source.filename)}")
        for name, source in sorted(found.items())
        if source is not None
    )


def _enclosing(name: str) -> list[str]:
    """The packages that are imported with a module."""
    parent = name.rpartition(".")[0]
    return [parent] if parent else []


def _own_source(name: str) -> Source | None:
    """The source of a module; None if it is not own, or not written in Python."""
    module = sys.modules.get(name)
    if module is None:
        spec = _specification(name)
        return _read(name, spec.name, spec.loader, spec.origin) if spec else None
    if not isinstance(module, ModuleType):  # some libraries put other objects there
        return None
    spec = module.__spec__
    known = _sources.get(module)
    if known is None or known[0] is not spec:
        read = _read(name, name, module.__loader__, getattr(module, "__file__", None))
        known = _sources[module] = (spec, read)
    return known[1]


def _specification(name: str) -> ModuleSpec | None:
    """Where a module is that has not been imported; imports nothing to find it."""
    parent, _, last = name.rpartition(".")
    if not parent:
        try:
            return importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
    known = parent in sys.modules
    enclosing = getattr(sys.modules[parent], "__spec__", None) if known else _specification(parent)
    if not isinstance(enclosing, ModuleSpec):
        return None
    folders = enclosing.submodule_search_locations
    # Under the full name, Python would look for the enclosing package among the imported ones.
    return PathFinder.find_spec(last, list(folders)) if folders else None


def _read(name: str, name_in_loader: str, loader: Any, filename: str | None) -> Source | None:
    """The source of a module that a loader would load from a file, if it is own."""
    if filename is None or not is_own(filename) or name in PLUGIN_MODULES:
        return None
    try:
        text = loader.get_source(name_in_loader)  # with ends of lines as on every system
    except (AttributeError, ImportError, OSError, SyntaxError):
        return None
    if text is None:  # compiled
        return None
    package = name if Path(filename).name == "__init__.py" else name.rpartition(".")[0]
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return Source(filename, digest, tuple(_imported(text, package)))


def _imported(text: str, package: str) -> Iterator[str]:
    """The names that the import statements of a module in `package` may import modules by."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):  # importing it will fail
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = _start(node, package)
            if start:
                yield start
                yield from (f"{start}.{alias.name}" for alias in node.names)


def _start(node: ast.ImportFrom, package: str) -> str:
    """The full name of the module from which a statement imports; empty if there is none."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    parents = parents[: len(parents) - (node.level - 1)]
    return ".".join([*parents, node.module] if node.module else parents)
