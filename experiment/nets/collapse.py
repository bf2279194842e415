"""Nets that pruning has made useless: layers without weights, outputs that ignore the input."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiment.nets.layers import PrunableLayer
from experiment.nets.masks import Masks
from experiment.nets.running import (
    batch_length,
    evaluating,
    map_tensors,
    run,
    split_batch,
    tensors,
)

NAMED = 3  # of several layers, how many a note names
TOLERANCE = 1e-6  # of the largest output: what rounding does to equal numbers


def empty_layers(layers: dict[str, PrunableLayer], masks: Masks) -> list[str]:
    """The names of the layers that have no weight left."""
    return [name for name, layer in layers.items() if not masks[layer.parameter].any()]


def collapse_notes(empty: list[str], constant: bool, constant_before: bool) -> list[str]:
    """What of a pruned net no longer works, in words."""
    notes = []
    if empty:
        more = f" and {len(empty) - NAMED} more layers" if len(empty) > NAMED else ""
        notes.append(f"no weights are left in {', '.join(empty[:NAMED])}{more}")
    if constant:
        before = ", as it was before pruning" if constant_before else ""
        notes.append(f"the output is the same for all samples{before}")
    return notes


@torch.no_grad()
def has_constant_output(net: nn.Module, batches: Iterable[Any]) -> bool:
    """Whether a net in eval mode gives the same output for all samples of some batches.

    It stops at the first difference. A single sample is compared with a changed copy of itself.
    """
    first: list[Tensor] | None = None
    with evaluating(net):
        for inputs in _several(batches):
            outputs = [
                output
                for output in tensors(run(net, (inputs, None)))
                if output.is_floating_point() and output.dim()
            ]
            first = first or [output[:1] for output in outputs]
            if not all(map(_equal, outputs, first)):
                return False
    return bool(first)


def _several(batches: Iterable[Any]) -> Iterator[Any]:
    """The inputs of the batches; if they are a single sample, then a changed one too."""
    number, inputs = 0, None
    for batch in batches:
        inputs = split_batch(batch)[0]
        number += batch_length(inputs)
        yield inputs
    if number == 1:
        yield map_tensors(_changed, inputs)


def _changed(tensor: Tensor) -> Tensor:
    """Other numbers of the same size; tokens and other integers in reversed order."""
    if not tensor.is_floating_point():
        return tensor.flip(-1)
    generator = torch.Generator().manual_seed(0)
    return tensor + torch.randn(tensor.shape, generator=generator).to(tensor)


def _equal(outputs: Tensor, first: Tensor) -> bool:
    """Whether all rows are equal to the given one; outputs that are not numbers differ."""
    if outputs.shape[1:] != first.shape[1:]:
        return False
    scale = float(first.nan_to_num(0, 0, 0).abs().max()) if first.numel() else 0.0
    return bool(torch.isclose(outputs, first, rtol=0, atol=TOLERANCE * scale).all())
