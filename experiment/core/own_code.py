"""Code of people's own, which experiment files name: where it fails, and what it may not do."""

import contextlib
import functools
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from experiment.core import signals
from experiment.core.errors import UserError
from experiment.core.text import short, shown

PACKAGE = Path(__file__).resolve().parents[1]
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
LIBRARIES = {"site-packages", "dist-packages"}  # folders of installed packages
PLUGINS = tuple(PACKAGE / folder for folder in ("methods", "networks", "data/sets", "trackers"))


_is_refused = False


@contextlib.contextmanager
def refused(is_refused: bool = True) -> Iterator[None]:
    """A block in which experiment files cannot name code of people's own, if `is_refused`."""
    global _is_refused
    before = _is_refused
    _is_refused = is_refused
    try:
        yield
    finally:
        _is_refused = before


def require_allowed(name: str) -> None:
    """Raise UserError if code that a file names must not be imported."""
    if _is_refused:
        raise UserError(
            f"'{short(name)}' is code of your own, which --no-own-code refuses to import; use a "
            f"part of this software, or leave the option out if you trust the file and that code"
        )


class ExitedError(RuntimeError):
    """Code that was called wanted to end the process."""


@contextlib.contextmanager
def exits_as_errors() -> Iterator[None]:
    """A block that calls people's code: `sys.exit` in it is an error like any other.

    So is a KeyboardInterrupt that nobody has caused by Ctrl-C, as far as that can be told.

    Raises:
        ExitedError: instead of SystemExit and of such a KeyboardInterrupt.
    """
    try:
        yield
    except SystemExit as error:
        raise ExitedError(f"sys.exit({shown(error.code)}) was called") from error
    except KeyboardInterrupt as error:
        if signals.has_come():
            raise
        raise ExitedError("KeyboardInterrupt was raised") from error


def place(error: BaseException) -> str:
    """Where an exception was raised, or passed through, in a person's own code.

    Returns ` (mine.py, line 12)`, or nothing if only libraries and this software were involved, or
    if the code has told what is wrong by a UserError.
    """
    places = [
        found
        for one in _with_causes(error)
        if not isinstance(one, UserError)
        for found in _places(one)
        if is_own(found[0])
    ]
    if not places:
        return ""
    filename, line = places[-1]
    return f" ({shortened(filename)}, line {line})"


def _places(error: BaseException) -> list[tuple[str, int | None]]:
    """The files and lines through which an exception passed; at last that of a syntax error."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    return places


def _with_causes(error: BaseException) -> list[BaseException]:
    """An exception and those from which it was raised, the outermost first."""
    found = [error]
    for one in found:  # which grows
        inner = one.exceptions if isinstance(one, BaseExceptionGroup) else (one.__cause__,)
        found += [cause for cause in inner if cause is not None and cause not in found]
    return found


@functools.cache
def is_own(filename: str) -> bool:
    """Whether a file is a plug-in, or belongs neither to this package nor to a library."""
    path = Path(filename)
    if not path.is_absolute():  # `<string>`, `<frozen runpy>`
        return False
    path = path.resolve()
    if path.is_relative_to(PACKAGE):
        return any(path.is_relative_to(folder) for folder in PLUGINS)
    is_installed = not LIBRARIES.isdisjoint(path.parts)
    return not is_installed and not path.is_relative_to(STANDARD_LIBRARY)


def shortened(filename: str) -> str:
    """A file's path for people: relative to the current directory, if it lies below it."""
    path = Path(filename).resolve()
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
