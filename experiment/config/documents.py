"""Trees of plain values that remember where each value was written, and how they are merged."""

from dataclasses import dataclass, field
from typing import Any

from experiment.core.text import short

KeyPath = tuple[str | int, ...]

EMPTY = "''"  # how a message shows an empty key


@dataclass
class Document:
    """A tree of plain values, with an origin for each key path: `file:line` or `--set key`.

    `source` is the file that the user named, for mistakes without an origin of their own.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    source: str = ""

    def origin(self, path: KeyPath) -> str | None:
        """The origin of the value at a key path, or of the closest value that encloses it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return None

    def locate(self, path: KeyPath) -> str:
        """How a message refers to a key path: `file:line: key.path`."""
        if not path:
            return self.source
        return f"{self.origin(path) or self.source}: {dotted(path)}"


def dotted(path: KeyPath) -> str:
    """A key path as users write it: `pruning.methods[0].name`."""
    texts = (f"[{key}]" if isinstance(key, int) else f".{short(str(key)) or EMPTY}" for key in path)
    return "".join(texts).removeprefix(".")


def merge(below: Any, above: Any) -> Any:
    """Merge two trees deeply; where both have a value, `above` wins.

    Options belong to a name: a mapping with another `name` than the one below replaces it as a
    whole, so that for instance SGD's momentum is not handed to Adam.
    """
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    if "name" in below and "name" in above and below["name"] != above["name"]:
        return above
    merged = dict(below)
    for key, value in above.items():
        merged[key] = merge(below[key], value) if key in below else value
    return merged


def merge_documents(below: Document, above: Document) -> Document:
    """Merge values and origins.

    Where `above` replaces a value as a whole, the origins of that value's items are dropped.
    """

    wholes = {path for path in above.origins if not isinstance(_value_at(above.values, path), dict)}
    lengths = {len(path) for path in wholes}

    def is_replaced(path: KeyPath) -> bool:
        return path[0] in above.values and any(path[:length] in wholes for length in lengths)

    kept = {path: origin for path, origin in below.origins.items() if not is_replaced(path)}
    values = merge(below.values, above.values)
    return Document(values, kept | above.origins, above.source or below.source)


def assign(document: Document, keys: tuple[str, ...], value: Any, origin: str) -> Document:
    """The document with a value merged in at a key path.

    All mappings that enclose the value get the same origin, so that a contradiction that the value
    causes in one of them is reported with it.
    """
    tree = value
    for key in reversed(keys):
        tree = {key: tree}
    origins: dict[KeyPath, str] = {}
    for length in range(1, len(keys) + 1):
        origins[keys[:length]] = origin
    return merge_documents(document, Document(tree, origins))


def _value_at(values: Any, path: KeyPath) -> Any:
    for key in path:
        values = values[key]
    return values
