"""The result of a pruning."""

from dataclasses import dataclass

import pandas
from torch import nn

from experiment.nets.collapse import collapse_notes
from experiment.nets.layers import Layers
from experiment.nets.masks import Masks
from experiment.nets.metrics import layer_table
from experiment.pruning.decision import Decision
from experiment.pruning.network_bound import NetworkBound


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A pruned net, and what was asked for and achieved."""

    net: nn.Module
    masks: Masks  # parameter name -> bool tensor, True = kept; every parameter is listed
    keep_ratio_requested: float
    keep_ratio: float  # achieved: kept parameters / parameters of the original net
    size_note: str | None  # why the two differ by more than 0.5%, if they do
    empty_layers: list[str]  # prunable layers that have no weight left
    constant_output: bool  # whether the output is the same for all samples
    constant_before: bool  # and was so before pruning
    evaluations: int  # how many choices the calibration measured
    seconds: float  # including those of computations that other methods share
    decision: Decision  # what the method decided, before dead parameters were dropped
    found: Layers  # the prunable layers, and what stays out
    method: str  # its name

    def __repr__(self) -> str:
        total = sum(mask.numel() for mask in self.masks.values())
        note = f"; {self.note}" if self.note else ""
        return (
            f"Pruned({self.method} kept {self.keep_ratio:.2%} of {total:,} parameters "
            f"(requested {self.keep_ratio_requested:.2%}), {len(self.found.prunable)} layers{note})"
        )

    @property
    def note(self) -> str | None:
        """Why the size is not what was asked for, and what of the net no longer works."""
        collapsed = collapse_notes(self.empty_layers, self.constant_output, self.constant_before)
        return "; ".join(filter(None, [self.size_note, *collapsed])) or None

    @property
    def layers(self) -> pandas.DataFrame:
        """One row per prunable layer: layer, kind, weights, kept_weights, keep_ratio."""
        return layer_table(self.found.prunable, self.masks)

    @property
    def bound(self) -> NetworkBound | None:
        """What is certified about the output, if the method had an `error` instead of a size."""
        return self.decision.bound

    @property
    def left_out(self) -> dict[str, str]:
        """Why parameters other than biases and normalisations are not pruned, by parameter."""
        return self.found.left_out
