"""Certificates compared with what happens on fresh data."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy
import pandas
import torch
from torch import Tensor, nn

from experiment.certification.certificates import Certificates
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.nets.batches import as_batches
from experiment.nets.checks import whole_number
from experiment.nets.layers import PrunableLayer
from experiment.pruning.method import Method
from experiment.pruning.pruner import Pruned, Pruner, named_method
from experiment.sensitivity.empirical import EPSILON
from experiment.sensitivity.points import nonnegative_parts, sampled_points
from experiment.sensitivity.sample_size import C

SLACK = 1 + 1e-9  # for rounding in double precision
TILE_FLOATS = 2**24  # of contributions computed at a time


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
    delta: float = 1e-16,
    points_per_sample: int = 8,
) -> pandas.DataFrame:
    """Prune a copy of a net and compare what is certified with what happens on fresh data.

    Args:
        net, batches, method, keep_ratio, loss, seed, delta: as for `experiment.prune`.
        fresh: batches that are not in S, in the same form.
        points_per_sample: how many points of each fresh sample and layer are looked at, drawn by `seed`.

    Returns:
        One row a layer, with the columns that `FreshPoints.compare` describes.

    Raises:
        UserError: for whatever cannot be used, in one sentence that says what would be right.

    Example:
        >>> table = experiment.certify(net, loader, test_loader, keep_ratio=0.5)
        >>> table[["layer", "certified_median", "measured_median"]]
    """
    points_per_sample = whole_number("points_per_sample", points_per_sample, least=1)
    seeds = Stream(whole_number("seed", seed))
    pruner = Pruner(net, batches, loss=loss, delta=delta)
    fresh = as_batches(net, fresh, "fresh")
    pruned = pruner.prune(named_method(method), keep_ratio, seeds.child("prune"))
    points = FreshPoints(
        net, fresh, pruner.statistics.layers, points_per_sample, seeds.child("fresh points")
    )
    return points.compare(Certificates(pruner.statistics), pruned)


@dataclass(frozen=True)
class Pairs:
    """(point, unit) pairs of a layer in which the unit sees something, tensors [2, filters, points]."""

    sees: Tensor
    within: Tensor  # no contribution is larger than C times its sensitivity
    contributions: int  # of single weights of the units that see something
    beyond: int  # of these, larger than C times the sensitivity


class FreshPoints:
    """A seeded choice of points that the layers of the unpruned net see on fresh data.

    Layers that do not run on it, or that use their weight in blocks only, as attention to something
    else does, have no points.
    """

    def __init__(
        self,
        net: nn.Module,
        fresh: Iterable[Any],
        layers: dict[str, PrunableLayer],
        per_sample: int,
        stream: Stream,
    ):
        sampled = sampled_points(net, layers, fresh, per_sample, stream, nonnegative_parts)
        if not sampled:
            raise UserError("fresh is empty, or no layer runs on it with the whole of its weight")
        self.layers = layers
        self.points = {
            name: points.cpu().double() for name, points in sampled.items()
        }  # groups, K, points
        self._pairs: dict[str, tuple[Certificates, Pairs]] = {}  # the last ones of each layer

    @torch.no_grad()
    def compare(self, certificates: Certificates, pruned: Pruned) -> pandas.DataFrame:
        """One row a layer.

        Columns: `layer`, `units`, `points`; `certified_*` over units and `measured_*` over pairs: median, 95th
        percentile and maximum of the relative error; pairs (`pairs_*`) and those with an error above the certificate
        (`exceeding_*`): `within_deterministic` and `within_random`, where every contribution is within C times its
        sensitivity, by how the unit was pruned, and `beyond`, the others; `contributions` of single weights and how
        many of these are `contributions_beyond` C times the sensitivity.
        """
        certified, sampled = certificates.of(pruned)
        rows = []
        for name in self.points:
            pairs = self._pairs_of(certificates, name)
            errors = self._errors(
                certificates.weight(name), self.layers[name].weight(pruned.net), name
            )
            bound = certified[name].t()[:, :, None]  # 2, filters, 1
            exceeding = (errors > bound * SLACK) & pairs.sees
            by_chance = sampled[name].t()[:, :, None] & pairs.sees
            kinds = {
                "within_deterministic": pairs.sees & pairs.within & ~by_chance,
                "within_random": pairs.within & by_chance,
                "beyond": pairs.sees & ~pairs.within,
            }
            rows.append(
                {
                    "layer": name,
                    "units": bound.numel(),
                    "points": errors.shape[2],
                    **_quantiles("certified", certified[name].flatten()),
                    **_quantiles("measured", errors[pairs.sees]),
                    **{f"pairs_{kind}": int(where.sum()) for kind, where in kinds.items()},
                    **{
                        f"exceeding_{kind}": int((exceeding & where).sum())
                        for kind, where in kinds.items()
                    },
                    "contributions": pairs.contributions,
                    "contributions_beyond": pairs.beyond,
                }
            )
        return pandas.DataFrame(rows)

    def _errors(self, weight: Tensor, pruned: Tensor, name: str) -> Tensor:
        """|z_hat / z - 1| of every unit and point, [2, filters, points]; 0 where nothing of the unit changed."""
        weight, difference = weight.cpu().double(), (weight - pruned).cpu().double()
        result = []
        for sign in (1, -1):
            own = (sign * weight) > 0
            z = self._product(name, torch.where(own, weight.abs(), 0))
            change = self._product(
                name, torch.where(own, difference.abs() * torch.sign(difference * weight), 0)
            )
            result.append(torch.where(z > EPSILON, change.abs() / z, 0))
        return torch.stack(result)

    def _product(self, name: str, weight: Tensor) -> Tensor:
        """[filters, points]"""
        points = self.points[name]
        return (weight.flatten(1).unflatten(0, (len(points), -1)) @ points).flatten(0, 1)

    def _pairs_of(self, certificates: Certificates, name: str) -> Pairs:
        if name not in self._pairs or self._pairs[name][0] is not certificates:
            pairs = self._split(certificates.weight(name), certificates.sensitivities[name], name)
            self._pairs[name] = (certificates, pairs)
        return self._pairs[name][1]

    def _split(self, weight: Tensor, sensitivity: Tensor, name: str) -> Pairs:
        """Which pairs keep to the sensitivities, and how many contributions do not."""
        weight, points = weight.cpu().double(), self.points[name]
        limit = (C * SLACK * sensitivity.cpu().double()).flatten(1)
        sees, within, contributions, beyond = [], [], 0, 0
        per_group = len(weight) // len(points)
        step = max(1, TILE_FLOATS // (limit.shape[1] * points.shape[2]))
        for sign in (1, -1):
            part = (sign * weight).clamp(min=0)
            z = self._product(name, part)
            sees.append(z > EPSILON)
            over = []
            for group, matrix in enumerate(points):
                for start in range(group * per_group, (group + 1) * per_group, step):
                    cut = slice(start, min(start + step, (group + 1) * per_group))
                    products = part.flatten(1)[cut, :, None] * matrix  # filters, K, points
                    larger = products > limit[cut, :, None] * z[cut, None]
                    over.append((larger & sees[-1][cut, None]).sum(1))
            over = torch.cat(over)
            within.append(over == 0)
            beyond += int(over.sum())
            contributions += int((sees[-1].sum(1) * (part.flatten(1) > 0).sum(1)).sum())
        return Pairs(torch.stack(sees), torch.stack(within), contributions, beyond)


def _quantiles(name: str, values: Tensor) -> dict[str, float]:
    """Median, 95th percentile and maximum; not a number where there is nothing."""
    if not len(values):
        return {f"{name}_{key}": float("nan") for key in ("median", "p95", "max")}
    median, p95 = numpy.quantile(values.numpy(), [0.5, 0.95])
    return {
        f"{name}_median": float(median),
        f"{name}_p95": float(p95),
        f"{name}_max": float(values.max()),
    }
