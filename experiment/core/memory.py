"""Memory that Python and torch have freed, and the C library has kept."""

import ctypes
import functools
from collections.abc import Callable

LARGE = 2**23  # numbers; the memory of fewer is not worth the time


def return_free_memory(num_parameters: int) -> None:
    """Give memory that is free back to the system, where a net is large and the C library can.

    It keeps freed blocks for later ones, which seldom fit exactly: after large computations of
    different kinds, most of what a process holds may be of no use.
    """
    if num_parameters > LARGE:
        _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    """The function of glibc; one that does nothing elsewhere."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return lambda padding: None
