"""Pruning from Python: a model, a sample and the name of a method give a pruned copy."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from experiment.core.errors import UserError
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.core.text import shown
from experiment.nets.checks import whole_number
from experiment.nets.masks import Masks
from experiment.pruning.method import Method, checked_method
from experiment.pruning.pruned import Pruned
from experiment.pruning.pruner import Pruner
from experiment.sensitivity.constants import DEFAULT_DELTA


@torch.inference_mode(False)
def prune(
    net: nn.Module,
    batches: Iterable[Any],
    *,
    method: str | dict | Method = "SiPP",
    keep_ratio: float | None = None,
    loss: Callable | None = None,
    seed: int = 0,
    masks: Masks | None = None,
    delta: float = DEFAULT_DELTA,
    min_kept_per_layer: int = 0,
    round_channels: int = 1,
) -> Pruned:
    """Prune a copy of any net.

    Warns if a layer lost all of its weights or the output became the same for all samples.

    Args:
        net: any module; it is left as it is.
        batches: the sample S, a list, DataLoader or other iterable of `(inputs, targets)`, of
            dicts of keyword arguments, or of inputs alone; see `experiment.nets.batches`.
        method: the name of a method, a dict with `name` and options, or a Method.
        keep_ratio: share of the original net's parameters to keep, in (0, 1]; None for a method
            with the option `error`, such as `{"name": "SiPPRand", "error": 0.1}`, which keeps as
            much as it takes for no entry of the output to have a larger relative error.
        loss: `loss(outputs, targets)`, for the methods that need gradients; not needed where the
            net's output has a `loss`.
        seed: of the random methods' draws.
        masks: those of an earlier pruning of this net, for pruning it further.
        delta: failure probability of the certificates, which enters the budgets of the sampling
            methods.
        min_kept_per_layer: so many weights that lead to the output stay in every layer.
        round_channels: methods that remove filters keep a multiple of this in each group of
            channels, or all.

    Returns:
        A Pruned with the pruned copy `net`, its `masks`, the achieved `keep_ratio`, the `note`
        if that is not the one asked for or the net no longer works, and the table `layers`. With
        `error` its `bound` says what is certified.

    Raises:
        UserError: for whatever cannot be used, in one sentence that says what would be right.

    Example:
        >>> pruned = experiment.prune(net, loader, method="SiPP", keep_ratio=0.2)
        >>> pruned
        Pruned(SiPP kept 20.00% of 272,474 parameters (requested 20.00%), 20 layers)
        >>> further = experiment.prune(pruned.net, loader, keep_ratio=0.1, masks=pruned.masks)
    """
    pruner = Pruner(
        net,
        batches,
        masks=masks,
        loss=loss,
        delta=delta,
        min_kept_per_layer=min_kept_per_layer,
        round_channels=round_channels,
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
            f"not {shown(method)}{hint}"
        )
    return checked_method(name, METHODS.create(name, options))
