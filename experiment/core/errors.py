"""The exceptions that people can do something about: shown as one line, without a traceback."""

import traceback

from experiment.core.text import short, visible, visible_lines

LONGEST_LINE = 4_000  # characters of a mistake, which may name files and list what is allowed
LONGEST_MESSAGE = 1_000  # of an exception, in a mistake
LONGEST_DETAILS = 100_000  # of a traceback


class UserError(Exception):
    """Bad input: one or several mistakes. Each says what is wrong, where, and what would be right.

    As a text, that is one line for each mistake, whatever is quoted in it.
    """

    def __init__(self, *mistakes: str):
        self.mistakes = tuple(short(str(mistake), LONGEST_LINE) for mistake in mistakes)
        super().__init__(*self.mistakes)

    def __str__(self) -> str:
        return "\n".join(self.mistakes)

    def within(self, place: str) -> "UserError":
        """The same mistakes, each with where it was found in front."""
        return UserError(*(f"{place}: {mistake}" for mistake in self.mistakes))


class UnreadableError(UserError):
    """A stored net cannot be read: what starts from it fails, and nothing else."""


class StorageError(Exception):
    """A file of a run cannot be written. The message says which, why, and what would help."""


class LockedError(Exception):
    """Another process is writing the results of a run. The message says which."""


def message_of(error: BaseException) -> str:
    """What an exception says, which may be of any kind; empty if it says nothing."""
    try:
        return str(error)
    except Exception:  # its `__str__` is somebody's own
        return "(its message cannot be shown: __str__ fails)"


def one_line(error: BaseException) -> str:
    """An exception's type and message on one line, for a log."""
    return _named(error, message_of(error)[:LONGEST_DETAILS])


def first_line(error: BaseException) -> str:
    """An exception's type and the first line of its message, for a sentence."""
    lines = message_of(error).strip().splitlines()
    return _named(error, lines[0].rstrip(" .") if lines else "")


def details_of(error: BaseException) -> str:
    """The traceback of an exception, without its middle if it is huge."""
    text = "".join(traceback.format_exception(error))
    if len(text) > LONGEST_DETAILS:
        half = LONGEST_DETAILS // 2
        text = f"{text[:half]}\n...\n{text[-half:]}"
    return visible_lines(text)


def _named(error: BaseException, message: str) -> str:
    """An exception's type and, if it has any, its message, with single spaces."""
    words = short(" ".join(message.split()), LONGEST_MESSAGE)
    name = visible(type(error).__name__)
    return f"{name}: {words}" if words else name
