"""Units: the positive and the negative weights of each neuron or filter, over all layers of a net.

A unit (output i, sign s) is numbered 2 i + (s is negative), the outputs counted through all layers. All arrays over
weights are in the order of the flat vector of weights.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy

from experiment.sensitivity.sample_size import C


@dataclass(frozen=True)
class Layer:
    """What of a layer enters the budgets of its units."""

    filters: int
    weights: int  # of each filter
    patches: int  # P, output positions of a sample; 1 for a linear layer
    kernel_size: int  # spatial; 1 for a linear layer


@dataclass(frozen=True)
class Units:
    """Importances of weights, grouped by unit."""

    importance: (
        numpy.ndarray
    )  # [weights] float64 >= 0: sensitivities, or what a method uses in their place
    negative: numpy.ndarray  # [weights] bool: the weight's sign
    layers: list[Layer]
    delta: float

    def with_importance(self, importance: numpy.ndarray) -> "Units":
        """The same units with another importance of their weights."""
        return replace(self, importance=importance)

    @cached_property
    def row(self) -> numpy.ndarray:
        """Output of each weight."""
        rows = [numpy.repeat(numpy.arange(layer.filters), layer.weights) for layer in self.layers]
        starts = numpy.cumsum([0] + [layer.filters for layer in self.layers[:-1]])
        return numpy.concatenate([row + start for row, start in zip(rows, starts)])

    @cached_property
    def unit(self) -> numpy.ndarray:
        """Unit of each weight."""
        return 2 * self.row + self.negative

    @cached_property
    def number(self) -> int:
        return 2 * sum(layer.filters for layer in self.layers)

    def sum(self, values: numpy.ndarray) -> numpy.ndarray:
        """Sum of a value over the weights of each unit."""
        return numpy.bincount(self.unit, values, self.number)

    @cached_property
    def total(self) -> numpy.ndarray:
        """T, the sum of the importances of a unit."""
        return self.sum(self.importance)

    @cached_property
    def capacity(self) -> numpy.ndarray:
        """n, the number of weights of positive importance."""
        return self.sum(self.importance > 0)

    @cached_property
    def probability(self) -> numpy.ndarray:
        """p_j = s_j / T; 0 where T is."""
        total = self.total[self.unit]
        return numpy.divide(self.importance, total, out=numpy.zeros_like(total), where=total > 0)

    @cached_property
    def weight_of_error(self) -> numpy.ndarray:
        """l of each unit: one over the number of filters of its layer."""
        return self._by_layer([1 / layer.filters for layer in self.layers])

    @cached_property
    def allocation_scale(self) -> numpy.ndarray:
        """alpha / 3 with alpha = 2 C T ln(8 (P + 1) kappa / delta), after the paper's code.

        The logarithm is at least 0.01: with a delta so large that nothing is claimed there are budgets all the same.
        """
        logarithms = [
            max(0.01, math.log(8 * (layer.patches + 1) * layer.kernel_size) - math.log(self.delta))
            for layer in self.layers
        ]
        return 2 * C * self.total * self._by_layer(logarithms) / 3

    @cached_property
    def rank(self) -> numpy.ndarray:
        """Place of each weight in its unit by falling importance, from 0; ties go by index."""
        order = numpy.lexsort((-self.importance, self.unit))  # lexsort is stable
        return self._places(order)

    def _places(self, order: numpy.ndarray) -> numpy.ndarray:
        """Position of each weight within its unit, when weights are ordered by unit first."""
        sizes = numpy.bincount(self.unit, minlength=self.number)
        starts = numpy.cumsum(sizes) - sizes
        places = numpy.empty(len(order), dtype=numpy.int64)
        places[order] = numpy.arange(len(order)) - starts[self.unit[order]]
        return places

    def _by_layer(self, values: list[float]) -> numpy.ndarray:
        return numpy.repeat(values, [2 * layer.filters for layer in self.layers])


def certified_random(total: numpy.ndarray, draws: numpy.ndarray, failure: float) -> numpy.ndarray:
    """e(N): the relative error of a unit's sum that N draws exceed with at most that probability (Bernstein).

    Holds for a point whose contributions are at most C times the sensitivities: e = 6 / (sqrt(1 + 6 N / b) - 1)
    with b = C T ln(2 / failure) / 3. Infinite without draws, and where a failure of 2 or more claims nothing.
    """
    if failure >= 2:
        return numpy.full(numpy.shape(total), numpy.inf)
    b = C * total * math.log(2 / failure) / 3
    x = numpy.divide(6 * draws, b, out=numpy.full(numpy.shape(b), numpy.inf), where=b > 0)
    with numpy.errstate(divide="ignore"):
        return numpy.where(draws > 0, 6 / (numpy.sqrt(1 + x) - 1), numpy.inf)
