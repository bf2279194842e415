"""Training steps recorded as CUDA graphs, which are launched as one instead of one by one."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiment.core.errors import UserError, first_line

WARM_UP_STEPS = 3  # real steps, in which libraries choose their algorithms and allocate memory

Step = Callable[..., None]


class RecordedStep:
    """A training step that is recorded once and then replayed, with other draws in its place.

    The step may read and write only tensors that stay where they are, besides the draws that it is
    called with. Draws of another size than the first ones, as those of an epoch's last batch, are
    not replayed but computed as usual; nor is anything if the step draws random numbers, which a
    replay would not draw anew on the CPU, and steps that are replayed side by side would draw from
    one generator on the GPU. Must be called on a stream other than the default one.
    """

    def __init__(self) -> None:
        self.num_calls = 0
        self.is_random = False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.draws: list[Tensor] = []  # where the graph reads them

    def __call__(self, step: Step, *draws: Tensor) -> None:
        """Do a step, the same one each time."""
        if not self.draws:
            self.draws = [tensor.clone() for tensor in draws]
        if [tensor.shape for tensor in draws] != [tensor.shape for tensor in self.draws]:
            step(*draws)
            return
        self.num_calls += 1
        if self.num_calls <= WARM_UP_STEPS or self.is_random:
            before = _random_states()
            step(*draws)
            self.is_random |= not all(map(torch.equal, before, _random_states()))
            return
        for place, tensor in zip(self.draws, draws):
            place.copy_(tensor)
        if self.graph is None:
            self.graph = self._record(step)
        self.graph.replay()

    def _record(self, step: Step) -> torch.cuda.CUDAGraph:
        """The graph of a step; recording it computes nothing."""
        graph = torch.cuda.CUDAGraph()
        try:
            # Threads that pin the memory of the next batches do not disturb it.
            with torch.cuda.graph(
                graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"
            ):
                step(*self.draws)
        except Exception as error:
            raise UserError(
                f"training.compile: a training step of this net cannot be recorded as a CUDA "
                f"graph: {first_line(error.__context__ or error)}; use off"
            ) from error
        return graph


def _random_states() -> list[Tensor]:
    return [torch.get_rng_state(), torch.cuda.get_rng_state()]


def can_record(device: torch.device) -> bool:
    """Whether steps on a device can be recorded."""
    return device.type == "cuda"
