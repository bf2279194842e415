"""Suggest the name that was probably meant."""

import difflib
import itertools
from collections.abc import Iterable

SIMILAR = 0.6  # difflib's ratio from which on a name is suggested
LONGEST = 100  # characters of a name that may be a misspelling; comparing takes their square


def nearest(wrong: object, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the name closest to a wrong one, or nothing if none is close."""
    if len(str(wrong)) > LONGEST:
        return ""
    best = max(names, key=lambda name: _closeness(wrong, name), default=None)
    if best is None or _similarity(wrong, best) < SIMILAR:
        return ""
    return f"; did you mean '{best}'?"


def _closeness(wrong: object, name: str) -> tuple[float, int]:
    """Similarity first; among equally similar names, the length of the start they share."""
    pairs = zip(str(wrong).lower(), name.lower())
    same = itertools.takewhile(lambda letters: letters[0] == letters[1], pairs)
    return _similarity(wrong, name), len(list(same))


def _similarity(wrong: object, name: str) -> float:
    return difflib.SequenceMatcher(None, str(wrong).lower(), name.lower()).ratio()
