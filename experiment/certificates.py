"""What SiPP guarantees about a pruned net, and a check of it on fresh data.

The guarantee is about units: the positive and negative weights of a neuron or filter, fed with the activations of
the unpruned net. A unit whose weights are kept as they are has a relative error of at most C times the dropped
(max-reduced) sensitivity on every point whose contributions are all within C times the sensitivities; a sampled unit
has one of at most e(N), but for a failure probability (SiPP, arXiv:1910.05422, Section 5).
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy
import pandas
import torch
from torch import Tensor, nn

from experiment.allocation.units import certified_random
from experiment.errors import UserError
from experiment.masks import parameter_name, prunable_layers
from experiment.methods.method import Method
from experiment.methods.sipp_rand import sensitivity_units
from experiment.nets import call, device_of, evaluating, moved, split_batch, watching_inputs
from experiment.pruner import Pruned, Pruner, named_method
from experiment.seeding import Stream
from experiment.sensitivity.empirical import EPSILON
from experiment.sensitivity.points import nonnegative_parts, tiles
from experiment.sensitivity.sample_size import C
from experiment.statistics import Statistics

SLACK = 1 + 1e-9  # for rounding in double precision
TILE_FLOATS = 2**24  # of contributions computed at a time


def certify(net: nn.Module, batches: Iterable[Any], fresh: Iterable[Any], *, method: str | dict | Method = "SiPP",
            keep_ratio: float, loss: Callable | None = None, seed: int = 0, delta: float = 1e-16,
            points_per_sample: int = 8) -> pandas.DataFrame:
    """Prune a copy of a net and compare what is certified with what happens on fresh data.

    Args:
        net, batches, method, keep_ratio, loss, seed, delta: as for `experiment.prune`.
        fresh: batches that are not in S.
        points_per_sample: how many points of each fresh sample and layer are looked at, drawn by `seed`.

    Returns:
        One row a layer, with the columns that `FreshPoints.compare` describes.
    """
    pruner = Pruner(net, batches, loss=loss, delta=delta)
    pruned = pruner.prune(named_method(method), keep_ratio, Stream(seed).child("prune"))
    points = FreshPoints(net, fresh, pruner.statistics.layers, points_per_sample, Stream(seed).child("fresh points"))
    return points.compare(Certificates(pruner.statistics), pruned)


class Certificates:
    """The certified relative errors of units, from the max-reduced sensitivities of a sample."""

    def __init__(self, statistics: Statistics):
        self.statistics = statistics
        self.units = sensitivity_units(statistics)
        self.sensitivities = statistics.sensitivities("max")
        self.layers = prunable_layers(statistics.net)

    def of(self, pruned: Pruned) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By layer, the certified relative errors [filters, 2] and which units they hold for by sampling.

        Raises UserError for weights that were reweighted in a way about which nothing is certified.
        """
        if pruned.selection.factors is not None and pruned.selection.draws is None:
            raise UserError("nothing is certified about weights sampled otherwise than by their sensitivities")
        masks = {name: pruned.masks[parameter_name(name)] for name in self.sensitivities}
        kept = self.statistics.flat.join(masks).cpu().numpy()
        errors = C * self.units.sum(numpy.where(kept, 0, self.units.importance))
        sampled = numpy.zeros(self.units.number, dtype=bool)
        if pruned.selection.draws is not None:
            # A unit that lost all its weights, as a dead filter's do, has no error by chance: it is 1.
            sampled = numpy.isfinite(pruned.selection.draws) & (self.units.sum(kept) > 0)
            draws = numpy.where(sampled, pruned.selection.draws, 0)
            random = certified_random(self.units.total, draws, self.statistics.delta)
            errors = numpy.where(sampled, random, errors)
        return self._by_layer(errors), self._by_layer(sampled)

    def _by_layer(self, values: numpy.ndarray) -> dict[str, Tensor]:
        filters = [layer.filters for layer in self.units.layers]
        pieces = torch.from_numpy(values).reshape(-1, 2).split(filters)
        return dict(zip(self.sensitivities, pieces))


@dataclass(frozen=True)
class Pairs:
    """(point, unit) pairs of a layer in which the unit sees something, tensors [2, filters, points]."""

    sees: Tensor
    within: Tensor  # no contribution is larger than C times its sensitivity
    contributions: int  # of single weights of the units that see something
    beyond: int  # of these, larger than C times the sensitivity


class FreshPoints:
    """A seeded choice of points that the layers of the unpruned net see on fresh data."""

    def __init__(self, net: nn.Module, fresh: Iterable[Any], layers: list[str], per_sample: int, stream: Stream):
        self.net = net
        chosen: dict[str, list[Tensor]] = {name: [] for name in layers}
        generators = {name: stream.child(name).generator() for name in layers}

        def keep_some(name: str, layer: nn.Module, inputs: Tensor) -> None:
            if isinstance(layer, nn.Linear):  # its points: tokens, or a single one a sample
                inputs = inputs.flatten(1, -2).mT[:, None] if inputs.dim() > 2 else inputs[:, None, :, None]
            for part in nonnegative_parts(inputs.float()):
                chunks = [[part]] if isinstance(layer, nn.Linear) else tiles(layer, part)
                for points in itertools.chain.from_iterable(chunks):  # samples, groups, K, points
                    order = torch.rand(len(points), points.shape[3], generator=generators[name]).argsort(1)
                    index = order[:, None, None, :per_sample].expand(-1, *points.shape[1:3], -1).to(points.device)
                    chosen[name].append(points.gather(3, index).permute(1, 2, 0, 3).flatten(2).cpu())

        modules = prunable_layers(net)
        with watching_inputs({name: modules[name] for name in layers}, keep_some), evaluating(net), torch.no_grad():
            for batch in fresh:
                call(net, moved(split_batch(batch)[0], device_of(net)))
        self.points = {name: torch.cat(pieces, dim=2).double() for name, pieces in chosen.items()}  # groups, K, points
        self._pairs: dict[tuple[int, str], Pairs] = {}

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
        layers = prunable_layers(pruned.net)
        rows = []
        for name in self.points:
            pairs = self._pairs_of(certificates, name)
            errors = self._errors(certificates.layers[name], layers[name], name)
            bound = certified[name].t()[:, :, None]  # 2, filters, 1
            exceeding = (errors > bound * SLACK) & pairs.sees
            by_chance = sampled[name].t()[:, :, None] & pairs.sees
            kinds = {"within_deterministic": pairs.sees & pairs.within & ~by_chance,
                     "within_random": pairs.within & by_chance, "beyond": pairs.sees & ~pairs.within}
            rows.append({
                "layer": name, "units": bound.numel(), "points": errors.shape[2],
                **_quantiles("certified", certified[name].flatten()), **_quantiles("measured", errors[pairs.sees]),
                **{f"pairs_{kind}": int(where.sum()) for kind, where in kinds.items()},
                **{f"exceeding_{kind}": int((exceeding & where).sum()) for kind, where in kinds.items()},
                "contributions": pairs.contributions, "contributions_beyond": pairs.beyond})
        return pandas.DataFrame(rows)

    def _errors(self, layer: nn.Module, pruned_layer: nn.Module, name: str) -> Tensor:
        """|z_hat / z - 1| of every unit and point, [2, filters, points]; 0 where nothing of the unit changed."""
        weight, difference = layer.weight.double().cpu(), (layer.weight - pruned_layer.weight).double().cpu()
        result = []
        for sign in (1, -1):
            own = (sign * weight) > 0
            z = self._product(name, torch.where(own, weight.abs(), 0))
            change = self._product(name, torch.where(own, difference.abs() * torch.sign(difference * weight), 0))
            result.append(torch.where(z > EPSILON, change.abs() / z, 0))
        return torch.stack(result)

    def _product(self, name: str, weight: Tensor) -> Tensor:
        """[filters, points]"""
        points = self.points[name]
        return (weight.flatten(1).unflatten(0, (len(points), -1)) @ points).flatten(0, 1)

    def _pairs_of(self, certificates: Certificates, name: str) -> Pairs:
        key = (id(certificates), name)
        if key not in self._pairs:
            self._pairs[key] = self._split(certificates.layers[name], certificates.sensitivities[name], name)
        return self._pairs[key]

    def _split(self, layer: nn.Module, sensitivity: Tensor, name: str) -> Pairs:
        """Which pairs keep to the sensitivities, and how many contributions do not."""
        weight, points = layer.weight.double().cpu(), self.points[name]
        limit = (C * SLACK * sensitivity.double().cpu()).flatten(1)
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
    return {f"{name}_median": float(median), f"{name}_p95": float(p95), f"{name}_max": float(values.max())}
