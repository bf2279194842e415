"""The console: what is printed hides nothing, and nothing stops because nobody reads it."""

import errno
import os
import sys
from typing import Any, TextIO

from experiment.core.text import visible, visible_lines


def say(text: str, *, to: TextIO | None = None) -> None:
    """Print text of one or several lines, by default to stdout."""
    print(visible_lines(text), file=to, flush=True)


def say_line(text: str, *, to: TextIO | None = None) -> None:
    """Print one line, whatever is quoted in it."""
    print(visible(text), file=to, flush=True)


class Tolerant:
    """A stream that goes on when its reader has ended, as that of `| head -3` does.

    It also goes on if it cannot be written for another reason, such as a full disk, and remembers
    why.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.error: OSError | None = None  # what has kept text from being written that is wanted

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Let all that follows, and what is left in the buffer, go nowhere."""
        if error.errno not in (errno.EPIPE, errno.EBADF):
            self.error = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lost_output() -> str:
    """Why not all was printed to stdout that somebody waits for; empty if it was."""
    error = getattr(sys.stdout, "error", None)
    return f"cannot write to standard output: {error.strerror}" if error is not None else ""


def tolerate_closed_output() -> None:
    """Let this process print to streams that may be closed, from the start or later."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # it stays open
        setattr(sys, name, Tolerant(stream))
