"""All bounds of the relative errors of a pruned net's units, and what they are worth on fresh data.

Each is by layer a certified relative error [filters, 2], as the paper's certificate is, and says of
what it speaks, for which share of that it may fail, and within which envelope it holds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import pandas
import torch
from torch import Tensor

from experiment.certification.binomial import binomial_bound
from experiment.certification.calibrated_constant import calibrated_constants, capacities
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
        self.constants = calibrated_constants(certificates, calibration, level)

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
        for constant in CONSTANTS:
            yield self._worst_case(pruned, constant)
        yield self._calibrated_constant(pruned)
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
        limits = {name: constant * SLACK for name in self.certificates.sensitivities}
        return Bound(
            name=f"worst case, C = {constant:g}",
            errors=self._worst_cases(pruned, limits),
            level=0,
            subject="point",
            constant=constant,
        )

    def _calibrated_constant(self, pruned: Pruned) -> Bound:
        limits = {
            name: SLACK * constants.t().reshape(-1, 1) for name, constants in self.constants.items()
        }
        return Bound(
            name="worst case, C calibrated",
            errors=self._worst_cases(pruned, limits),
            level=self.level,
            subject="image",
        )

    def _worst_cases(
        self, pruned: Pruned, constants: dict[str, Tensor | float]
    ) -> dict[str, Tensor]:
        """By layer, what is possible within the envelopes with these constants of units."""
        result = {}
        for name, constant in constants.items():
            weight = self.certificates.weight(name).cpu().double().flatten(1)
            after = self.calibration.layers[name].weight(pruned.net).cpu().double().flatten(1)
            sensitivity = self.certificates.sensitivities[name].cpu().double().flatten(1)
            limits = capacities(sensitivity.repeat(2, 1), constant)
            own = torch.cat([weight > 0, weight < 0])
            factors = factors_of(weight, after).repeat(2, 1)
            errors = worst_case(factors, torch.where(own, limits, 0))
            result[name] = errors.reshape(2, -1).t()
        return result

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
        for title, errors, subject in (
            ("unit", by_unit, "image"),
            ("layer", by_layer, "layer"),
            ("unit, confident", confident, "image"),
        ):
            yield Bound(
                name=f"conformal, {title}", errors=errors, level=self.level, subject=subject
            )


class Comparison:
    """Bounds against the errors at some points: fresh ones, or those of S."""

    def __init__(self, certificates: Certificates, points: FreshPoints):
        self.certificates = certificates
        self.points = points
        self._ratios: dict[str, Tensor] = {}

    def table(self, bound: Bound, pruned: Pruned) -> pandas.DataFrame:
        """One row per layer, with these columns.

        - `layer`, `bound`, `subject`, `of_sample`, `constant`, `level`: as in `Bound`.
        - `certified_*` over units and `measured_*` over pairs of a unit, or the layer, and a point
          or image: median, 95th percentile and maximum of the relative error.
        - `pairs`, the number of these pairs, without those beyond the envelope, and `exceeding`,
          how many of them have an error above the bound.
        - `pairs_beyond` and `exceeding_beyond`: the same beyond the envelope, where nothing is
          claimed.
        """
        claim = {
            "bound": bound.name,
            "subject": bound.subject,
            "of_sample": bound.of_sample,
            "constant": bound.constant,
            "level": bound.level,
        }
        names = bound.errors.keys() & set(self._names(bound.subject))
        return pandas.DataFrame(
            {"layer": name, **claim, **self._row(bound, pruned, name)}
            for name in self.points.points
            if name in names
        )

    def _names(self, subject: Subject) -> Iterable[str]:
        return self.points.points if subject == "point" else self.points.layers_with_images

    def _ratio(self, name: str) -> Tensor:
        if name not in self._ratios:
            self._ratios[name] = self.points.largest_ratio(self.certificates, name)
        return self._ratios[name]

    @torch.no_grad()
    def _row(self, bound: Bound, pruned: Pruned, name: str) -> dict[str, float]:
        """The numbers of one layer."""
        errors = self.points.errors(self.certificates, pruned, name)  # 2, filters, points
        ratio = self._ratio(name)
        certified = bound.errors[name].t()[:, :, None]
        if bound.subject != "point":
            errors = largest_by_image(errors, self.points.images[name])
            ratio = largest_by_image(ratio, self.points.images[name])
        if bound.subject == "layer":
            errors, ratio, certified = (
                values.amax((0, 1), keepdim=True) for values in (errors, ratio, certified)
            )
        sees = ratio > 0
        beyond = sees & (ratio > SLACK * (bound.constant or torch.inf))
        exceeding = errors > certified * SLACK
        return {
            **quantiles("certified", certified.flatten()),
            **quantiles("measured", errors[sees]),
            "pairs": int((sees & ~beyond).sum()),
            "exceeding": int((sees & ~beyond & exceeding).sum()),
            "pairs_beyond": int(beyond.sum()),
            "exceeding_beyond": int((beyond & exceeding).sum()),
        }
