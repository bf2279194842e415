"""Memory that Python and torch have freed, and the C library has kept."""

import ctypes
import functools
from collections.abc import Callable


def return_free_memory() -> None:
    """Give memory that is free back to the operating system, where the C library can.

    It keeps freed blocks for later ones, which seldom fit exactly: after large computations of
    different kinds, most of what a process holds may be of no use.
    """
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    """The function of glibc; one that does nothing elsewhere."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return lambda padding: None
