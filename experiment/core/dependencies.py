"""What the numbers of an experiment depend on besides its settings: files of data, and own code."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a dependency is made of."""

    FILES = "files"  # which files there are, or all that they hold if they are few
    CONTENTS = "contents"  # all that the files hold, where that was asked for
    SOURCE = "source"  # of a module


@dataclass(frozen=True)
class Dependency:
    """One thing on which numbers depend: the same digest is the same thing, on every machine."""

    kind: Kind
    name: str  # tells it from others of its kind: the name of a module
    digest: str
    description: str  # for people: `the images in FOLDER`, `the source of mine.py`


Dependencies = tuple[Dependency, ...]


@dataclass
class Looking:
    """How data are looked at, and what has been found already, by data set."""

    verify: bool
    found: dict[str, Dependencies] = field(default_factory=dict)


_current: Looking | None = None


@contextlib.contextmanager
def looking_once(verify: bool = False) -> Iterator[None]:
    """A block in which each data set is looked at once, and read whole if `verify`.

    A block within another one is part of that. Outside of all blocks, nothing is remembered: what
    has changed since is seen.
    """
    global _current
    if _current is not None:
        yield
        return
    _current = Looking(verify)
    try:
        yield
    finally:
        _current = None


def looked_up(data_set: str, look: Callable[[bool], Dependencies]) -> Dependencies:
    """What a data set depends on; `look` finds it, and is told whether contents count."""
    if _current is None:
        return look(False)
    if data_set not in _current.found:
        _current.found[data_set] = look(_current.verify)
    return _current.found[data_set]
