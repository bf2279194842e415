"""When a training keeps how far it is, so that little is lost if it is interrupted."""

import time
from collections.abc import Callable, Sequence

from experiment.nets.state import NetState
from experiment.training.records import EpochRecord

LARGEST_COST = 0.01  # of the time of a training


class Checkpoints:
    """Keeps the state of a training at the end of an epoch, every so many seconds.

    They come less often if keeping a state would take more than 1% of the time. With 0 seconds
    there is one after each epoch, whatever that takes; with None there are none.
    """

    def __init__(
        self,
        seconds: float | None,
        keep: Callable[[NetState, list[EpochRecord]], None],
    ):
        self.seconds = seconds
        self.keep = keep
        self._cost = 0.0  # seconds that the last one took
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the state is to be kept now."""
        if self.seconds is None:
            return False
        wait = max(self.seconds, self._cost / LARGEST_COST) if self.seconds else 0.0
        return time.monotonic() - self._last >= wait

    def take(self, state: Callable[[], NetState], epochs: Sequence[EpochRecord]) -> None:
        """Keep a state, and the epochs that have led to it."""
        start = time.monotonic()
        self.keep(state(), list(epochs))
        self._last = time.monotonic()
        self._cost = self._last - start


NO_CHECKPOINTS = Checkpoints(None, lambda state, epochs: None)
