"""Text from files and from people's code, made fit to be shown: short, and with nothing hidden."""

import hashlib
import reprlib
from typing import Any

LONGEST = 100  # characters of a value in a message
LINE_BREAKS = "\n"
NO_DIGITS = "an integer with too many digits to be shown"


def visible(text: str, kept: str = "") -> str:
    """The text with every character that is not printable written as Python would escape it.

    Line breaks, control characters, marks of the writing direction and halves of characters are
    not printable; `kept` are characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in kept
        else character.encode("unicode_escape").decode()
        for character in text
    )


def visible_lines(text: str) -> str:
    """A text of several lines with all else that is not printable escaped."""
    return visible(text.expandtabs(), kept=LINE_BREAKS)


def short(text: str, longest: int = LONGEST) -> str:
    """The text with what is not printable escaped, and cut if it is long."""
    start = visible(text[: longest + 1])  # the rest of a huge text is not even looked at
    return start if len(start) <= longest else f"{start[: longest - 3]}..."


def shown(value: Any) -> str:
    """A value as Python writes it, but on one line, and cut if it is long: for messages."""
    try:
        return short(_SHORT.repr(value))
    except Exception:  # of a `__repr__` of somebody's own
        return f"a value of type {short(type(value).__name__)}"


def distinct(text: str) -> str:
    """As `short`; what had to be changed ends with a hash, so different texts stay different."""
    result = short(text)
    if result == text:
        return text
    return f"{result}#{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:6]}"


class _Short(reprlib.Repr):
    """Writes the beginning of a value without making the text of all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        for name in ("maxdict", "maxlist", "maxtuple", "maxset", "maxfrozenset"):
            setattr(self, name, LONGEST // 5)
        for name in ("maxstring", "maxlong", "maxother"):
            setattr(self, name, LONGEST)

    def repr_dict(self, value: dict, level: int) -> str:
        """The entries in their own order, unlike the library's."""
        if level <= 0 and value:
            return "{...}"
        entries = [
            f"{self.repr1(key, level - 1)}: {self.repr1(inner, level - 1)}"
            for _, (key, inner) in zip(range(self.maxdict), value.items())
        ]
        more = ["..."] if len(value) > self.maxdict else []
        return f"{{{', '.join([*entries, *more])}}}"

    def repr_int(self, value: int, level: int) -> str:
        try:
            return super().repr_int(value, level)
        except ValueError:  # Python does not write more than some thousand digits
            return NO_DIGITS


_SHORT = _Short()
