"""Read YAML safely: whole files with what they include, and the values of `--set key=value`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiment.config.documents import Document, KeyPath, assign, merge_documents
from experiment.core.errors import UserError
from experiment.core.text import short, shown

MAPPING_TAG = "tag:yaml.org,2002:map"
SEQUENCE_TAG = "tag:yaml.org,2002:seq"
INCLUDE_FORM = "include must be a file name or a list of them"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads `1e-4` as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def read(path: Path, including: tuple[Path, ...] = ()) -> Document:
    """A file merged onto all that it includes; `including` are the files that led here.

    Raises UserError for files that are missing or broken, and for circular includes.
    """
    document = parse(_text(path), str(path))
    names = document.values.pop("include", None) or []
    origin = document.origin(("include",))
    for path_of_include in [keys for keys in document.origins if keys[0] == "include"]:
        del document.origins[path_of_include]
    if not isinstance(names, str | list):
        raise UserError(f"{origin}: {INCLUDE_FORM}, not {shown(names)}")
    if isinstance(names, str):
        names = [names]
    below = Document()
    for name in names:
        included = _included(name, path, including, origin)
        below = merge_documents(below, read(included, (*including, path.resolve())))
    return merge_documents(below, document)


def parse(text: str, source: str) -> Document:
    """A YAML text whose top level is a mapping. Raises UserError with file and line."""
    loader = None
    try:
        loader = _Loader(text)  # raises for characters that YAML does not allow
        return _document(loader, source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{source}{line}: not valid YAML: {_problem(error)}") from None
    except RecursionError:
        raise UserError(f"{source}: an alias contains itself") from None
    finally:
        if loader is not None:
            loader.dispose()


def read_overrides(assignments: Sequence[str]) -> Document:
    """The document that a list of `key.path=value` texts stands for. Raises UserError."""
    document = Document()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        keys = tuple(key.strip().split("."))
        if not equals or not all(keys):
            raise UserError(f"--set {short(assignment)}: must have the form key.path=value")
        if keys[0] == "include":
            raise UserError(f"--set {short(assignment)}: include works only in files")
        document = assign(document, keys, _parse_value(text), f"--set {short(key.strip())}")
    return document


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory, not a YAML file") from None
    except (OSError, ValueError) as error:  # no UTF-8, or no file can have that name
        raise UserError(f"{path}: cannot be read: {error}") from None


def _included(name: Any, path: Path, including: tuple[Path, ...], origin: str | None) -> Path:
    """The path of a file that the file at `path` includes."""
    if not isinstance(name, str):
        raise UserError(f"{origin}: {INCLUDE_FORM}, not {shown(name)}")
    included = path.parent / name
    try:
        if included.resolve() in (*including, path.resolve()):
            raise UserError(f"{origin}: include of {included} is circular")
        if included.is_file():
            return included
    except (OSError, ValueError):  # no file can have that name
        pass
    raise UserError(f"{origin}: include: no such file: {short(str(included))}")


def _parse_value(text: str) -> Any:
    """One YAML value, the right side of `--set key=value`."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"--set: '{short(text)}' is not valid YAML: {_problem(error)}") from None


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, on one line."""
    return " ".join((getattr(error, "problem", None) or str(error)).split())


def _document(loader: _Loader, source: str) -> Document:
    node = loader.get_single_node()
    document = Document(source=source)
    if node is None:
        return document
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{source}: must be a mapping of keys to values")
    document.values = _Constructor(loader, document).value(node, ())
    return document


@dataclass
class _Constructor:
    """Turns YAML nodes into plain values and notes in a document the line of each."""

    loader: _Loader
    document: Document

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """The value of a node, which lies at a key path of the document."""
        if isinstance(node, yaml.MappingNode) and node.tag == MAPPING_TAG:
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == SEQUENCE_TAG:
            return self._sequence(node, path)
        return self.loader.construct_object(node, deep=True)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        own_nodes = {id(key_node) for key_node, _ in node.value}
        # Replaces `<<` by the keys that it brings in. They come first, so the own keys win.
        self.loader.flatten_mapping(node)
        own_keys = set()
        result = {}
        for key_node, value_node in node.value:
            key = self.loader.construct_object(key_node, deep=True)
            origin = self._origin(key_node)
            if not isinstance(key, str):
                raise UserError(f"{origin}: key {shown(key)} must be a string")
            if key in own_keys:
                raise UserError(f"{origin}: key '{short(key)}' is given twice")
            if id(key_node) in own_nodes:
                own_keys.add(key)
            self.document.origins[(*path, key)] = origin
            result[key] = self.value(value_node, (*path, key))
        return result

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self.document.origins[(*path, index)] = self._origin(item)
            items.append(self.value(item, (*path, index)))
        return items

    def _origin(self, node: yaml.Node) -> str:
        return f"{self.document.source}:{node.start_mark.line + 1}"
