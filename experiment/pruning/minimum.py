"""A minimum of weights in every layer, so that no layer dies."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from experiment.nets.layers import PrunableLayer
from experiment.nets.masks import Masks, largest
from experiment.nets.reachability import reached
from experiment.pruning.analysis import Analysis
from experiment.pruning.decision import Decision

ROUNDS = 3  # of adding weights, for each layer


def with_minimum(
    analysis: Analysis,
    minimum: int,
    kept: Tensor,
    masks: Masks,
    *,
    priority: Callable[[], Tensor | None],
    living: Callable[[Tensor], Masks],
) -> tuple[Tensor, Masks]:
    """The kept weights and, where a layer would keep fewer than `minimum`, more of its own.

    A weight counts if it leads to the output, so layers are filled from the output backwards: each
    with its best weights among those whose outputs are read. Where no output of a layer is read,
    because its readers have enough weights elsewhere, they get the best one that opens a path.

    Args:
        analysis: of the net.
        minimum: number of weights for each layer.
        kept: the method's choice over the flat vector.
        masks: those of `kept`, without what is dead.
        priority: gives the method's own order of all weights; where it has none, magnitude counts.
        living: gives the masks of other kept weights, without what is dead.

    Returns:
        The kept weights over the flat vector, and their living masks.
    """
    order = None
    for _ in range(ROUNDS * len(analysis.layers)):
        lacking = _lacking(analysis, masks, minimum)
        if max(lacking.values()) <= 0:
            break
        if order is None:
            order = priority()
        if order is None:
            order = analysis.flat.weights(analysis.net).abs()
        added = _missing(analysis, order, masks, lacking)
        if not added.any():
            added = _opening(analysis, order, kept, lacking)
        if not added.any():
            break
        kept = kept | added
        masks = living(kept)
    return kept, masks


def with_added(decision: Decision, kept: Tensor) -> Decision:
    """The decision with all of the weights `kept`: those that are added keep their values.

    Draws say nothing of weights that were added, so nothing is certified any more.
    """
    added = kept & ~decision.kept
    if not added.any():
        return decision
    factors = decision.factors
    if factors is not None:
        factors = torch.where(added, 1, factors)
    return replace(decision, kept=kept, factors=factors, draws=None)


def _lacking(analysis: Analysis, masks: Masks, minimum: int) -> dict[str, int]:
    """By layer, how many living weights are missing of the minimum, or of all that there are."""
    flat = analysis.flat
    candidates, alive = flat.split(analysis.candidates), flat.split(flat.join_masks(masks))
    return {
        name: min(minimum, int(candidates[name].sum())) - int(mask.sum())
        for name, mask in alive.items()
    }


def _missing(analysis: Analysis, priority: Tensor, masks: Masks, lacking: dict[str, int]) -> Tensor:
    """The weights to add to layers that have too few alive and whose outputs are read already."""
    flat = analysis.flat
    candidates = flat.split(analysis.candidates)
    alive = flat.split(flat.join_masks(masks))
    scores = flat.split(priority)
    leads_on = reached(analysis.net, analysis.layers, masks, analysis.batches[0])
    added = {}
    for name, layer in analysis.layers.items():
        read = layer.oriented(leads_on.get(layer.parameter, masks[layer.parameter]))
        read = read | ~layer.oriented(analysis.connected.get(layer.parameter, ~read))
        useful = (candidates[name] & ~alive[name] & read).flatten()
        added[name] = largest(scores[name].flatten(), lacking[name], useful)
    return flat.join(added)


def _opening(analysis: Analysis, priority: Tensor, kept: Tensor, lacking: dict[str, int]) -> Tensor:
    """The weight through which the outputs of a layer that lacks weights are read.

    Weights that are not kept are added in the method's order until an output is read; this is the
    last of them. It may take several weights to complete a path.
    """
    added = torch.zeros_like(kept)
    for name, num_lacking in lacking.items():
        if num_lacking <= 0:
            continue
        opening = _first_opening(analysis, priority, kept, analysis.layers[name])
        if opening is not None:
            added[opening] = True
            break
    return added


def _first_opening(
    analysis: Analysis, priority: Tensor, kept: Tensor, layer: PrunableLayer
) -> int | None:
    """The index of that weight for one layer, found by halving; None if none opens a path."""
    flat = analysis.flat
    others = flat.join(
        {
            name: torch.full(shape, name != layer.name, device=kept.device)
            for name, shape in flat.shapes.items()
        }
    )
    closed = (analysis.candidates & ~kept & others).nonzero().flatten()
    closed = closed[priority[closed].argsort(descending=True, stable=True)]

    def opens(count: int) -> bool:
        trial = kept.clone()
        trial[closed[:count]] = True
        masks = analysis.masks | flat.split_masks(trial)
        found = reached(analysis.net, analysis.layers, masks, analysis.batches[0])
        return bool(found[layer.parameter].any())

    low, high = 0, len(closed)
    if opens(low) or not opens(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if opens(middle) else (middle, high)
    return int(closed[high - 1])
