"""Certificates compared with what happens on fresh data."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy
import pandas
import torch
from torch import Tensor, nn

from experiment.certification.certificates import Certificates
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.nets.layers import PrunableLayer
from experiment.pruning.pruned import Pruned
from experiment.sensitivity.constants import C
from experiment.sensitivity.empirical import EPSILON
from experiment.sensitivity.points import nonnegative_parts, sampled_points

SLACK = 1 + 1e-9  # for rounding in double precision
TILE_FLOATS = 2**24  # of contributions computed at a time


@dataclass(frozen=True)
class Pairs:
    """The pairs of a unit and a point of one layer: which count, and which meet the assumption."""

    sees: Tensor  # [2, filters, points]: the unit's sum is not 0
    within: Tensor  # [2, filters, points]: no contribution is larger than C times its sensitivity
    contributions: int  # number of those of single weights, where the unit's sum is not 0
    beyond: int  # how many of them are larger than C times the sensitivity


class FreshPoints:
    """A seeded choice of points that the layers of the unpruned net see on some data.

    Layers have no points if they do not run on the data, or if they only use blocks of their
    weight, as cross-attention does.
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
        # By layer [groups, K, points], and the image of each point [points].
        self.points = {name: found.points.cpu().double() for name, found in sampled.items()}
        self.images = {name: found.sample for name, found in sampled.items()}
        # By layer and constant, those of the last certificates.
        self._pairs: dict[tuple[str, float], tuple[Certificates, Pairs]] = {}

    @torch.no_grad()
    def compare(self, certificates: Certificates, pruned: Pruned) -> pandas.DataFrame:
        """One row per layer, with these columns.

        - `layer`, `units`, `points`.
        - `certified_*` over units and `measured_*` over pairs of a unit and a point: median, 95th
          percentile and maximum of the relative error.
        - `pairs_*`, the number of pairs, and `exceeding_*`, of those with an error above the
          certificate. `within_deterministic` and `within_random`: every contribution is within C
          times its sensitivity, and the unit's weights keep their values or were sampled;
          `beyond`: all other pairs.
        - `contributions`, the number of those of single weights, and `contributions_beyond`, of
          those that are more than C times the sensitivity.
        """
        certified, sampled = certificates.of(pruned)
        rows = []
        for name in self.points:
            errors = self.errors(certificates, pruned, name)
            pairs = self.pairs(certificates, name)
            rows.append({"layer": name, **_row(pairs, errors, certified[name], sampled[name])})
        return pandas.DataFrame(rows)

    @property
    def num_images(self) -> int:
        """The number of images with points; 0 where none of them is known."""
        counts = [len(self.images[name].unique()) for name in self.layers_with_images]
        return max(counts, default=0)

    @property
    def layers_with_images(self) -> list[str]:
        """The layers of whose points it is known to which images they belong."""
        return [name for name, image in self.images.items() if (image >= 0).all()]

    @torch.no_grad()
    def errors(self, certificates: Certificates, pruned: Pruned, name: str) -> Tensor:
        """|z_hat / z - 1| of every unit and point [2, filters, points]; 0 where the sum z is 0."""
        weight = certificates.weight(name)
        difference = (weight - self.layers[name].weight(pruned.net)).cpu().double()
        weight = weight.cpu().double()
        signed_difference = difference.abs() * torch.sign(difference * weight)
        result = []
        for sign in (1, -1):
            own = (sign * weight) > 0
            z = self._product(name, torch.where(own, weight.abs(), 0))
            change = self._product(name, torch.where(own, signed_difference, 0))
            result.append(torch.where(z > EPSILON, change.abs() / z, 0))
        return torch.stack(result)

    @torch.no_grad()
    def excess(self, certificates: Certificates, constant: float, name: str) -> Tensor:
        """sum_j max(0, g_j - C s_j) of every unit and point of a layer [2, filters, points].

        0 where the unit sees nothing.
        """
        weight = certificates.weight(name).cpu().double()
        sensitivity = certificates.sensitivities[name].cpu().double()
        limit = (constant * SLACK * sensitivity).flatten(1)
        result = []
        for sign in (1, -1):
            own = (sign * weight).clamp(min=0)
            z = self._product(name, own)
            tiles = _differences(own.flatten(1), limit, z, self.points[name])
            above = torch.cat([tile.clamp_(min=0).sum(1) for _, tile in tiles])
            result.append(torch.where(z > EPSILON, above / z, 0))
        return torch.stack(result)

    def pairs(self, certificates: Certificates, name: str, constant: float = C) -> Pairs:
        """The pairs of a layer for the envelope C s, kept for the next net of the certificates."""
        key = (name, constant)
        if key not in self._pairs or self._pairs[key][0] is not certificates:
            sensitivity = certificates.sensitivities[name]
            pairs = self._split(certificates.weight(name), constant * sensitivity, name)
            self._pairs[key] = (certificates, pairs)
        return self._pairs[key][1]

    def _product(self, name: str, weight: Tensor) -> Tensor:
        """A layer's points multiplied by a weight of its shape [filters, points]."""
        points = self.points[name]
        return (weight.flatten(1).unflatten(0, (len(points), -1)) @ points).flatten(0, 1)

    def _split(self, weight: Tensor, limit: Tensor, name: str) -> Pairs:
        """Which pairs respect the limits of contributions, and how many contributions do not."""
        weight = weight.cpu().double()
        limit = SLACK * limit.cpu().double().flatten(1)
        sees = []
        within = []
        contributions = 0
        beyond = 0
        for sign in (1, -1):
            own = (sign * weight).clamp(min=0)
            z = self._product(name, own)
            seen = z > EPSILON
            num_beyond = _num_beyond(own.flatten(1), limit, z, seen, self.points[name])
            sees.append(seen)
            within.append(num_beyond == 0)
            beyond += int(num_beyond.sum())
            contributions += int((seen.sum(1) * (own.flatten(1) > 0).sum(1)).sum())
        return Pairs(torch.stack(sees), torch.stack(within), contributions, beyond)


def _num_beyond(weight: Tensor, limit: Tensor, z: Tensor, seen: Tensor, points: Tensor) -> Tensor:
    """How many contributions of each unit and point are above their limits [filters, points].

    Args:
        weight, limit, z, points: as for `_differences`.
        seen: which sums are not 0 [filters, points].
    """
    tiles = _differences(weight, limit, z, points)
    return torch.cat([((tile > 0) & seen[rows, None]).sum(1) for rows, tile in tiles])


def _differences(
    weight: Tensor, limit: Tensor, z: Tensor, points: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """z times how far contributions are above their limits, in tiles [filters, K, points].

    Args:
        weight: of one sign, not negative [filters, K].
        limit: of each weight's relative contributions [filters, K].
        z: the sums of the contributions [filters, points].
        points: [groups, K, points].

    Yields:
        Which filters they are, and the tile.
    """
    per_group = len(weight) // len(points)
    step = max(1, TILE_FLOATS // (limit.shape[1] * points.shape[2]))
    for group, matrix in enumerate(points):
        end = (group + 1) * per_group
        for start in range(group * per_group, end, step):
            rows = slice(start, min(start + step, end))
            products = weight[rows, :, None] * matrix
            yield rows, products.sub_(limit[rows, :, None] * z[rows, None])


def _row(pairs: Pairs, errors: Tensor, certified: Tensor, sampled: Tensor) -> dict[str, float]:
    """The numbers of one layer.

    Args:
        pairs: of its units and points.
        errors: measured [2, filters, points].
        certified: errors [filters, 2].
        sampled: which of them hold because the unit was sampled [filters, 2].
    """
    bound = certified.t()[:, :, None]  # 2, filters, 1
    exceeding = (errors > bound * SLACK) & pairs.sees
    by_chance = sampled.t()[:, :, None] & pairs.sees
    kinds = {
        "within_deterministic": pairs.sees & pairs.within & ~by_chance,
        "within_random": pairs.within & by_chance,
        "beyond": pairs.sees & ~pairs.within,
    }
    return {
        "units": bound.numel(),
        "points": errors.shape[2],
        **quantiles("certified", certified.flatten()),
        **quantiles("measured", errors[pairs.sees]),
        **{f"pairs_{kind}": int(chosen.sum()) for kind, chosen in kinds.items()},
        **{f"exceeding_{kind}": int((exceeding & chosen).sum()) for kind, chosen in kinds.items()},
        "contributions": pairs.contributions,
        "contributions_beyond": pairs.beyond,
    }


def quantiles(name: str, values: Tensor) -> dict[str, float]:
    """Median, 95th percentile and maximum; NaN without values."""
    if not len(values):
        return {f"{name}_{key}": float("nan") for key in ("median", "p95", "max")}
    method: Literal["linear", "higher"] = "linear"
    if not values.isfinite().all():
        method = "higher"  # between a number and infinity there is nothing
    median, p95 = numpy.quantile(values.numpy(), [0.5, 0.95], method=method)
    return {
        f"{name}_median": float(median),
        f"{name}_p95": float(p95),
        f"{name}_max": float(values.max()),
    }
