"""Random streams with names.

They are independent of each other and of the order in which they are used.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy
import torch


@dataclass(frozen=True)
class Stream:
    """A node in the tree of random streams, e.g. `Stream(0).child("net", 1, "shuffle", 17)`."""

    seed: int
    path: tuple[str, ...] = ()

    def child(self, *names: object) -> "Stream":
        return Stream(self.seed, self.path + tuple(str(name) for name in names))

    def integer(self) -> int:
        """A 63-bit seed, the same on every machine and in every process."""
        text = repr((self.seed, self.path))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self) -> torch.Generator:
        """A fresh CPU generator at the start of this stream."""
        return torch.Generator().manual_seed(self.integer())

    def permutation(self, count: int) -> torch.Tensor:
        """The numbers below `count` in random order."""
        return torch.randperm(count, generator=self.generator())

    def numpy_generator(self) -> numpy.random.Generator:
        """A fresh numpy generator at the start of this stream."""
        return numpy.random.default_rng(self.integer())

    @contextlib.contextmanager
    def as_global(self) -> Iterator[None]:
        """Run a block with torch's global generators on this stream; restore them afterwards.

        For what takes no generator: weight initialisation and dropout. Restores the generators of
        the CPU and of CUDA.
        """
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(self.integer())
            yield


class Turns:
    """Torch's global generators for one of several users that take turns.

    Each finds them as it has left them itself, whatever the others have drawn meanwhile.
    """

    def __init__(self) -> None:
        self._own: list[torch.Tensor] | None = None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """A block in which the generators are this user's."""
        others = _generator_states()
        if self._own is not None:
            _set_generator_states(self._own)
        try:
            yield
        finally:
            self._own = _generator_states()
            _set_generator_states(others)


def _generator_states() -> list[torch.Tensor]:
    """That of the CPU and, as soon as CUDA is used, that of the current device."""
    if torch.cuda.is_initialized():
        return [torch.get_rng_state(), torch.cuda.get_rng_state()]
    return [torch.get_rng_state()]


def _set_generator_states(states: list[torch.Tensor]) -> None:
    on_cpu, *on_device = states
    torch.set_rng_state(on_cpu)
    for state in on_device:
        torch.cuda.set_rng_state(state)
