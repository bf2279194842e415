"""Pruner: one net, pruned by any method to the size that was asked for."""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError
from experiment.core.memory import return_free_memory
from experiment.core.seeding import Stream
from experiment.nets.checks import valid_keep_ratio, whole_number
from experiment.nets.collapse import empty_layers, has_constant_output
from experiment.nets.masks import Masks, both, set_removed_to_zero, size
from experiment.nets.reachability import remove_dead
from experiment.nets.running import copy_of
from experiment.nets.tensors import described
from experiment.pruning.analysis import Analysis
from experiment.pruning.calibration import Budgets, calibrate
from experiment.pruning.decision import Choice, Decision, Prepared
from experiment.pruning.integrity import unchanged
from experiment.pruning.method import Method
from experiment.pruning.minimum import with_added, with_minimum
from experiment.pruning.pruned import Pruned
from experiment.pruning.size_note import Sizes, described_as_not_prunable, size_note
from experiment.sensitivity.constants import DEFAULT_DELTA

TOLERANCE = 0.002  # relative distance from the requested size at which the search ends
PROMISED = 0.005  # up to this relative distance from the requested keep ratio nothing is noted


@dataclass(frozen=True)
class Attempt:
    """The outcome for one budget."""

    choice: Choice
    kept: Tensor  # over the flat vector: the choice, and what was added for the minimum of a layer
    masks: Masks  # less what is dead
    size: int


class Pruner:
    """Prunes one net, with the sample S, by any number of methods and to any ratios.

    The net is not changed: every result is a copy. `masks` are those of earlier prunings; keep
    ratios are relative to the original net all the same. Each layer keeps at least
    `min_kept_per_layer` weights that lead to the output, if it has so many. Of filters, a multiple
    of `round_channels` stays in each group of channels.
    """

    def __init__(
        self,
        net: nn.Module,
        batches: Iterable[Any],
        *,
        masks: Masks | None = None,
        loss: Callable | None = None,
        delta: float = DEFAULT_DELTA,
        min_kept_per_layer: int = 0,
        round_channels: int = 1,
    ):
        self.analysis = Analysis(
            net, batches, masks=masks, loss=loss, delta=delta, round_channels=round_channels
        )
        self.original_size = sum(mask.numel() for mask in self.analysis.masks.values())
        self.min_kept_per_layer = whole_number("min_kept_per_layer", min_kept_per_layer, 0)

    def prune(self, method: Method, keep_ratio: float | None, stream: Stream) -> Pruned:
        """Prune to `keep_ratio` of the original parameters; random methods draw from `stream`.

        `keep_ratio` is None for methods that decide it themselves.
        """
        keep_ratio = self._require_one_size(method, keep_ratio)
        with unchanged(self.analysis, type(method).__name__), stream.as_global():
            stopwatch = self.analysis.stopwatch()
            prepared = self._prepared(method, stream)
            if keep_ratio is None:
                best, evaluations = self._attempt(prepared, 0), 1
                target = self._num_fixed + int(best.kept.count_nonzero())
            else:
                target = math.floor(keep_ratio * self.original_size * (1 + 1e-12))
                best, evaluations = self._closest(prepared, target)
            return_free_memory(self.original_size)
            decision = with_added(prepared.decide(best.choice), best.kept)
            net = self._pruned_net(decision, best.masks)
            seconds = stopwatch.seconds()
        constant = has_constant_output(net, self.analysis.batches)
        return Pruned(
            net=net,
            masks=best.masks,
            keep_ratio_requested=target / self.original_size if keep_ratio is None else keep_ratio,
            keep_ratio=best.size / self.original_size,
            size_note=self._size_note(method, prepared, target, best.size),
            empty_layers=empty_layers(self.analysis.layers, best.masks),
            constant_output=constant,
            constant_before=self.analysis.constant_output if constant else False,
            evaluations=evaluations,
            seconds=seconds,
            decision=decision,
            found=self.analysis.found,
            method=type(method).__name__,
        )

    def try_out(self, method: Method, keep_ratio: float | None, stream: Stream) -> None:
        """Let a method choose once, without the search for the size.

        Raises what `prune` would raise.
        """
        keep_ratio = self._require_one_size(method, keep_ratio)
        with unchanged(self.analysis, type(method).__name__), stream.as_global():
            prepared = self._prepared(method, stream)
            budget = math.floor((keep_ratio or 0) * self._num_candidates)
            attempt = self._attempt(prepared, budget)
            prepared.decide(attempt.choice)

    def _prepared(self, method: Method, stream: Stream) -> Prepared:
        prepared = method.prepare(self.analysis, stream)
        if not isinstance(prepared, Prepared):
            raise UserError(
                f"{type(method).__name__}.prepare must return an "
                f"experiment.pruning.decision.Prepared, not {described(prepared)}"
            )
        return prepared

    def _require_one_size(self, method: Method, keep_ratio: float | None) -> float | None:
        """The keep ratio, None if the method decides it.

        Raises UserError unless exactly one of the two says how much is to be kept.
        """
        name = type(method).__name__
        if not method.decides_size:
            if keep_ratio is None and method.sized_by_error:
                raise UserError(f"{name} needs a keep_ratio, or the option error in its place")
            if keep_ratio is None:
                raise UserError(f"{name} needs a keep_ratio")
            return valid_keep_ratio(keep_ratio)
        if keep_ratio is not None:
            raise UserError(
                f"{name} with error={method.error:g} decides itself how much is kept: give it no "
                f"keep_ratio, or no error"
            )
        if self.min_kept_per_layer:
            raise UserError(
                f"min_kept_per_layer must be 0 for {name} with error={method.error:g}: nothing "
                f"would be certified about weights that are added"
            )
        return None

    def _closest(self, prepared: Prepared, target: int) -> tuple[Attempt, int]:
        """The attempt whose size is closest to the target, and how many were made."""
        return calibrate(
            lambda budget: self._attempt(prepared, budget),
            lambda attempt: attempt.size,
            budget=target - self._num_fixed,
            largest=self._num_candidates,
            budgets=Budgets(
                nested=prepared.nested and not self.min_kept_per_layer,
                alike=prepared.alike,
                openings=prepared.openings,
            ),
            target=target,
            # a share of what is kept, and of what is removed
            tolerance=TOLERANCE * min(target, self.original_size - target),
        )

    def _attempt(self, prepared: Prepared, budget: int) -> Attempt:
        choice = prepared.choose(budget)
        kept = choice.kept
        self._require_one_bool_per_weight(kept)
        masks = self._living(choice, kept)
        if self.min_kept_per_layer:
            kept, masks = with_minimum(
                self.analysis,
                self.min_kept_per_layer,
                kept,
                masks,
                priority=prepared.priority,
                living=functools.partial(self._living, choice),
            )
        return Attempt(choice, kept, masks, size(masks))

    def _require_one_bool_per_weight(self, kept: object) -> None:
        """Raise UserError if a method chooses by something else."""
        expected = self.analysis.candidates.shape
        if not (isinstance(kept, Tensor) and kept.dtype == torch.bool and kept.shape == expected):
            raise UserError(
                f"what stays (Choice.kept) must be a tensor like analysis.candidates, bool "
                f"{list(expected)}, not {described(kept)}"
            )

    def _living(self, choice: Choice, kept: Tensor) -> Masks:
        """The masks with these weights and the vectors of a choice, less what is dead then."""
        analysis = self.analysis
        chosen = analysis.flat.split_masks(kept) | choice.vectors
        masks = {
            name: both(mask, chosen[name]) if name in chosen else mask
            for name, mask in analysis.masks.items()
        }
        return remove_dead(
            analysis.net, analysis.layers, masks, analysis.batches[0], analysis.connected
        )

    @torch.no_grad()
    def _pruned_net(self, decision: Decision, masks: Masks) -> nn.Module:
        """A copy of the net with the decision's factors, and with 0 where it is masked."""
        net = copy_of(self.analysis.net)
        if decision.factors is not None:
            for name, factors in self.analysis.flat.split(decision.factors).items():
                self.analysis.layers[name].weight(net).mul_(factors)
        set_removed_to_zero(net, masks)
        return net

    @property
    def _num_candidates(self) -> int:
        """The number of prunable weights that are left."""
        return int(self.analysis.candidates.count_nonzero())

    @property
    def _num_fixed(self) -> int:
        """The number of parameters that are left and not prunable."""
        return size(self.analysis.masks) - self._num_candidates

    def _size_note(
        self, method: Method, prepared: Prepared, target: int, achieved: int
    ) -> str | None:
        """Why the size is not what was asked for, if it is not."""
        if abs(achieved - target) <= PROMISED * target:
            return None
        if method.decides_size:
            return (
                f"{target - achieved} of the {target} parameters that the error asks for were dead"
            )
        of_filters = method.granularity == "filters"
        sizes = Sizes(
            original=self.original_size,
            before=size(self.analysis.masks),
            smallest=self._attempt(prepared, 0).size if of_filters else self._num_fixed,
            target=target,
            achieved=achieved,
        )
        left_out = described_as_not_prunable(self.analysis.found.left_out, self.analysis.masks)
        return size_note(
            sizes,
            method.granularity,
            min_kept_per_layer=self.min_kept_per_layer,
            round_channels=self.analysis.round_channels,
            not_prunable=left_out,
        )
