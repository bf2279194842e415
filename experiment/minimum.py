"""A minimum of weights in every layer, for those who want no layer to die."""

from collections.abc import Callable

from torch import Tensor

from experiment.masks import Masks, largest
from experiment.methods.method import Selection
from experiment.reachability import reached
from experiment.statistics import Statistics


def with_minimum(statistics: Statistics, selection: Selection, masks: Masks, minimum: int,
                 living: Callable[[Tensor], Masks]) -> tuple[Tensor, Masks]:
    """The weights of a selection and, where a layer would keep fewer than `minimum`, more of its own.

    A weight counts if it leads to the output, so layers are filled from the output backwards: each
    with its best weights, by the method's own order where it has one and else by magnitude, among
    those whose outputs are read. `masks` are those of the selection without what is dead, and
    `living` gives them for other weights.

    Returns:
        The kept weights over the flat vector, and their living masks.
    """
    kept = selection.kept
    for _ in statistics.layers:
        added = _missing(statistics, selection, masks, minimum)
        if added is None:
            break
        kept = kept | added
        masks = living(kept)
    return kept, masks


def _missing(statistics: Statistics, selection: Selection, masks: Masks,
             minimum: int) -> Tensor | None:
    """The weights to add to layers that have too few alive and whose outputs are read already."""
    flat, candidates = statistics.flat, statistics.flat.split(statistics.candidates)
    alive = flat.split(flat.join_masks(masks))
    lacking = {name: min(minimum, int(candidates[name].sum())) - int(mask.sum())
               for name, mask in alive.items()}
    if max(lacking.values()) <= 0:
        return None
    priority = flat.weights(statistics.net).abs() if selection.priority is None \
        else selection.priority()
    leads_on = reached(statistics.net, statistics.layers, masks, statistics.batches[0])
    added, scores = {}, flat.split(priority)
    for name, layer in statistics.layers.items():
        read = layer.oriented(leads_on.get(layer.parameter, masks[layer.parameter]))
        read = read | ~layer.oriented(statistics.connected.get(layer.parameter, ~read))
        open_to = (candidates[name] & ~alive[name] & read).flatten()
        added[name] = largest(scores[name].flatten(), lacking[name], open_to)
    found = flat.join(added)
    return found if found.any() else None
