"""Certificates compared with what happens on fresh data."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy
import pandas
import torch
from torch import Tensor, nn

from experiment.certification.certificates import Certificates
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.nets.layers import PrunableLayer, watch
from experiment.nets.products import Product
from experiment.pruning.pruned import Pruned
from experiment.sensitivity.constants import C
from experiment.sensitivity.empirical import EPSILON
from experiment.sensitivity.points import nonnegative_parts, some_points

SLACK = 1 + 1e-9  # for rounding in double precision
TILE_FLOATS = 2**24  # of contributions computed at a time


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
        chosen: dict[str, list[Tensor]] = {name: [] for name in layers}
        generators = {name: stream.child(name).generator() for name in layers}

        def keep_some(name: str, product: Product, num_samples: int) -> None:
            shape = layers[name].shape
            if (product.rows, product.columns) != (slice(0, shape[0]), slice(0, shape[1:].numel())):
                return  # its units see these points in a part of the weight only
            for part in nonnegative_parts(product.inputs.float()):
                points = some_points(product, part, num_samples, per_sample, generators[name])
                chosen[name].append(points.cpu())

        watch(net, layers, fresh, keep_some)
        chosen = {name: pieces for name, pieces in chosen.items() if pieces}
        if not chosen:
            raise UserError("fresh is empty, or no layer runs on it with the whole of its weight")
        self.layers = layers
        self.points = {
            name: torch.cat(pieces, dim=2).double() for name, pieces in chosen.items()
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
