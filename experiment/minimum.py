"""A minimum of weights in every layer, for those who want no layer to die."""

from collections.abc import Callable

from torch import Tensor

from experiment.masks import Masks, largest
from experiment.methods.method import Selection
from experiment.reachability import reached
from experiment.statistics import Statistics


def with_minimum(statistics: Statistics, selection: Selection, minimum: int,
                 living: Callable[[Tensor], Masks]) -> tuple[Tensor, Masks]:
    """The weights of a selection and, where a layer would keep fewer than `minimum`, more of its own.

    A weight counts if it leads to the output, so layers are filled from the output backwards: each
    with its best weights, by the method's own order where it has one and else by magnitude, among
    those whose outputs are read. `living` gives the masks without what is dead.

    Returns:
        The kept weights over the flat vector, and the living masks.
    """
    kept, flat = selection.kept, statistics.flat
    priority = selection.priority
    if priority is None:
        priority = flat.weights(statistics.net).abs()
    for _ in range(len(statistics.layers) + 1):
        masks = living(kept)
        added = _missing(statistics, masks, kept, priority, minimum)
        if not added.any():
            break
        kept = kept | added
    return kept, living(kept)


def _missing(statistics: Statistics, masks: Masks, kept: Tensor, priority: Tensor,
             minimum: int) -> Tensor:
    """The weights to add to layers that have too few alive and whose outputs are read already."""
    flat, candidates = statistics.flat, statistics.flat.split(statistics.candidates)
    alive, scores = flat.split(flat.join_masks(masks)), flat.split(priority)
    leads_on = reached(statistics.net, statistics.layers, masks, statistics.batches[0])
    added = {}
    for name, layer in statistics.layers.items():
        read = layer.oriented(leads_on.get(layer.parameter, masks[layer.parameter]))
        read = read | ~layer.oriented(statistics.connected.get(layer.parameter, ~read))
        open_to = (candidates[name] & ~alive[name] & read).flatten()
        lacking = minimum - int(alive[name].sum())
        added[name] = largest(scores[name].flatten(), lacking, open_to)
    return flat.join(added)
