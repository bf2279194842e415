"""Reading YAML: safely, with includes and overrides merged deeply, remembering where each value stands."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from experiment.core.errors import UserError

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads `1e-4` as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


@dataclass
class Document:
    """A tree of plain values, and for each key path the `file:line` (or `--set ...`) it came from."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def origin(self, path: KeyPath) -> str | None:
        """Where the value at a key path, or the closest one that encloses it, was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return None


def parse(text: str, source: str) -> Document:
    """A YAML text whose top level is a mapping. Raises UserError with file and line."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        document = Document()
        if node is None:
            return document
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{source}: must be a mapping of keys to values")
        document.values = _construct(loader, node, (), source, document.origins)
        return document
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{source}{line}: not valid YAML: {' '.join(problem.split())}") from None
    except RecursionError:
        raise UserError(f"{source}: an alias contains itself") from None
    finally:
        if loader is not None:
            loader.dispose()


def parse_value(text: str) -> Any:
    """One YAML value, as on the right side of `--set key=value`."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"--set: '{text}' is not valid YAML: {problem}") from None


def _construct(loader, node, path: KeyPath, source: str, origins: dict[KeyPath, str]) -> Any:
    """Plain values of a node, noting the line of everything below it."""
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        own = {id(key_node) for key_node, _ in node.value}
        loader.flatten_mapping(
            node
        )  # keys that `<<` brings in stand first, and the mapping's own override them
        result, named = {}, set()
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            where = f"{source}:{key_node.start_mark.line + 1}"
            if not isinstance(key, str):
                raise UserError(f"{where}: key {key!r} must be a text")
            if key in result and key in named:
                raise UserError(f"{where}: key '{key}' is given twice")
            named |= {key} if id(key_node) in own else set()
            origins[(*path, key)] = where
            result[key] = _construct(loader, value_node, (*path, key), source, origins)
        return result
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        items = []
        for index, item in enumerate(node.value):
            origins[(*path, index)] = f"{source}:{item.start_mark.line + 1}"
            items.append(_construct(loader, item, (*path, index), source, origins))
        return items
    return loader.construct_object(node, deep=True)


def merge(below: Any, above: Any) -> Any:
    """Merge two trees deeply; where both have a value, `above` wins.

    Options belong to a name: a mapping with another `name` than the one below replaces it whole, so that
    for instance SGD's momentum is not handed to Adam.
    """
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    if "name" in below and "name" in above and below["name"] != above["name"]:
        return above
    return below | {
        key: merge(below[key], value) if key in below else value for key, value in above.items()
    }


def merge_documents(below: Document, above: Document) -> Document:
    """Merge values and origins; of a value that is replaced as a whole, the origins of its items go too."""

    def replaced(path: KeyPath) -> bool:
        return any(
            not isinstance(_value_at(above.values, path[:length]), dict)
            for length in range(1, len(path) + 1)
            if path[:length] in above.origins
        )

    kept = {path: origin for path, origin in below.origins.items() if not replaced(path)}
    return Document(merge(below.values, above.values), kept | above.origins)


def _value_at(values: Any, path: KeyPath) -> Any:
    for key in path:
        values = values[key]
    return values


def load(path: Path, including: tuple[Path, ...] = ()) -> Document:
    """Read a file and all it includes. Raises UserError for missing files and circular includes."""
    source = str(path)
    try:
        document = parse(path.read_text(encoding="utf-8"), source)
    except FileNotFoundError:
        raise UserError(f"{source}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{source}: is a directory, not a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read: {error}") from None
    includes = document.values.pop("include", None) or []
    if not isinstance(includes, str | list):
        where = document.origin(("include",))
        raise UserError(f"{where}: include must be a file name or a list of them, not {includes!r}")
    below = Document()
    for name in [includes] if isinstance(includes, str) else includes:
        where = document.origin(("include",))
        if not isinstance(name, str):
            raise UserError(f"{where}: include must be a file name or a list of them, not {name!r}")
        included = path.parent / name
        if included.resolve() in (*including, path.resolve()):
            raise UserError(f"{where}: include of {included} is circular")
        if not included.is_file():
            raise UserError(f"{where}: include: no such file: {included}")
        below = merge_documents(below, load(included, (*including, path.resolve())))
    return merge_documents(below, document)


def overrides(assignments: list[str]) -> Document:
    """The document that a list of `key.path=value` texts stands for."""
    document = Document()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        keys = tuple(key.strip().split("."))
        if not equals or not all(keys):
            raise UserError(f"--set {assignment}: must have the form key.path=value")
        if keys[0] == "include":
            raise UserError(f"--set {assignment}: include works in files only")
        document = assign(document, keys, parse_value(text), f"--set {key.strip()}")
    return document


def assign(document: Document, keys: tuple[str, ...], value: Any, origin: str) -> Document:
    """The document with a value merged in at a key path.

    All that encloses the value comes from `origin` too, so that a contradiction it makes there is found.
    """
    tree = value
    for part in reversed(keys):
        tree = {part: tree}
    return merge_documents(
        document, Document(tree, {keys[:length]: origin for length in range(1, len(keys) + 1)})
    )
