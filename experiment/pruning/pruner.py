"""Pruner: scores -> selection -> masks and weights, calibrated to the size that was asked for."""

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pandas
import torch
from torch import Tensor, nn

from experiment.core.errors import UserError
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.nets import masks as masking
from experiment.nets.checks import valid_keep_ratio, whole_number
from experiment.nets.collapse import collapse_notes, empty_layers, has_constant_output
from experiment.nets.layers import Layers
from experiment.nets.masks import Masks
from experiment.nets.metrics import layer_table
from experiment.nets.reachability import remove_dead
from experiment.nets.running import copy_of, device_of, wait_for
from experiment.pruning.analysis import Statistics
from experiment.pruning.calibration import calibrate
from experiment.pruning.method import Method, Selection
from experiment.pruning.minimum import with_minimum

TOLERANCE = 0.002
PROMISED = 0.005  # up to this relative distance from the requested keep ratio nothing is noted
NAMED = 3  # of several parameters, how many a note names


@dataclass(frozen=True)
class Pruned:
    """A pruned net and what was asked for and achieved."""

    net: nn.Module
    masks: Masks  # parameter name -> bool tensor, True = kept; every parameter is listed
    keep_ratio_requested: float
    keep_ratio: float  # achieved: kept parameters / parameters of the original net
    size_note: str | None  # why the two differ by more than 0.5%, if they do
    empty_layers: list[str]  # prunable layers that have no weight left
    constant_output: bool  # whether the output is the same for all samples
    constant_before: bool  # and was so before pruning
    evaluations: int  # how many budgets the calibration tried
    seconds: float  # including statistics of the sample that other methods share
    selection: Selection  # what the method decided, before dead parameters were dropped
    found: Layers  # the prunable layers, and what stays out
    method: str  # its name

    def __repr__(self) -> str:
        total = sum(mask.numel() for mask in self.masks.values())
        note = f"; {self.note}" if self.note else ""
        return (
            f"Pruned({self.method} kept {self.keep_ratio:.2%} of {total:,} parameters "
            f"(asked {self.keep_ratio_requested:.2%}), {len(self.found.prunable)} layers{note})"
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
    def left_out(self) -> dict[str, str]:
        """Why other parameters than biases and normalisations are not pruned, by parameter."""
        return self.found.left_out


@dataclass(frozen=True)
class Attempt:
    """The outcome for one budget."""

    selection: Selection
    kept: (
        Tensor  # over the flat vector: the selection, and what was added for the minimum of a layer
    )
    masks: Masks
    size: int


class Pruner:
    """Prunes one net, with the sample S, by any number of methods and to any ratios.

    The net is not changed: every result is a copy. `masks` are those of earlier prunings; keep
    ratios are relative to the original net all the same. Each layer keeps at least
    `min_kept_per_layer` weights that lead to the output, if it has so many.
    """

    def __init__(
        self,
        net: nn.Module,
        batches: Iterable[Any],
        *,
        masks: Masks | None = None,
        loss: Callable | None = None,
        delta: float = 1e-16,
        min_kept_per_layer: int = 0,
    ):
        self.statistics = Statistics(net, batches, masks=masks, loss=loss, delta=delta)
        self.original_size = sum(mask.numel() for mask in self.statistics.masks.values())
        self.min_kept_per_layer = whole_number("min_kept_per_layer", min_kept_per_layer, 0)

    def prune(self, method: Method, keep_ratio: float, stream: Stream) -> Pruned:
        """Prune to `keep_ratio` of the original parameters; random methods draw from `stream`."""
        keep_ratio = valid_keep_ratio(keep_ratio)
        statistics, target = (
            self.statistics,
            math.floor(keep_ratio * self.original_size * (1 + 1e-12)),
        )
        start, known = time.perf_counter(), dict(statistics.seconds)
        statistics.accessed.clear()
        select = method.prepare(statistics, stream)
        most = int(statistics.candidates.sum())
        fixed = masking.size(statistics.masks) - most
        best, evaluations = calibrate(
            lambda budget: self._attempt(select(budget)),
            lambda attempt: attempt.size,
            target - fixed,
            most,
            target,
            self._tolerance(target),
        )
        net = self._pruned_net(best)
        wait_for(device_of(net))
        shared = sum(seconds for name, seconds in known.items() if name in statistics.accessed)
        seconds = time.perf_counter() - start + shared
        size_note = None
        if abs(best.size - target) > PROMISED * target:
            smallest = self._attempt(select(0)).size if method.structure == "filters" else fixed
            size_note = self._size_note(method, target, smallest, fixed + most, best)
        constant = has_constant_output(net, statistics.batches)
        return Pruned(
            net,
            best.masks,
            keep_ratio,
            best.size / self.original_size,
            size_note,
            empty_layers(statistics.layers, best.masks),
            constant,
            statistics.constant_output if constant else False,
            evaluations,
            seconds,
            best.selection,
            statistics.found,
            type(method).__name__,
        )

    def _tolerance(self, target: int) -> float:
        """How far from the target the search may end: a share of what is kept, and of what is removed."""
        return TOLERANCE * min(target, self.original_size - target)

    def _attempt(self, selection: Selection) -> Attempt:
        kept, masks = selection.kept, self._living(selection.kept, selection)
        if self.min_kept_per_layer:
            kept, masks = with_minimum(
                self.statistics,
                selection,
                masks,
                self.min_kept_per_layer,
                lambda kept: self._living(kept, selection),
            )
            if not torch.equal(
                kept, selection.kept
            ):  # draws say nothing of weights that were added
                selection = replace(selection, draws=None)
        return Attempt(selection, kept, masks, masking.size(masks))

    def _living(self, kept: Tensor, selection: Selection) -> Masks:
        """The masks that keep these weights, less what is dead then."""
        statistics = self.statistics
        chosen = statistics.flat.split_masks(kept) | selection.vectors
        masks = statistics.masks | {
            name: mask & statistics.masks[name] for name, mask in chosen.items()
        }
        return remove_dead(
            statistics.net, statistics.layers, masks, statistics.batches[0], statistics.connected
        )

    @torch.no_grad()
    def _pruned_net(self, attempt: Attempt) -> nn.Module:
        net = copy_of(self.statistics.net)
        if attempt.selection.factors is not None:
            added = attempt.kept & ~attempt.selection.kept
            factors = torch.where(added, 1, attempt.selection.factors())
            for name, of_layer in self.statistics.flat.split(factors).items():
                self.statistics.layers[name].weight(net).mul_(of_layer)
        masking.enforcer(net, attempt.masks)()
        return net

    def _size_note(
        self, method: Method, target: int, smallest: int, current: int, best: Attempt
    ) -> str:
        """Why the size is not what was asked for; `smallest`: with as little kept as possible."""
        asked = f"{target} were asked for"
        if current < target:
            return f"the net had only {current} parameters left, {asked}"
        if target < smallest and method.structure == "filters":
            return (
                f"{smallest} of the {self.original_size} parameters stay, {asked}: they belong to "
                "no filter that can be removed as a whole, or to the one of each layer that is "
                "always kept"
            )
        if method.structure == "filters":
            return (
                f"whole filters were removed: of the possible sizes {best.size} parameters came "
                f"closest, {asked}"
            )
        if self.min_kept_per_layer and best.size > target:
            return (
                f"with at least {self.min_kept_per_layer} weights in each layer {best.size} "
                f"parameters came closest, {asked}"
            )
        if target < smallest:
            return (
                f"{smallest} of the {self.original_size} parameters are not prunable "
                f"({self._fixed()}) and go only where they are dead, {asked}"
            )
        return f"no budget of weights leaves {target} parameters alive; {best.size} came closest"

    def _fixed(self) -> str:
        """What is not prunable, for people."""
        left_out, masks = self.statistics.found.left_out, self.statistics.masks
        largest = sorted(left_out, key=lambda name: -masks[name].numel())
        named = [f"{name}: {left_out[name]}" for name in largest[:NAMED]]
        if len(largest) > NAMED:
            named.append(f"{len(largest) - NAMED} more")
        return ", ".join([*named, "biases and normalisations"])


@torch.inference_mode(False)
def prune(
    net: nn.Module,
    batches: Iterable[Any],
    *,
    method: str | dict | Method = "SiPP",
    keep_ratio: float,
    loss: Callable | None = None,
    seed: int = 0,
    masks: Masks | None = None,
    delta: float = 1e-16,
    min_kept_per_layer: int = 0,
) -> Pruned:
    """Prune a copy of any net.

    Warns if a layer lost all of its weights or the output became the same for all samples.

    Args:
        net: any module; it is left as it is.
        batches: the sample S, a list, DataLoader or other iterable of `(inputs, targets)`, of
            dicts of keyword arguments, or of inputs alone; `experiment.nets.batches` says what exactly.
        method: the name of a method, a dict with `name` and options, or a Method.
        keep_ratio: share of the original net's parameters to keep, in (0, 1].
        loss: `loss(outputs, targets)`, for the methods that need gradients; not needed where the
            net's output has a `loss`.
        seed: of the random methods' draws.
        masks: those of an earlier pruning of this net, for pruning it further.
        delta: failure probability of the certificates, which enters the budgets of the sampling methods.
        min_kept_per_layer: so many weights that lead to the output stay in every layer.

    Returns:
        A Pruned with the pruned copy `net`, its `masks`, the achieved `keep_ratio`, the `note`
        if that is not the one asked for or the net no longer works, and the table `layers`.

    Raises:
        UserError: for whatever cannot be used, in one sentence that says what would be right.

    Example:
        >>> pruned = experiment.prune(net, loader, method="SiPP", keep_ratio=0.2)
        >>> pruned
        Pruned(SiPP kept 20.00% of 272,474 parameters (asked 20.00%), 20 layers)
        >>> further = experiment.prune(pruned.net, loader, keep_ratio=0.1, masks=pruned.masks)
    """
    pruner = Pruner(
        net, batches, masks=masks, loss=loss, delta=delta, min_kept_per_layer=min_kept_per_layer
    )
    seed = whole_number("seed", seed)
    pruned = pruner.prune(named_method(method), keep_ratio, Stream(seed).child("prune"))
    if pruned.empty_layers or (pruned.constant_output and not pruned.constant_before):
        warnings.warn(f"the pruned net is degenerate: {pruned.note}", stacklevel=2)
    return pruned


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
        raise UserError(
            f"method must be a name, a dict with a name and options, or a Method, "
            f"not {method!r}{hint}"
        )
    made = METHODS.create(name, options)
    if not isinstance(made, Method):
        raise UserError(
            f"method {name} gives a {type(made).__name__}, not an experiment.pruning.method.Method"
        )
    return made
