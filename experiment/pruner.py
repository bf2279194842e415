"""Pruner: scores -> selection -> masks and weights, calibrated to the size that was asked for."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas
import torch
from torch import nn

from experiment import masks as masking
from experiment.calibration import calibrate
from experiment.checks import valid_keep_ratio, whole_number
from experiment.errors import UserError
from experiment.masks import Masks
from experiment.methods.method import Method, Selection
from experiment.metrics import layer_table
from experiment.nets import device_of, wait_for
from experiment.reachability import remove_dead
from experiment.registry import METHODS
from experiment.seeding import Stream
from experiment.statistics import Statistics

TOLERANCE = 0.002
PROMISED = 0.005  # largest relative distance of the achieved from the requested keep ratio that needs no reason


@dataclass(frozen=True)
class Pruned:
    """A pruned net and what was asked for and achieved."""

    net: nn.Module
    masks: Masks  # parameter name -> bool tensor, True = kept; every parameter is listed
    keep_ratio_requested: float
    keep_ratio: float  # achieved: kept parameters / parameters of the original net
    reason: str | None  # why the two differ by more than 0.5%, if they do
    evaluations: int  # how many budgets the calibration tried
    seconds: float  # including statistics of the sample that other methods share
    selection: Selection  # what the method decided, before dead parameters were dropped
    method: str  # its name

    def __repr__(self) -> str:
        total = sum(mask.numel() for mask in self.masks.values())
        return (f"Pruned({self.method} kept {self.keep_ratio:.2%} of {total:,} parameters "
                f"(asked {self.keep_ratio_requested:.2%}), {len(self.layers)} layers)")

    @property
    def layers(self) -> pandas.DataFrame:
        """One row a prunable layer: layer, kind, weights, kept_weights, keep_ratio."""
        return layer_table(self.net, self.masks)


@dataclass(frozen=True)
class Attempt:
    """The outcome for one budget."""

    selection: Selection
    masks: Masks
    size: int


class Pruner:
    """Prunes one net, with the sample S, by any number of methods and to any ratios.

    The net is not changed: every result is a copy. `masks` are those of earlier prunings; keep ratios are
    relative to the original net all the same.
    """

    def __init__(self, net: nn.Module, batches: Iterable[Any], *, masks: Masks | None = None,
                 loss: Callable | None = None, delta: float = 1e-16):
        self.statistics = Statistics(net, batches, masks=masks, loss=loss, delta=delta)
        self.original_size = sum(mask.numel() for mask in self.statistics.masks.values())

    def prune(self, method: Method, keep_ratio: float, stream: Stream) -> Pruned:
        """Prune to `keep_ratio` of the original parameters; random methods draw from `stream`."""
        keep_ratio = valid_keep_ratio(keep_ratio)
        statistics, target = self.statistics, math.floor(keep_ratio * self.original_size * (1 + 1e-12))
        start, known = time.perf_counter(), dict(statistics.seconds)
        statistics.accessed.clear()
        select = method.prepare(statistics, stream)
        most = int(statistics.candidates.sum())
        fixed = masking.size(statistics.masks) - most
        best, evaluations = calibrate(lambda budget: self._attempt(select(budget)), lambda attempt: attempt.size,
                                      target - fixed, most, target, self._tolerance(target))
        achieved = best.size / self.original_size
        reason = None
        if abs(best.size - target) > PROMISED * target:
            reason = self._reason(method, target, fixed, fixed + most, best)
        net = self._pruned_net(best)
        wait_for(device_of(net))
        shared = sum(seconds for name, seconds in known.items() if name in statistics.accessed)
        return Pruned(net, best.masks, keep_ratio, achieved, reason, evaluations,
                      time.perf_counter() - start + shared, best.selection, type(method).__name__)

    def _tolerance(self, target: int) -> float:
        """How far from the target the search may end: a share of what is kept, and of what is removed."""
        return TOLERANCE * min(target, self.original_size - target)

    def _attempt(self, selection: Selection) -> Attempt:
        statistics = self.statistics
        kept = statistics.flat.split_masks(selection.kept) | selection.vectors
        masks = statistics.masks | {name: mask & statistics.masks[name] for name, mask in kept.items()}
        masks = remove_dead(statistics.net, masks, statistics.batches[0], statistics.connected)
        return Attempt(selection, masks, masking.size(masks))

    @torch.no_grad()
    def _pruned_net(self, attempt: Attempt) -> nn.Module:
        net = copy.deepcopy(self.statistics.net)
        if attempt.selection.factors is not None:
            layers = masking.prunable_layers(net)
            for name, factors in self.statistics.flat.split(attempt.selection.factors()).items():
                layers[name].weight.mul_(factors)
        masking.enforcer(net, attempt.masks)()
        return net

    def _reason(self, method: Method, target: int, fixed: int, current: int, best: Attempt) -> str:
        """Why the size is not what was asked for."""
        if current < target:
            return f"the net had only {current} parameters left, {target} were asked for"
        if method.structure == "filters":
            return (f"whole filters were removed, at least one of each layer stays: of the possible sizes {best.size} "
                    f"parameters came closest, {target} were asked for")
        if target < fixed <= best.size:
            return f"{fixed} of the parameters are not prunable, {target} were asked for"
        return f"no budget of weights leaves {target} parameters alive; {best.size} came closest"


def prune(net: nn.Module, batches: Iterable[Any], *, method: str | dict | Method = "SiPP", keep_ratio: float,
          loss: Callable | None = None, seed: int = 0, masks: Masks | None = None, delta: float = 1e-16) -> Pruned:
    """Prune a copy of any net.

    Args:
        net: any module; it is left as it is.
        batches: the sample S, a list, DataLoader or other iterable of `(inputs, targets)`, of
            dicts of keyword arguments, or of inputs alone; `experiment.batches` says what exactly.
        method: the name of a method, a dict with `name` and options, or a Method.
        keep_ratio: share of the original net's parameters to keep, in (0, 1].
        loss: `loss(outputs, targets)`, for the methods that need gradients; not needed where the
            net's output has a `loss`.
        seed: of the random methods' draws.
        masks: those of an earlier pruning of this net, for pruning it further.
        delta: failure probability of the certificates, which enters the budgets of the sampling methods.

    Returns:
        A Pruned with the pruned copy `net`, its `masks`, the achieved `keep_ratio`, the `reason`
        if that is not the one asked for, and the table `layers`.

    Raises:
        UserError: for whatever cannot be used, in one sentence that says what would be right.

    Example:
        >>> pruned = experiment.prune(net, loader, method="SiPP", keep_ratio=0.2)
        >>> pruned
        Pruned(SiPP kept 20.00% of 272,474 parameters (asked 20.00%), 20 layers)
        >>> further = experiment.prune(pruned.net, loader, keep_ratio=0.1, masks=pruned.masks)
    """
    pruner = Pruner(net, batches, masks=masks, loss=loss, delta=delta)
    seed = whole_number("seed", seed)
    return pruner.prune(named_method(method), keep_ratio, Stream(seed).child("prune"))


def named_method(method: str | dict | Method) -> Method:
    """A method from its name, or from a dict of `name` and options."""
    if isinstance(method, Method):
        return method
    if isinstance(method, str):
        method = {"name": method}
    options = dict(method) if isinstance(method, dict) else {}
    name = options.pop("name", None)
    if not (isinstance(name, str) and all(isinstance(key, str) for key in options)):
        hint = f": give an instance, {method.__name__}()" if isinstance(method, type) else ""
        raise UserError(f"method must be a name, a dict with a name and options, or a Method, "
                        f"not {method!r}{hint}")
    made = METHODS.create(name, options)
    if not isinstance(made, Method):
        raise UserError(f"method {name} gives a {type(made).__name__}, "
                        f"not an experiment.methods.method.Method")
    return made
