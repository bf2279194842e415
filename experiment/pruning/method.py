"""What every pruning method is. Counting, masking and the search for the size are the Pruner's."""

import abc
from typing import Any, ClassVar, Literal

from torch import Tensor

from experiment.allocation.layers import Allocation
from experiment.core.errors import UserError
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.nets.tensors import described
from experiment.pruning.analysis import Analysis
from experiment.pruning.decision import Prepared
from experiment.pruning.largest_scores import largest_scores


class Method(abc.ABC):
    """A pruning method. Its options are the keyword arguments of its `__init__`.

    Its docstring names what it takes from its paper and where it departs from it. In addition, all
    methods

    - are asked for a share of all parameters, biases and normalisations included; the number of
      weights to keep is searched for;
    - drop what no kept path connects to the output any more;
    - prune every weight that the net multiplies with inputs, the first and the last included;
    - leave what an earlier pruning removed, and the schedule and the retraining to the experiment;
    - look at S, which experiments take from the validation images, where papers take training
      images.
    """

    granularity: Literal["weights", "filters"] = "weights"
    """What the method removes: single weights, or whole filters."""

    sized_by_error: ClassVar[bool] = False
    """Whether the method has an option `error`, the certified relative error of the net's output,
    which decides how much is kept, in place of a keep ratio, unless it is None."""

    error: float | None = None

    @property
    def decides_size(self) -> bool:
        """Whether the method itself decides how much is kept."""
        return self.sized_by_error and self.error is not None

    @abc.abstractmethod
    def prepare(self, analysis: Analysis, stream: Stream) -> Prepared:
        """Compute all that does not depend on the budget.

        Only `analysis.candidates` may be kept. Every random number must come from `stream`.
        """


def build_method(name: str, options: dict[str, Any]) -> Method:
    """A method with options that are complete. Raises UserError if it refuses them, or is none."""
    return checked_method(name, METHODS.build(name, options))


def checked_method(name: str, made: object) -> Method:
    """What a name stands for. Raises UserError if it is no method."""
    if not isinstance(made, Method):
        raise UserError(
            f"method {name} returned a {type(made).__name__}, "
            f"not an experiment.pruning.method.Method"
        )
    return made


class ScoreMethod(Method):
    """A method that keeps the weights with the largest scores.

    `allocation` says where scores are compared: over the whole network (`global`); within each
    layer, with the same share kept in all layers (`uniform`) or a smaller share in larger layers
    (`erk`); or within each row of each layer, the weights of one output, with the same share kept
    in all rows (`row`).
    """

    def __init__(self, *, allocation: Allocation = "global"):
        self.allocation = allocation

    @abc.abstractmethod
    def scores(self, analysis: Analysis, stream: Stream) -> dict[str, Tensor]:
        """A score of each weight, for each layer of `analysis.layers`; larger is more important."""

    def prepare(self, analysis: Analysis, stream: Stream) -> Prepared:
        scores = self.scores(analysis, stream)
        _check(scores, analysis)
        return largest_scores(scores, analysis, self.allocation)


def _check(scores: dict[str, Tensor], analysis: Analysis) -> None:
    """Raises UserError unless there is a number for each weight of each layer."""
    if not isinstance(scores, dict):
        raise UserError(
            f"the scores must be a dict of the layers' names and tensors, not {described(scores)}"
        )
    for name, weight in analysis.weights.items():
        if name not in scores:
            raise UserError(f"the method gives no scores for layer {name}")
        if not isinstance(scores[name], Tensor) or scores[name].shape != weight.shape:
            raise UserError(
                f"the scores of layer {name} must be a tensor like its weight, "
                f"{list(weight.shape)}, not {described(scores[name])}"
            )
        if scores[name].isnan().any():
            raise UserError(
                f"the scores of layer {name} contain NaN; does the net work on the sample?"
            )
