"""From error to sparsity: the smallest net whose loss is guaranteed to be small enough."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pandas
import torch
from torch import nn

from experiment.certification.holdout_tests import (
    images_needed,
    losses,
    p_value,
    require_measure,
)
from experiment.certification.labelled_outputs import labelled_outputs
from experiment.config.schema import Measure
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.core.text import shown
from experiment.nets.batches import as_batches
from experiment.nets.checks import share, valid_keep_ratio, whole_number
from experiment.pruning.method import Method
from experiment.pruning.prune import named_method
from experiment.pruning.pruned import Pruned
from experiment.pruning.pruner import Pruner
from experiment.sensitivity.constants import DEFAULT_DELTA

KEEP_RATIOS = (
    *(0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3),
    *(0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01),
)


@dataclass(frozen=True, kw_only=True)
class GuaranteedPruned(Pruned):
    """A pruned net whose expected loss is, with some confidence, at most so large."""

    measure: Measure
    at_most: float  # the bound of the expected loss on new images
    confidence: float  # the probability with which the whole procedure keeps its promise
    tested: pandas.DataFrame  # one row per keep ratio that was tried, in this order

    def __repr__(self) -> str:
        words = self.measure.replace("_", " ")
        return (
            f"{super().__repr__().removesuffix(')')}; with {self.confidence:.0%} confidence its "
            f"{words} is at most {self.at_most:.3g})"
        )


@torch.inference_mode(False)
def prune_to(
    net: nn.Module,
    batches: Iterable[Any],
    holdout: Iterable[Any],
    *,
    method: str | dict | Method = "SiPP",
    at_most: float = 0.005,
    confidence: float = 0.95,
    keep_ratios: Sequence[float] | None = None,
    measure: Measure = "accuracy_drop",
    loss: Callable | None = None,
    seed: int = 0,
    delta: float = DEFAULT_DELTA,
) -> GuaranteedPruned:
    """Prune a net as far as its accuracy is guaranteed to suffer no more than it may.

    The net is pruned to one keep ratio after the other, and each pruned net is tested on the images
    set aside, against the unpruned one. The last one that passes before the first that fails is
    returned. Since the order is fixed, the probability that its expected loss is above `at_most` is
    at most 1 - confidence for the whole sequence (fixed-sequence testing: Angelopoulos, Bates,
    Candes, Jordan, Lei 2021, arXiv:2110.01052), whatever the method and the net.

    Args:
        net, batches, method, loss, seed, delta: as for `experiment.prune`.
        holdout: batches of `(inputs, labels)` that had no part in training and choosing the net and
            are not in `batches`: independent draws of what the net will see.
        at_most: the limit of the expected loss, as a share of images: 0.005 is half a point.
        confidence: of the guarantee, in (0, 1).
        keep_ratios: falling; by default from 0.9 to 0.01.
        measure: `accuracy_drop`, or `disagreement`, the share of images whose class changes.

    Returns:
        A pruned net as `experiment.prune` returns it, with `at_most` and `confidence`, and in
        `tested` the keep ratios that were tried with their observed loss and p-value. If none
        passes, the net is not pruned (`keep_ratio` 1).

    Raises:
        UserError: for whatever cannot be used, in one sentence that says what would be right.

    Example:
        >>> small = experiment.prune_to(net, sample, holdout, method="SiPP", at_most=0.01)
        >>> small.keep_ratio, small.tested
    """
    ratios = _falling(KEEP_RATIOS if keep_ratios is None else keep_ratios)
    require_measure(measure)
    at_most, confidence = share("at_most", at_most), share("confidence", confidence)
    chosen = named_method(method)
    streams = Stream(whole_number("seed", seed))
    pruner = Pruner(net, batches, loss=loss, delta=delta)
    images = list(as_batches(net, holdout, "holdout"))
    before, labels = _predicted(net, images)
    order = streams.child("holdout order").permutation(len(labels)).numpy()
    best = None
    rows = []
    for index, ratio in enumerate(ratios):
        pruned = pruner.prune(chosen, ratio, streams.child("prune", index))
        after, _ = _predicted(pruned.net, images)
        found = losses(measure, before, after, labels)[order]
        p = p_value(measure, found, at_most, confidence)
        passes = p <= 1 - confidence
        needed = None if passes else images_needed(measure, found, at_most, confidence)
        rows.append(
            {
                "keep_ratio_requested": ratio,
                "keep_ratio": pruned.keep_ratio,
                measure: float(found.mean()),
                "p_value": p,
                "passes": passes,
                "images": len(found),
                "images_needed": needed,
            }
        )
        if not passes:
            break
        best = pruned
    if best is None:
        best = pruner.prune(chosen, 1.0, streams.child("prune", len(ratios)))
    fields = {field.name: getattr(best, field.name) for field in dataclasses.fields(best)}
    return GuaranteedPruned(
        **fields,
        measure=measure,
        at_most=at_most,
        confidence=confidence,
        tested=pandas.DataFrame(rows),
    )


def _falling(keep_ratios: Sequence[float]) -> list[float]:
    """Keep ratios in the order of the tests. Raises UserError unless they fall."""
    if not isinstance(keep_ratios, Iterable):
        raise UserError(
            f"keep_ratios must be falling numbers, such as [0.5, 0.2, 0.1], not "
            f"{shown(keep_ratios)}"
        )
    ratios = [valid_keep_ratio(ratio) for ratio in keep_ratios]
    if not ratios or any(after >= before for before, after in itertools.pairwise(ratios)):
        raise UserError("keep_ratios must be falling numbers, such as [0.5, 0.2, 0.1]")
    return ratios


def _predicted(net: nn.Module, images: Sequence[Any]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The predicted class and the label of each image (both [images])."""
    outputs, labels = labelled_outputs(net, images, "holdout")
    return outputs.argmax(1).numpy(), labels.numpy()
