"""What is certified about the outputs of a pruned net on new images: any net, any method.

From images set aside, that had no part in making the net and are independent draws of those that it
will see, without any other assumption:

- with some confidence, at most a certain share of all images has an output error above the
  certified one (an order statistic, see `experiment.certification.conformal`);
- with the same confidence, at most so many predictions change, and the accuracy drops by at most so
  much (see `experiment.certification.holdout_tests`).

Each statement holds by itself with that confidence, not all of them at once.
"""

from collections.abc import Iterable
from typing import Any

import numpy
import pandas
import torch
from torch import Tensor, nn

from experiment.certification.conformal import confident_quantile
from experiment.certification.holdout_tests import MEASURES, losses, upper_bound
from experiment.certification.labelled_outputs import labelled_outputs
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.core.text import shown
from experiment.nets import checks
from experiment.nets.batches import as_batches

ERRORS = ("relative_error", "total_variation")
QUANTITIES = (*ERRORS, *MEASURES)
# From here on a bound says nothing: outputs of zeros have a relative error of 1, and the others
# cannot be larger.
VACUOUS = 1.0


def relative_error(before: Tensor, after: Tensor) -> Tensor:
    """|after - before| / |before| of each image's logits, in the Euclidean norm [images].

    Infinite where logits are not numbers, and where only those of the unpruned net are 0.
    """
    difference = (after.double() - before.double()).norm(dim=1)
    return relative_to(before.double().norm(dim=1), difference)


def relative_to(size: Tensor, difference: Tensor) -> Tensor:
    """The difference over the size; 0 without one, infinite where it or the size is no number."""
    errors = torch.where(difference == 0, 0, difference / size)
    return errors.nan_to_num(nan=torch.inf, posinf=torch.inf)


def total_variation(before: Tensor, after: Tensor) -> Tensor:
    """The total variation distance of each image's softmax probabilities [images], in [0, 1].

    1, the largest that there is, where logits are not finite.
    """
    difference = after.double().softmax(1) - before.double().softmax(1)
    return (difference.abs().sum(1) / 2).nan_to_num(nan=1.0)


def certified(
    before: Tensor, after: Tensor, labels: Tensor, *, share: float, confidence: float
) -> dict[str, float]:
    """The bounds of all `QUANTITIES` from images set aside.

    Args:
        before, after: logits of the unpruned and the pruned net [images, classes], in an order that
            was fixed beforehand.
        labels: [images].
        share: of all images, that may have a larger error.
        confidence: of each bound.
    """
    bounds = {}
    for name, errors in _errors(before, after).items():
        bounds[name] = float(confident_quantile(errors, share, confidence))
    for measure in MEASURES:
        found = losses(measure, *_predictions(before, after, labels))
        bounds[measure] = upper_bound(measure, found, confidence)
    return bounds


def measured(before: Tensor, after: Tensor, labels: Tensor, *, share: float) -> dict[str, float]:
    """The same quantities as they are on other images: quantiles of errors, and mean losses."""
    found = {
        name: float(numpy.quantile(errors.numpy(), 1 - share, method="higher"))
        for name, errors in _errors(before, after).items()
    }
    for measure in MEASURES:
        of_images = losses(measure, *_predictions(before, after, labels))
        found[measure] = float(of_images.mean())
    return found


def exceeding(before: Tensor, after: Tensor, bounds: dict[str, float]) -> dict[str, float]:
    """The shares of images whose errors are above the certified ones."""
    errors = _errors(before, after)
    return {name: float((errors[name] > bounds[name]).double().mean()) for name in ERRORS}


def compare(
    holdout: tuple[Tensor, Tensor, Tensor],
    fresh: tuple[Tensor, Tensor, Tensor],
    *,
    share: float,
    confidence: float,
) -> dict[str, float]:
    """One row: `<quantity>_certified` and `_measured`, and of errors `_exceeding`.

    Args:
        holdout: logits of the unpruned and the pruned net, and labels, of the images set aside.
        fresh: those of other images, on which is measured.
        share, confidence: see `certified`.
    """
    bounds = certified(*holdout, share=share, confidence=confidence)
    found = measured(*fresh, share=share)
    above = exceeding(*fresh[:2], bounds)
    row = {}
    for name in QUANTITIES:
        row[f"{name}_certified"] = bounds[name]
        row[f"{name}_measured"] = found[name]
        if name in ERRORS:
            row[f"{name}_exceeding"] = above[name]
    return row


@torch.inference_mode(False)
def certify_outputs(
    net: nn.Module,
    pruned: nn.Module,
    holdout: Iterable[Any],
    fresh: Iterable[Any] | None = None,
    *,
    share: float = 0.05,
    confidence: float = 0.95,
    seed: int = 0,
) -> pandas.DataFrame:
    """What is certified about a pruned net's outputs, for any two nets and however one was made.

    Args:
        net: the unpruned net, which gives one row of logits for each image.
        pruned: the pruned one, retrained or not.
        holdout: batches of `(inputs, labels)` that had no part in making either: independent draws
            of what the nets will see.
        fresh: other batches, to measure on.
        share: of all images, that may have a larger error than the certified one.
        confidence: of each bound, in (0, 1).
        seed: of the order in which the holdout images are tested, so that they may be sorted.

    Returns:
        One row for each of `relative_error` (of the logits, Euclidean norm), `total_variation` (of
        the probabilities), `accuracy_drop` and `disagreement`: the columns `quantity`, `certified`
        (infinite if there are too few images), `is_vacuous`, and `measured` if there is `fresh`.

    Raises:
        UserError: for whatever cannot be used, in one sentence that says what would be right.

    Example:
        >>> experiment.certify_outputs(net, experiment.prune(net, sample).net, holdout)
    """
    share = checks.share("share", share)
    confidence = checks.share("confidence", confidence)
    for name, value in (("net", net), ("pruned", pruned)):
        if not isinstance(value, nn.Module):
            raise UserError(f"{name} must be a torch.nn.Module, not {shown(value)}")
    images = as_batches(net, holdout, "holdout")
    tensors = _pair(net, pruned, images, "holdout")
    order = (
        Stream(checks.whole_number("seed", seed))
        .child("holdout order")
        .permutation(len(tensors[0]))
    )
    before, after, labels = (tensor[order] for tensor in tensors)
    bounds = certified(before, after, labels, share=share, confidence=confidence)
    table = pandas.DataFrame({"quantity": list(bounds), "certified": list(bounds.values())})
    table["is_vacuous"] = table["certified"] >= VACUOUS
    if fresh is not None:
        found = measured(*_pair(net, pruned, as_batches(net, fresh, "fresh"), "fresh"), share=share)
        table["measured"] = [found[name] for name in table["quantity"]]
    return table


def _pair(
    net: nn.Module, pruned: nn.Module, batches: Iterable[Any], name: str
) -> tuple[Tensor, Tensor, Tensor]:
    images = list(batches)
    before, labels = labelled_outputs(net, images, name)
    after, _ = labelled_outputs(pruned, images, name, before.shape[1])
    return before, after, labels


def _errors(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    return {
        "relative_error": relative_error(before, after),
        "total_variation": total_variation(before, after),
    }


def _predictions(
    before: Tensor, after: Tensor, labels: Tensor
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    return before.argmax(1).numpy(), after.argmax(1).numpy(), labels.numpy()
