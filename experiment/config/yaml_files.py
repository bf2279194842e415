"""Read YAML safely: whole files with what they include, and the values of `--set key=value`."""

import contextlib
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiment.config.documents import Document, KeyPath, assign, merge_documents
from experiment.config.yaml_syntax import (
    DEEPEST,
    LONGEST,
    MAPPING,
    SEQUENCE,
    Loader,
    TooLargeError,
)
from experiment.core.errors import UserError, first_line
from experiment.core.text import short, shown

INCLUDE_FORM = "include must be a file name or a list of them"
MOST_BYTES = 2**16  # of a file and all that it includes
MOST_FILES = 100  # that a file includes, itself included
MOST_OVERRIDES = 200


def read(path: Path) -> Document:
    """A file merged onto all that it includes.

    Raises UserError for files that are missing, broken or too large, and for circular includes.
    """
    return _read(path, (), _Reader(path))


@dataclass
class _Reader:
    """Reads files, of bounded number and size in all."""

    first: Path
    num_files: int = 0
    num_bytes: int = 0

    def text(self, path: Path) -> str:
        """The text of the next file. Raises UserError."""
        self.num_files += 1
        if self.num_files > MOST_FILES:
            raise UserError(
                f"{self.first}: includes more than {MOST_FILES} files, directly or by others"
            )
        content = _content(path, MOST_BYTES + 1)
        self.num_bytes += len(content)
        if len(content) > MOST_BYTES:
            raise UserError(f"{path}: is larger than {MOST_BYTES:,} bytes: no experiment file")
        if self.num_bytes > MOST_BYTES:
            raise UserError(
                f"{self.first}: is larger than {MOST_BYTES:,} bytes with the files that it includes"
            )
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: cannot be read: {error}") from None


def _read(path: Path, including: tuple[Path, ...], reader: _Reader) -> Document:
    """As `read`; `including` are the files that led here."""
    document = parse(reader.text(path), str(path))
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
        of_included = _read(included, (*including, path.resolve()), reader)
        below = merge_documents(below, of_included)
    return merge_documents(below, document)


def parse(text: str, source: str) -> Document:
    """A YAML text whose top level is a mapping. Raises UserError with file and line."""
    with _loading(text, source) as loader:
        return _document(loader, source)


@contextlib.contextmanager
def _loading(text: str, place: str, *, has_lines: bool = True) -> Iterator[Loader]:
    """A block that makes values from a YAML text. Raises UserError, which begins with the place."""
    loader = None
    try:
        loader = Loader(text)  # raises for characters that YAML does not allow
        yield loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark and has_lines else ""
        raise UserError(f"{place}{line}: {_problem(error)}") from None
    except RecursionError:
        raise UserError(f"{place}: an alias contains itself") from None
    except (ValueError, OverflowError) as error:  # "\\UFFFFFFFF"
        raise UserError(f"{place}: not valid YAML: {first_line(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()


def read_overrides(assignments: Sequence[str]) -> Document:
    """The document that a list of `key.path=value` texts stands for. Raises UserError."""
    if len(assignments) > MOST_OVERRIDES or sum(map(len, assignments)) > MOST_BYTES:
        raise UserError(
            f"--set: at most {MOST_OVERRIDES:,} values of {MOST_BYTES:,} characters in all"
        )
    document = Document()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        keys = tuple(key.strip().split("."))
        if len(keys) > DEEPEST or len(key) > LONGEST:
            raise UserError(
                f"--set {key[:20]}...: a key path of {len(keys):,} keys and {len(key):,} "
                f"characters; {DEEPEST} and {LONGEST:,} are possible"
            )
        if not equals or not all(keys):
            raise UserError(f"--set {short(assignment)}: must have the form key.path=value")
        if keys[0] == "include":
            raise UserError(f"--set {short(assignment)}: include works only in files")
        origin = f"--set {short(key.strip())}"
        document = assign(document, keys, read_value(text, "--set", origin), origin)
    return document


def _content(path: Path, most: int) -> bytes:
    """The first bytes of a file. Raises UserError if there is none; pipes might never end."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{path}: is a directory, not a YAML file")
        if not stat.S_ISREG(mode):
            raise UserError(f"{path}: is a pipe or a device, not a YAML file")
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: no file can have that name
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


def read_value(text: str, option: str, source: str) -> Any:
    """One YAML value of an option of the command line. Raises UserError.

    `source` is what messages name: for `--set key=value`, its left side.
    """
    with _loading(text, f"{option}: '{short(text)}'", has_lines=False) as loader:
        node = loader.get_single_node()
        if node is None:
            return None
        return _Constructor(loader, Document(source=source), has_lines=False).value(node, ())


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
    has_lines: bool = True  # unlike a value of `--set`

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """The value of a node, which lies at a key path of the document."""
        self.loader.count_value(node.start_mark)
        if isinstance(node, yaml.MappingNode) and node.tag == MAPPING:
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == SEQUENCE:
            return self._sequence(node, path)
        return self.loader.construct_object(node, deep=True)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        own_nodes = {id(key_node) for key_node, _ in node.value}
        # Replaces `<<` by the keys that it brings in. They come first, so the own keys win.
        self.loader.flatten_mapping(node)
        own_keys = set()
        result = {}
        for key_node, value_node in node.value:
            origin = self._origin(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(f"{origin}: a key must be a string, not a mapping or a list")
            key = self.loader.construct_object(key_node)
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
        line = f":{node.start_mark.line + 1}" if self.has_lines else ""
        return f"{self.document.source}{line}"
