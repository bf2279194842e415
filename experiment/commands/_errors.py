"""How commands tell people what went wrong."""

import sys
import traceback

from experiment.core import own_code


def tell(kind: str, error: Exception, show_traceback: bool) -> None:
    """Print an error; its traceback too, if that was asked for.

    If it comes from a person's own code, the line says how to see the traceback.
    """
    hint = ""
    if show_traceback:
        traceback.print_exception(error)
    elif own_code.place(error):
        hint = "; --traceback shows where it comes from"
    print(f"{kind}: {error}{hint}", file=sys.stderr)
