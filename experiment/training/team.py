"""A team: processes that train and measure one net together, each on its share of the images."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from experiment.core.seeding import Stream

SMALLEST_SHARE = 2  # images of a batch; BatchNorm cannot train on a single one


@dataclass(frozen=True)
class Team:
    """The processes, numbered by `rank`, as one of them sees them; one alone is a team too.

    Each has the same net and the same random streams. A batch is drawn as for one process, and
    divided afterwards. All methods that exchange something must be called by all processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_alone(self) -> bool:
        return self.size == 1

    def part(self, count: int) -> slice:
        """This process's part of `count` things: neighbours, as many for each as for the others.

        If there are fewer than processes, some get none.
        """
        start, end = (number * count // self.size for number in (self.rank, self.rank + 1))
        return slice(start, end)

    def share(self, count: int) -> slice:
        """Its share of a training batch of `count` images.

        A batch that is too small to be divided is done as a whole by each process.
        """
        if count < SMALLEST_SHARE * self.size:
            return slice(0, count)
        return self.part(count)

    def weight(self, num_own: int, num_all: int) -> float:
        """What the mean loss over a share of a batch counts, in a mean over the processes."""
        return 1.0 if num_own == num_all else num_own * self.size / num_all

    def counts(self, num_own: int, num_all: int) -> bool:
        """Whether the images of a share are counted here: those of a whole batch are once."""
        return num_own < num_all or self.rank == 0

    def stream(self, stream: Stream) -> Stream:
        """A random stream of its own; that of the first process is the one of a process alone."""
        return stream.child("process", self.rank) if self.rank else stream

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Numbers summed over the processes."""
        if self.is_alone:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)  # on the CPU, where all have a backend
        distributed.all_reduce(sums)
        return sums.tolist()

    def joined(self, net: nn.Module) -> nn.Module:
        """A net whose gradients are means over the processes, after each backward pass.

        All processes take the parameters and buffers of the first one. The net itself is not
        changed otherwise. Parameters that take part in some steps only are allowed.
        """
        self.adopt_buffers(net)
        with warnings.catch_warnings():
            # The name of this option changes in torch 2.15, which warns of the old one.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                net, broadcast_buffers=False, find_unused_parameters=True
            )

    def adopt_buffers(self, net: nn.Module) -> None:
        """Give the net of each process the buffers of the first one's: BatchNorm's statistics."""
        if self.is_alone:
            return
        for buffer in net.buffers():
            _broadcast(buffer)


def _broadcast(tensor: Tensor) -> None:
    """Overwrite a tensor with that of the first process."""
    content = tensor.detach().contiguous()
    distributed.broadcast(content, src=0)
    tensor.detach().copy_(content)


ALONE = Team()
