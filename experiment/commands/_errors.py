"""How commands tell people what went wrong."""

import sys

from experiment.core import console, own_code
from experiment.core.errors import details_of
from experiment.core.text import visible


def tell(kind: str, error: Exception, show_traceback: bool) -> None:
    """Print an error; its traceback too, if that was asked for.

    If it comes from a person's own code, the line says how to see the traceback.
    """
    hint = ""
    if show_traceback:
        console.say(details_of(error).rstrip(), to=sys.stderr)
    elif own_code.place(error):
        hint = "; --traceback shows where it comes from"
    console.say(f"{visible(kind)}: {error}{hint}", to=sys.stderr)
