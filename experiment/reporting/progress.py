"""Progress bars of trainings."""

import sys
import time

import tqdm
from torch import Tensor


class ProgressBar:
    """A progress bar with loss, accuracy and the time that remains."""

    def __init__(self, total: int, label: str):
        self._interval = 0.2 if sys.stderr.isatty() else 5.0
        self._bar = tqdm.tqdm(
            total=total,
            desc=label,
            leave=False,
            mininterval=self._interval,
            unit="step",
            dynamic_ncols=True,
        )
        self._last_drawn = time.monotonic()

    def update(self, sums: Tensor) -> None:
        """Advance by one step.

        Args:
            sums: losses, correct answers and images of the epoch so far. The tensor may be on a
                GPU, for which reading it means waiting; it is read only when the bar is drawn.
        """
        if time.monotonic() - self._last_drawn >= self._interval:
            self._last_drawn = time.monotonic()
            loss, correct, count = sums.tolist()
            self._bar.set_postfix_str(
                f"loss {loss / count:.3f}, accuracy {correct / count:.1%}", refresh=False
            )
        self._bar.update()

    def close(self) -> None:
        self._bar.close()
