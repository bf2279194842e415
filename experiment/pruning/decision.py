"""What a method decides: plain data, and the object that decides for one budget after the other."""

import abc
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy
from torch import Tensor

from experiment.nets.masks import Masks
from experiment.pruning.network_bound import NetworkBound


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What stays with one budget. Methods add what they need to finish the chosen one."""

    kept: Tensor  # bool, over the flat vector of weights (`analysis.flat`)
    vectors: Masks = field(default_factory=dict)
    """The masks of biases and normalisations that go with removed filters."""


@dataclass(frozen=True, kw_only=True)
class Decision(Choice):
    """A finished choice: all that is done to the net, and what is certified about it."""

    factors: Tensor | None = None
    """What each weight of the flat vector is multiplied with; None if weights keep their values."""

    draws: numpy.ndarray | None = None
    """By how many draws each unit [units] of sensitivities was sampled; infinite where its weights
    keep their values. None with `factors`: nothing is certified about the reweighted weights."""

    bound: NetworkBound | None = None
    """What is certified about the net's output, if an error decided how much is kept."""


ChoiceKind = TypeVar("ChoiceKind", bound=Choice)


class Prepared(abc.ABC, Generic[ChoiceKind]):
    """A method that knows its net and sample, and is asked about budgets.

    All answers must be the same whenever the same is asked.
    """

    nested = False
    """Whether a larger budget keeps all that a smaller one keeps: then sizes only grow."""

    @abc.abstractmethod
    def choose(self, budget: int) -> ChoiceKind:
        """What stays with a budget of weights. Called for every budget that is tried."""

    def alike(self, budget: int) -> range:
        """The budgets with which the same stays as with this one, as far as the method knows."""
        return range(budget, budget + 1)

    def openings(self, budget: int) -> list[int]:
        """The least budgets, ascending, with which layers have weights that have none with this.

        Empty where the method does not know.
        """
        return []

    def decide(self, choice: ChoiceKind) -> Decision:
        """Finish one of the choices: the only one that is used. Called once."""
        return Decision(kept=choice.kept, vectors=choice.vectors)

    def priority(self) -> Tensor | None:
        """The order in which the method keeps weights, if it has one: larger is kept longer.

        Over the flat vector. Only called where a layer has fewer weights than it must keep.
        """
        return None
