"""A minimum of weights in every layer, for those who want no layer to die."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiment.nets.layers import PrunableLayer
from experiment.nets.masks import Masks, largest
from experiment.nets.reachability import reached
from experiment.pruning.analysis import Statistics
from experiment.pruning.method import Selection

ROUNDS = 3  # of adding weights, for each layer


def with_minimum(
    statistics: Statistics,
    selection: Selection,
    masks: Masks,
    minimum: int,
    living: Callable[[Tensor], Masks],
) -> tuple[Tensor, Masks]:
    """The weights of a selection and, where a layer would keep fewer than `minimum`, more of its own.

    A weight counts if it leads to the output, so layers are filled from the output backwards: each
    with its best weights, by the method's own order where it has one and else by magnitude, among
    those whose outputs are read. Where no output of a layer is read, because its readers have enough
    from elsewhere, they get the best weight that opens a way to it. `masks` are those of the
    selection without what is dead, and `living` gives them for other weights.

    Returns:
        The kept weights over the flat vector, and their living masks.
    """
    kept, flat = selection.kept, statistics.flat
    priority = None
    for _ in range(ROUNDS * len(statistics.layers)):
        lacking = _lacking(statistics, masks, minimum)
        if max(lacking.values()) <= 0:
            break
        if priority is None:
            priority = (
                flat.weights(statistics.net).abs()
                if selection.priority is None
                else selection.priority()
            )
        added = _missing(statistics, priority, masks, lacking)
        if not added.any():
            added = _opening(statistics, priority, kept, lacking)
        if not added.any():
            break
        kept = kept | added
        masks = living(kept)
    return kept, masks


def _lacking(statistics: Statistics, masks: Masks, minimum: int) -> dict[str, int]:
    """By layer, how many living weights are missing of the minimum, or of all that there are."""
    flat = statistics.flat
    candidates, alive = flat.split(statistics.candidates), flat.split(flat.join_masks(masks))
    return {
        name: min(minimum, int(candidates[name].sum())) - int(mask.sum())
        for name, mask in alive.items()
    }


def _missing(
    statistics: Statistics, priority: Tensor, masks: Masks, lacking: dict[str, int]
) -> Tensor:
    """The weights to add to layers that have too few alive and whose outputs are read already."""
    flat, candidates = statistics.flat, statistics.flat.split(statistics.candidates)
    alive, scores = flat.split(flat.join_masks(masks)), flat.split(priority)
    leads_on = reached(statistics.net, statistics.layers, masks, statistics.batches[0])
    added = {}
    for name, layer in statistics.layers.items():
        read = layer.oriented(leads_on.get(layer.parameter, masks[layer.parameter]))
        read = read | ~layer.oriented(statistics.connected.get(layer.parameter, ~read))
        open_to = (candidates[name] & ~alive[name] & read).flatten()
        added[name] = largest(scores[name].flatten(), lacking[name], open_to)
    return flat.join(added)


def _opening(
    statistics: Statistics, priority: Tensor, kept: Tensor, lacking: dict[str, int]
) -> Tensor:
    """The weight through which the outputs of a layer that lacks weights are read.

    Of all weights that are not kept, in the method's order, the last of the shortest beginning with
    which they are. It may take several to complete a way.
    """
    added = torch.zeros_like(kept)
    for name in (name for name, number in lacking.items() if number > 0):
        opening = _first_opening(statistics, priority, kept, statistics.layers[name])
        if opening is not None:
            added[opening] = True
            break
    return added


def _first_opening(
    statistics: Statistics, priority: Tensor, kept: Tensor, layer: PrunableLayer
) -> int | None:
    """The place of that weight for one layer, found by halving; None if none opens it."""
    flat = statistics.flat
    others = flat.join(
        {
            name: torch.full(shape, name != layer.name, device=kept.device)
            for name, shape in flat.shapes.items()
        }
    )
    closed = (statistics.candidates & ~kept & others).nonzero().flatten()
    closed = closed[priority[closed].argsort(descending=True, stable=True)]

    def opens(count: int) -> bool:
        trial = kept.clone()
        trial[closed[:count]] = True
        masks = statistics.masks | flat.split_masks(trial)
        found = reached(statistics.net, statistics.layers, masks, statistics.batches[0])
        return bool(found[layer.parameter].any())

    low, high = 0, len(closed)
    if opens(low) or not opens(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if opens(middle) else (middle, high)
    return int(closed[high - 1])
