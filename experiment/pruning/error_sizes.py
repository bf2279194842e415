"""Methods that prune as far as the certified error of the net's output allows.

The error of the output gives each layer a budget (`allocation/network_error.py`), and this says for
each unit, the positive or the negative weights of a neuron, how many of its weights must stay.
"""

import abc
from dataclasses import dataclass
from functools import cached_property

import numpy
import torch

from experiment.allocation.bernstein import bernstein_draws, bernstein_error
from experiment.allocation.network_error import composed_errors, layer_budgets
from experiment.allocation.units import Table, Units
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.nets.feed_forward import feed_forward
from experiment.pruning.analysis import Analysis
from experiment.pruning.decision import Choice, ChoiceKind, Decision, Prepared
from experiment.pruning.network_bound import LayerBound, NetworkBound
from experiment.pruning.unit_sampling import MOST_DRAWS, SampledChoice, Sampler
from experiment.pruning.weight_units import sensitivity_units
from experiment.sensitivity.constants import C
from experiment.sensitivity.sign_complexity import sign_complexities


@dataclass(frozen=True)
class Budgets:
    """The layers of a net in the order in which it computes them, and the error of each."""

    error: float  # of the output
    complexities: dict[str, float]
    by_layer: dict[str, float]

    @classmethod
    def of(cls, analysis: Analysis, error: float) -> "Budgets":
        """Raises UserError unless the net is a chain of its prunable layers."""
        complexities = analysis.once("sign complexities", lambda: _complexities(analysis))
        budgets = layer_budgets(error, [*complexities.values()])
        return cls(error, complexities, dict(zip(complexities, budgets)))

    def bound(
        self, analysis: Analysis, kept: torch.Tensor, unit_errors: numpy.ndarray, failure: float
    ) -> NetworkBound:
        """What is certified with the weights `kept` and the errors of units [units]."""
        masks = analysis.flat.split(kept)
        largest = _largest_by_layer(analysis, unit_errors)
        largest = {name: largest[name] for name in self.complexities}
        outputs = composed_errors([*largest.values()], [*self.complexities.values()])
        layers = tuple(
            LayerBound(
                layer=name,
                sign_complexity=self.complexities[name],
                budget=self.by_layer[name],
                unit_error=largest[name],
                output_error=output,
                weights=masks[name].numel(),
                kept_weights=int(masks[name].sum()),
            )
            for name, output in zip(self.complexities, outputs)
        )
        return NetworkBound(
            error=self.error, certified=outputs[-1], failure=failure, by_layer=layers
        )


def _complexities(analysis: Analysis) -> dict[str, float]:
    chain = feed_forward(analysis.net)
    missing = [name for name in chain.layers if name not in analysis.layers]
    missing += [name for name in analysis.layers if name not in chain.layers]
    if missing:
        raise UserError(
            f"nothing is certified about the whole net: {missing[0]} is not one of the layers that "
            f"can be pruned and follow each other"
        )
    return sign_complexities(chain, analysis.batches)


def _largest_by_layer(analysis: Analysis, values: numpy.ndarray) -> dict[str, float]:
    """The largest value of each layer's units [units]."""
    num_units = [2 * shape[0] for shape in analysis.flat.shapes.values()]
    pieces = numpy.split(values, numpy.cumsum(num_units)[:-1])
    return {name: float(piece.max()) for name, piece in zip(analysis.flat.shapes, pieces)}


def _require_zeros(analysis: Analysis) -> None:
    """Raises UserError for weights that are masked and not 0: no certificate would count them."""
    for name, mask in analysis.flat.split(analysis.candidates).items():
        if bool((analysis.weights[name][~mask] != 0).any()):
            raise UserError(
                f"masks: layer {name} has weights that are masked and not 0, so that the error of "
                f"removing them would not be certified; prune the net that the masks come with"
            )


class SizedByError(Prepared[ChoiceKind]):
    """Keeps what the error asks for, whatever the budget: there is only one choice."""

    nested = True

    def __init__(self, analysis: Analysis, error: float):
        _require_zeros(analysis)
        self.analysis = analysis
        self.budgets = Budgets.of(analysis, error)
        self.units = sensitivity_units(analysis)

    @cached_property
    def unit_budgets(self) -> numpy.ndarray:
        """The relative error that each unit may have [units]."""
        shapes = self.analysis.flat.shapes
        return numpy.concatenate(
            [numpy.full(2 * shapes[name][0], self.budgets.by_layer[name]) for name in shapes]
        )

    @abc.abstractmethod
    def choose(self, budget: int = 0) -> ChoiceKind: ...

    def dropped(self, choice: Choice) -> numpy.ndarray:
        """C times the sensitivity that each unit loses [units]."""
        kept = choice.kept.cpu().numpy()
        return C * self.units.sum(numpy.where(kept, 0, self.units.importance))


class DroppedByError(SizedByError[Choice]):
    """Each unit drops its least sensitive weights, as long as C times their sum is within budget.

    They are not reweighted. Among equals the last ones are dropped first.
    """

    def choose(self, budget: int = 0) -> Choice:
        kept = torch.from_numpy(self.units.by_item(self._kept)).to(self.analysis.candidates.device)
        return Choice(kept=kept & self.analysis.candidates)

    def _kept(self, table: Table) -> numpy.ndarray:
        importance = table.spread(self.units.importance[table.items].astype(float), empty=0.0)
        order = numpy.argsort(-importance, axis=1, kind="stable")[:, ::-1]
        sums = C * numpy.cumsum(numpy.take_along_axis(importance, order, axis=1), axis=1)
        kept = numpy.empty(importance.shape, dtype=bool)
        within = sums <= self.unit_budgets[table.units, None]
        numpy.put_along_axis(kept, order, ~within, axis=1)
        return table.gather(kept)

    def decide(self, choice: Choice) -> Decision:
        bound = self.budgets.bound(self.analysis, choice.kept, self.dropped(choice), 0.0)
        return Decision(kept=choice.kept, bound=bound)


class DrawnByError(SizedByError[SampledChoice]):
    """Each unit draws as often as the Bernstein certificate asks for at the budget of its layer.

    A unit stays as it is if so many draws are expected to leave, rounded, all of its weights. The
    failure probability delta is shared equally by all sums that a sample makes in the net.
    """

    def __init__(self, analysis: Analysis, error: float, stream: Stream):
        super().__init__(analysis, error)
        if analysis.delta >= 1:
            raise UserError(
                f"delta must be below 1 where an error is certified, not {analysis.delta:g}"
            )
        self.sampler = Sampler(self.units, stream)
        self.failure = analysis.delta / num_sums(analysis)

    @cached_property
    def draws(self) -> numpy.ndarray:
        """N of each unit [units]; infinite for those that stay as they are."""
        draws = numpy.empty(self.units.num_units)
        start = 0
        for name, shape in self.analysis.flat.shapes.items():
            own = slice(start, start + 2 * shape[0])
            budget = self.budgets.by_layer[name]
            draws[own] = bernstein_draws(self.units.total[own], budget, self.failure)
            start = own.stop
        whole = expected_items(self.units, draws) > self.units.capacity - 0.5
        return numpy.where(whole | (draws > MOST_DRAWS), numpy.inf, draws)

    def choose(self, budget: int = 0) -> SampledChoice:
        found = torch.from_numpy(self.sampler.found(self.draws))
        return SampledChoice(kept=found.to(self.analysis.candidates.device), draws=self.draws)

    def decide(self, choice: SampledChoice) -> Decision:
        factors = torch.from_numpy(self.sampler.factors(choice.draws))
        drawn = numpy.isfinite(choice.draws)
        finite = numpy.where(drawn, choice.draws, 0)
        errors = bernstein_error(self.units.total, finite, self.failure)
        errors = numpy.where(drawn, errors, self.dropped(choice))
        failure = self.analysis.delta if drawn.any() else 0.0
        return Decision(
            kept=choice.kept,
            factors=factors.to(self.analysis.candidates.device),
            draws=choice.draws,
            bound=self.budgets.bound(self.analysis, choice.kept, errors, failure),
        )


def num_sums(analysis: Analysis) -> float:
    """How many sums a sample makes in the net: of positive and negative weights and inputs."""
    return sum(4 * layer.num_outputs for layer in analysis.layers.values())


def expected_items(units: Units, draws: numpy.ndarray) -> numpy.ndarray:
    """How many different items so many draws of each unit [units] are expected to find [units]."""

    def of_part(table: Table) -> numpy.ndarray:
        probability = units.probability_in(table)
        with numpy.errstate(divide="ignore", invalid="ignore"):
            found = -numpy.expm1(draws[table.units][table.row] * numpy.log1p(-probability))
        found = numpy.where(probability > 0, found, 0.0)
        return numpy.bincount(table.row, found, table.num_rows)

    return units.by_unit(of_part)
