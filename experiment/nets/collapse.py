"""Nets that pruning has made useless: layers without weights, outputs that ignore the input."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError
from experiment.nets.layers import PrunableLayer
from experiment.nets.masks import Masks
from experiment.nets.running import batch_length, run_in_eval_mode, split_batch
from experiment.nets.tensors import map_tensors, tensors

MAX_NAMED = 3  # how many layers a note names
TOLERANCE = 1e-6  # rounding error of equal outputs, relative to the largest


def empty_layers(layers: dict[str, PrunableLayer], masks: Masks) -> list[str]:
    """The names of the layers that have no weight left."""
    return [name for name, layer in layers.items() if not masks[layer.parameter].any()]


def collapse_notes(empty: list[str], constant: bool, constant_before: bool) -> list[str]:
    """What no longer works in a pruned net, in words."""
    notes = []
    if empty:
        num_more = len(empty) - MAX_NAMED
        more = f" and {num_more} more layers" if num_more > 0 else ""
        notes.append(f"no weights are left in {', '.join(empty[:MAX_NAMED])}{more}")
    if constant:
        before = ", as it was before pruning" if constant_before else ""
        notes.append(f"the output is the same for all samples{before}")
    return notes


def has_constant_output(net: nn.Module, batches: Iterable[Any]) -> bool:
    """Whether a net in eval mode gives the same output for all samples of the batches.

    Stops at the first difference. A single sample is compared with a changed copy of itself.
    """
    remaining = iter(batches)
    batch = next(remaining)
    if _first_two_differ(net, batch):
        return False
    first: list[Tensor] | None = None
    for inputs in _several_samples(itertools.chain([batch], remaining)):
        outputs = _outputs(net, inputs)
        first = first or [output[:1] for output in outputs]
        if not all(map(_is_constant, outputs, first)):
            return False
    return bool(first)


def _first_two_differ(net: nn.Module, batch: Any) -> bool:
    """Whether the outputs of the first two samples differ, which settles it for most nets."""
    inputs, _ = split_batch(batch)
    length = batch_length(inputs)
    if length < 2:
        return False
    two = map_tensors(
        lambda tensor: tensor[:2] if tensor.dim() and len(tensor) == length else tensor, inputs
    )
    try:
        outputs = _outputs(net, two)
    except UserError:  # some inputs have no samples
        return False
    return not all(_is_constant(output, output[:1]) for output in outputs)


def _outputs(net: nn.Module, inputs: Any) -> list[Tensor]:
    """The floating-point tensors that a net returns, except single numbers."""
    return [
        output
        for output in tensors(run_in_eval_mode(net, (inputs, None)))
        if output.is_floating_point() and output.dim()
    ]


def _several_samples(batches: Iterable[Any]) -> Iterator[Any]:
    """The inputs of the batches; after a single sample, a changed one too."""
    num_samples = 0
    for batch in batches:
        inputs, _ = split_batch(batch)
        num_samples += batch_length(inputs)
        yield inputs
    if num_samples == 1:
        yield map_tensors(_changed, inputs)


def _changed(tensor: Tensor) -> Tensor:
    """Other numbers of the same shape; tokens and other integers in reversed order."""
    if not tensor.is_floating_point():
        return tensor.flip(-1)
    generator = torch.Generator().manual_seed(0)
    return tensor + torch.randn(tensor.shape, generator=generator).to(tensor)


def _is_constant(outputs: Tensor, first: Tensor) -> bool:
    """Whether all rows are equal to the first one; NaN is equal to nothing."""
    if outputs.shape[1:] != first.shape[1:]:
        return False
    scale = float(first.nan_to_num(0, 0, 0).abs().max()) if first.numel() else 0.0
    return bool(torch.isclose(outputs, first, rtol=0, atol=TOLERANCE * scale).all())
