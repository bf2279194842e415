"""All bounds of the relative errors of a pruned net's units, and what they are worth on fresh data.

Each is by layer a certified relative error [filters, 2], as the paper's certificate is, and says of
what it speaks, for which share of that it may fail, and within which envelope it holds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas
import torch
from torch import Tensor

from experiment.certification.binomial import binomial_bound
from experiment.certification.calibrated_excess import ENVELOPE, calibrated_excess
from experiment.certification.certificates import Certificates
from experiment.certification.conformal import (
    confident_quantile,
    conformal_quantile,
    largest_by_image,
)
from experiment.certification.envelope import factors_of, worst_case
from experiment.certification.fresh_points import SLACK, FreshPoints, quantiles
from experiment.certification.pointwise import pointwise_bound
from experiment.pruning.pruned import Pruned
from experiment.sensitivity.constants import C

CONSTANTS = (C, 1.5, 1.0)  # the paper's, and smaller ones to see what they gain and cost

ROUNDING = 1 + 1e-6  # of measured errors: the weights of the pruned net are single precision
POINTS_OF_SAMPLE = 1  # of each image of S: the pointwise bound takes a while at each point

Subject = Literal["point", "image", "layer"]
"""What a bound speaks of: the error of a unit at a point; the largest of a unit at the points of an
image; or the largest of all units of a layer at the points of an image."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Certified relative errors of units, and what is claimed of them."""

    name: str
    errors: dict[str, Tensor]  # by layer [filters, 2]
    level: float  # share of the pairs of a unit (or layer) and a point (or image) that may exceed
    subject: Subject
    constant: float | None = None  # C, where only points within C s count
    of_sample: bool = False  # whether it speaks of points of S, and not of new ones


class Bounds:
    """The bounds of one net.

    `sample` are points of S, `calibration` those of images that are not in S and had no part in
    making the net. Bounds by calibration fail for at most a share `level` of new images; those
    that need a confidence have one of 1 - level.
    """

    def __init__(
        self,
        certificates: Certificates,
        sample: FreshPoints,
        calibration: FreshPoints,
        level: float,
    ):
        self.certificates = certificates
        self.sample = sample
        self.calibration = calibration
        self.level = level
        self.excess = calibrated_excess(certificates, calibration, level)

    def compare(self, pruned: Pruned, fresh: FreshPoints) -> pandas.DataFrame:
        """The table of `Comparison`, on fresh points; for what speaks of points of S, on these."""
        found = list(self.of(pruned))
        tables = [
            Comparison(self.certificates, points).table(
                [bound for bound in found if bound.of_sample == (points is self.sample)], pruned
            )
            for points in (fresh, self.sample)
        ]
        return pandas.concat(tables, ignore_index=True)

    @torch.no_grad()
    def of(self, pruned: Pruned) -> Iterator[Bound]:
        """All of them; those of sampling only for nets about which the paper certifies anything."""
        delta = self.certificates.analysis.delta
        if self.certificates.cover(pruned):
            yield Bound(
                name="Bernstein (paper)",
                errors=self.certificates.of(pruned)[0],
                level=delta,
                subject="point",
                constant=C,
            )
            for constant in CONSTANTS:
                yield self._binomial(pruned, constant, delta)
            yield self._binomial(pruned, C, self.level)
            yield self._pointwise(pruned, delta)
            yield self._pointwise(pruned, self.level)
        for constant in CONSTANTS:
            yield self._worst_case(pruned, constant)
        yield self._calibrated(pruned)
        yield from self._conformal(pruned)

    def _binomial(self, pruned: Pruned, constant: float, failure: float) -> Bound:
        return Bound(
            name=f"binomial, C = {constant:g}, failure {failure:g}",
            errors=binomial_bound(self.certificates, pruned, constant, failure),
            level=failure,
            subject="point",
            constant=constant,
        )

    def _pointwise(self, pruned: Pruned, failure: float) -> Bound:
        """The largest bound over the points of S, for all of which it holds at once."""
        return Bound(
            name=f"pointwise on S, failure {failure:g}",
            errors=pointwise_bound(self.certificates, pruned, self.sample, failure),
            level=failure,
            subject="point",
            of_sample=True,
        )

    def _worst_case(self, pruned: Pruned, constant: float) -> Bound:
        names = self.certificates.sensitivities
        return Bound(
            name=f"worst case, C = {constant:g}",
            errors={name: self._largest(pruned, name, constant) for name in names},
            level=0,
            subject="point",
            constant=constant,
        )

    def _calibrated(self, pruned: Pruned) -> Bound:
        return Bound(
            name="worst case, calibrated",
            errors={
                name: self._largest(pruned, name, ENVELOPE, excess)
                for name, excess in self.excess.items()
            },
            level=self.level,
            subject="image",
        )

    def _largest(
        self, pruned: Pruned, name: str, constant: float, excess: Tensor | None = None
    ) -> Tensor:
        """The worst case of a layer's units [filters, 2]; `excess` is [filters, 2]."""
        weight = self.certificates.weight(name).cpu().double().flatten(1)
        after = self.calibration.layers[name].weight(pruned.net).cpu().double().flatten(1)
        sensitivity = self.certificates.sensitivities[name].cpu().double().flatten(1)
        errors = worst_case(
            factors_of(weight, after).repeat(2, 1),
            torch.cat([weight > 0, weight < 0]),
            (constant * SLACK * sensitivity).repeat(2, 1),
            None if excess is None else excess.t().flatten(),
        )
        return errors.reshape(2, -1).t()

    def _conformal(self, pruned: Pruned) -> Iterator[Bound]:
        scores = {
            name: largest_by_image(
                self.calibration.errors(self.certificates, pruned, name),
                self.calibration.images[name],
            )
            for name in self.calibration.layers_with_images
        }
        by_unit = {name: conformal_quantile(own, self.level).t() for name, own in scores.items()}
        by_layer = {
            name: conformal_quantile(own.amax((0, 1)), self.level).expand_as(by_unit[name])
            for name, own in scores.items()
        }
        confident = {
            name: confident_quantile(own, self.level, 1 - self.level).t()
            for name, own in scores.items()
        }
        for title, errors in (("unit", by_unit), ("unit, confident", confident)):
            yield Bound(
                name=f"conformal, {title}", errors=errors, level=self.level, subject="image"
            )
        yield Bound(name="conformal, layer", errors=by_layer, level=self.level, subject="layer")


class Comparison:
    """Bounds against the errors at some points: fresh ones, or those of S."""

    def __init__(self, certificates: Certificates, points: FreshPoints):
        self.certificates = certificates
        self.points = points

    @torch.no_grad()
    def table(self, bounds: Sequence[Bound], pruned: Pruned) -> pandas.DataFrame:
        """One row per layer and bound, with these columns.

        - `layer`, `bound`, `subject`, `of_sample`, `constant`, `level`: as in `Bound`.
        - `certified_*` over units and `measured_*` over pairs of a unit, or the layer, and a point
          or image: median, 95th percentile and maximum of the relative error.
        - `pairs`, the number of these pairs, without those beyond the envelope, and `exceeding`,
          how many of them have an error above the bound.
        - `pairs_beyond` and `exceeding_beyond`: the same beyond the envelope, where nothing is
          claimed.
        - `contributions`, the number of those of single weights at these points, and
          `contributions_beyond`, of those above C s; empty without a constant.
        """
        rows = []
        for name in self.points.points:
            errors = self.points.errors(self.certificates, pruned, name)
            by_image = None
            if name in self.points.layers_with_images:
                by_image = largest_by_image(errors, self.points.images[name])
            for bound in bounds:
                measured = errors if bound.subject == "point" else by_image
                if name in bound.errors and measured is not None:
                    rows.append(
                        {"layer": name, **_claim(bound), **self._row(bound, measured, name)}
                    )
        return pandas.DataFrame(rows)

    def _row(self, bound: Bound, errors: Tensor, name: str) -> dict[str, float]:
        """The numbers of one layer and bound, from errors [2, filters, points or images]."""
        pairs = self.points.pairs(self.certificates, name, bound.constant or C)
        sees = pairs.sees
        certified = bound.errors[name].t()[:, :, None]
        if bound.subject != "point":
            sees = largest_by_image(sees.byte(), self.points.images[name]) > 0
        if bound.subject == "layer":
            certified, errors = certified.amax((0, 1)), errors.amax((0, 1))
            sees = sees.any(0).any(0)
        inside = sees if bound.constant is None else sees & pairs.within
        exceeding = errors > certified * ROUNDING
        return {
            **quantiles("certified", certified.flatten()),
            **quantiles("measured", errors[sees]),
            "pairs": int(inside.sum()),
            "exceeding": int((inside & exceeding).sum()),
            "pairs_beyond": int((sees & ~inside).sum()),
            "exceeding_beyond": int((sees & ~inside & exceeding).sum()),
            "contributions": pairs.contributions if bound.constant else float("nan"),
            "contributions_beyond": pairs.beyond if bound.constant else float("nan"),
        }


def _claim(bound: Bound) -> dict[str, Any]:
    return {
        "bound": bound.name,
        "subject": bound.subject,
        "of_sample": bound.of_sample,
        "constant": bound.constant,
        "level": bound.level,
    }
