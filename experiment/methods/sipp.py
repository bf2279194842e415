"""SiPP, deterministic: keep the weights of largest empirical sensitivity."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from experiment.allocation.layers import Allocation
from experiment.core.errors import UserError
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.nets.checks import positive
from experiment.pruning.analysis import Analysis
from experiment.pruning.decision import Prepared
from experiment.pruning.error_sizes import DroppedByError
from experiment.pruning.method import ScoreMethod


@METHODS.register
class SiPP(ScoreMethod):
    """Keep the weights of largest sensitivity over the whole network (arXiv:1910.05422).

    They are not reweighted.

    Departures: the relative contributions of a weight are averaged over the positions of an image
    before the maximum over S is taken, so the paper's bound only covers layers without positions;
    biases are left out of the sums.

    With `error`, the relative error that no entry of the net's output may exceed, each unit drops
    its least sensitive weights as far as that is certified (arXiv:1804.05345, by maxima over
    positions instead of averages, and with the largest sign complexity over S instead of a mean);
    the keep ratio follows from it.
    """

    sized_by_error = True

    def __init__(
        self,
        *,
        allocation: Allocation = "global",
        error: Annotated[float, Field(gt=0)] | None = None,
    ):
        super().__init__(allocation=allocation)
        self.error = None if error is None else positive("error", error)
        if error is not None and allocation != "global":
            raise UserError(
                f"allocation is not used with error, which says what every unit keeps: leave out "
                f"allocation: {allocation}"
            )

    def prepare(self, analysis: Analysis, stream: Stream) -> Prepared:
        if self.error is not None:
            return DroppedByError(analysis, self.error)
        return super().prepare(analysis, stream)

    def scores(self, analysis: Analysis, stream: Stream) -> dict[str, Tensor]:
        return analysis.sensitivities("mean")
