"""Certificates from Python: prune a net and see what they are worth on fresh data."""

from collections.abc import Callable, Iterable
from typing import Any

import pandas
import torch
from torch import nn

from experiment.certification.bounds import POINTS_OF_SAMPLE, Bounds
from experiment.certification.certificates import Certificates
from experiment.certification.fresh_points import FreshPoints
from experiment.core.seeding import Stream
from experiment.nets.batches import as_batches
from experiment.nets.checks import share, whole_number
from experiment.pruning.method import Method
from experiment.pruning.prune import named_method
from experiment.pruning.pruner import Pruner
from experiment.sensitivity.constants import DEFAULT_DELTA


@torch.inference_mode(False)
def certify(
    net: nn.Module,
    batches: Iterable[Any],
    fresh: Iterable[Any],
    *,
    method: str | dict | Method = "SiPP",
    keep_ratio: float,
    loss: Callable | None = None,
    seed: int = 0,
    delta: float = DEFAULT_DELTA,
    points_per_sample: int = 8,
    calibration: Iterable[Any] | None = None,
    level: float = 0.05,
) -> pandas.DataFrame:
    """Prune a copy of a net and compare what is certified with what happens on fresh data.

    Args:
        net, batches, method, keep_ratio, loss, seed, delta: as for `experiment.prune`.
        fresh: batches that are not in S, in the same form.
        points_per_sample: how many points of each fresh sample and layer are looked at, drawn by
            `seed`.
        calibration: batches that are neither in S nor fresh, in the same form. With them, tighter
            bounds are compared too.
        level: the share of new images for which bounds by calibration may fail.

    Returns:
        One row per layer, with the columns that `FreshPoints.compare` describes. With calibration
        images, one row per layer and bound, with those of `Comparison.table`.

    Raises:
        UserError: for whatever cannot be used, in one sentence that says what would be right.

    Example:
        >>> table = experiment.certify(net, loader, test_loader, keep_ratio=0.5)
        >>> table[["layer", "certified_median", "measured_median"]]
    """
    points_per_sample = whole_number("points_per_sample", points_per_sample, least=1)
    seeds = Stream(whole_number("seed", seed))
    level = share("level", level)
    pruner = Pruner(net, batches, loss=loss, delta=delta)
    fresh = as_batches(net, fresh, "fresh")
    pruned = pruner.prune(named_method(method), keep_ratio, seeds.child("prune"))
    layers = pruner.analysis.layers

    def points_of(images: Iterable[Any], per_sample: int, name: str) -> FreshPoints:
        return FreshPoints(net, images, layers, per_sample, seeds.child(name))

    points = points_of(fresh, points_per_sample, "fresh points")
    certificates = Certificates(pruner.analysis)
    if calibration is None:
        return points.compare(certificates, pruned)
    sample = points_of(pruner.analysis.batches, POINTS_OF_SAMPLE, "points of S")
    others = as_batches(net, calibration, "calibration")
    calibrated = points_of(others, points_per_sample, "calibration points")
    bounds = Bounds(certificates, sample, calibrated, level)
    return bounds.compare(pruned, points)
