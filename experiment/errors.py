"""The one exception for mistakes that the user can mend: shown as one line, without a traceback."""


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and what would be right."""


def one_line(error: BaseException) -> str:
    """An exception's type and message on one line, for a log."""
    return " ".join(f"{type(error).__name__}: {error}".split())
