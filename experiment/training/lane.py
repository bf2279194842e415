"""What a training has for itself while others go on beside it."""

import contextlib
from collections.abc import Iterator

import torch

from experiment.core.seeding import Turns


class Lane:
    """Torch's global random generators and, on a GPU, a stream if it is to have its own."""

    def __init__(self, device: torch.device, *, own_stream: bool):
        self._turns = Turns()
        self._stream = None
        if own_stream and device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def close(self) -> None:
        """Whatever comes next on the device's usual stream waits for this training."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """A block in which the training goes on."""
        with self._turns.turn(), torch.cuda.stream(self._stream):
            yield
