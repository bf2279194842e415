"""The exceptions that people can do something about: shown as one line, without a traceback."""


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and what would be right."""


class UnreadableError(UserError):
    """A stored net cannot be read: what starts from it fails, and nothing else."""


class StorageError(Exception):
    """A file of a run cannot be written. The message says which, why, and what would help."""


class LockedError(Exception):
    """Another process is writing the results of a run. The message says which."""


def one_line(error: BaseException) -> str:
    """An exception's type and message on one line, for a log."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def first_line(error: BaseException) -> str:
    """An exception's type and the first line of its message, for a sentence."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip(' .')}" if lines else type(error).__name__
