"""Read YAML safely: whole files with what they include, and the values of `--set key=value`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiment.config.documents import Document, KeyPath, assign, merge_documents
from experiment.config.yaml_syntax import Loader, TooLargeError
from experiment.core.errors import UserError, first_line

MAPPING_TAG = "tag:yaml.org,2002:map"
SEQUENCE_TAG = "tag:yaml.org,2002:seq"
MOST_BYTES = 2**18  # of a file
MOST_FILES = 100  # that a file includes, itself included


def read(path: Path) -> Document:
    """A file merged onto all that it includes.

    Raises UserError for files that are missing, broken or too large, and for circular includes.
    """
    return _read(path, (), [])


def _read(path: Path, including: tuple[Path, ...], files: list[Path]) -> Document:
    """As `read`; `including` are the files that led here, `files` all that were read so far."""
    files.append(path)
    if len(files) > MOST_FILES:
        raise UserError(f"{files[0]}: includes more than {MOST_FILES} files, directly or by others")
    document = parse(_text(path), str(path))
    names = document.values.pop("include", None) or []
    origin = document.origin(("include",))
    for path_of_include in [keys for keys in document.origins if keys[0] == "include"]:
        del document.origins[path_of_include]
    if not isinstance(names, str | list):
        raise UserError(f"{origin}: include must be a file name or a list of them, not {names!r}")
    if isinstance(names, str):
        names = [names]
    below = Document()
    for name in names:
        included = _included(name, path, including, origin)
        of_included = _read(included, (*including, path.resolve()), files)
        below = merge_documents(below, of_included)
    return merge_documents(below, document)


def parse(text: str, source: str) -> Document:
    """A YAML text whose top level is a mapping. Raises UserError with file and line."""
    loader = None
    try:
        loader = Loader(text)  # raises for characters that YAML does not allow
        return _document(loader, source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{source}{line}: {_problem(error)}") from None
    except RecursionError:
        raise UserError(f"{source}: an alias contains itself") from None
    except ValueError as error:  # `!!int x`
        raise UserError(f"{source}: not valid YAML: {first_line(error)}") from None
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
            raise UserError(f"--set {assignment}: must have the form key.path=value")
        if keys[0] == "include":
            raise UserError(f"--set {assignment}: include works only in files")
        document = assign(document, keys, _parse_value(text), f"--set {key.strip()}")
    return document


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{path}: is larger than {MOST_BYTES:,} bytes: no experiment file")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory, not a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _included(name: Any, path: Path, including: tuple[Path, ...], origin: str | None) -> Path:
    """The path of a file that the file at `path` includes."""
    if not isinstance(name, str):
        raise UserError(f"{origin}: include must be a file name or a list of them, not {name!r}")
    included = path.parent / name
    if included.resolve() in (*including, path.resolve()):
        raise UserError(f"{origin}: include of {included} is circular")
    if not included.is_file():
        raise UserError(f"{origin}: include: no such file: {included}")
    return included


def _parse_value(text: str) -> Any:
    """One YAML value, the right side of `--set key=value`."""
    try:
        return _plain(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set: '{text}': {_problem(error)}") from None
    except RecursionError:
        raise UserError(f"--set: '{text}': an alias contains itself") from None
    except ValueError as error:
        raise UserError(f"--set: '{text}': not valid YAML: {first_line(error)}") from None


def _plain(text: str) -> Any:
    """The value of a YAML text. Raises YAMLError, RecursionError or ValueError."""
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _Constructor(loader, Document()).value(node, ())
    finally:
        loader.dispose()


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, on one line."""
    problem = " ".join((getattr(error, "problem", None) or str(error)).split())
    return problem if isinstance(error, TooLargeError) else f"not valid YAML: {problem}"


def _document(loader: Loader, source: str) -> Document:
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

    loader: Loader
    document: Document

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """The value of a node, which lies at a key path of the document."""
        self.loader.count_value(node.start_mark)
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
                raise UserError(f"{origin}: key {key!r} must be a string")
            if key in own_keys:
                raise UserError(f"{origin}: key '{key}' is given twice")
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
