"""How tight the bounds of single units are, on the nets and images of an experiment."""

import math

import pandas
import torch

from experiment.certification.bounds import POINTS_OF_SAMPLE, Bounds
from experiment.certification.certificates import Certificates
from experiment.certification.conformal import fewest_images
from experiment.reporting.logger import Logger
from experiment.runs.guarantees.net_under_test import NetUnderTest

NAME = "bounds"
LEGEND = """certified: 95th percentile of the units of a layer, the median over layers
certified/measured: the ratio of the 95th percentiles, the median over layers
exceeding: share of fresh pairs (of S: of its points) with an error above the bound, of those where
  it is claimed to hold; allowed: the share that may be above it
beyond: share of pairs outside the envelope C s, where nothing is claimed; and of contributions"""


def measure(net: NetUnderTest, logger: Logger) -> pandas.DataFrame:
    """The bounds of one net for all methods and keep ratios, if they are asked for.

    Calibration images are validation images that are not in S, as many as there are fresh ones if
    there are so many.
    """
    if not net.measurement.bounds:
        return pandas.DataFrame()
    pruner = net.pruner()
    sample_images, rest = net.sample_and_rest()
    rest = rest.subset(torch.arange(min(len(rest), net.measurement.num_fresh)))
    sample = net.points_of(sample_images, POINTS_OF_SAMPLE, "points of S")
    calibration = net.points_of(rest, net.measurement.points_per_sample, "points of calibration")
    certificates = Certificates(pruner.analysis)
    bounds = Bounds(certificates, sample, calibration, net.measurement.share)
    tables = []
    for task, pruned in net.each_pruned(pruner):
        columns = {
            "method": task.place.method,
            "net_seed": task.place.net_seed,
            "sample_size": net.workplace.sample_size(net.first),
            "calibration_images": calibration.num_images,
            "keep_ratio_requested": pruned.keep_ratio_requested,
            "keep_ratio": pruned.keep_ratio,
        }
        table = bounds.compare(pruned, net.fresh_points)
        tables.append(pandas.DataFrame([columns] * len(table)).join(table))
    return pandas.concat(tables, ignore_index=True).assign(**net.names)


def show(rows: pandas.DataFrame, logger: Logger) -> None:
    """Show a summary, and which bounds are infinite."""
    for note in notes(rows):
        logger.warn(note)
    logger.say(f"bounds\n{LEGEND}\n{summary(rows).to_string(index=False)}")


def notes(table: pandas.DataFrame) -> list[str]:
    """Which bounds are infinite because there are too few calibration images."""
    infinite = table[table["subject"].ne("point") & table["certified_max"].eq(math.inf)]
    found = []
    for bound, rows in infinite.groupby("bound", sort=False):
        level = rows["level"].iloc[0]
        needed = fewest_images(level, confident="confident" in str(bound))
        found.append(
            f"{bound}: infinite, since {rows['calibration_images'].min()} calibration images are "
            f"too few: a share of {level:g} takes {needed}"
        )
    return found


def summary(table: pandas.DataFrame) -> pandas.DataFrame:
    """One row for each method, keep ratio and bound, over all layers."""
    groups = table.groupby(["method", "keep_ratio_requested", "bound"], sort=False)
    rows = []
    for (method, ratio, bound), layers in groups:
        measured = layers[layers["measured_p95"] > 0]
        width = (measured["certified_p95"] / measured["measured_p95"]).median()
        total = layers.filter(regex="^(pairs|exceeding|contributions)").sum()
        rows.append(
            {
                "method": method,
                "kept": f"{ratio:.3g}",
                "bound": bound,
                "certified": f"{layers['certified_p95'].median():.3g}",
                "certified/measured": f"{width:.3g}" if len(measured) else "-",
                "exceeding": _share(total["exceeding"], total["pairs"]),
                "allowed": f"{layers['level'].iloc[0]:.3g}",
                "beyond": _share(total["pairs_beyond"], total["pairs"] + total["pairs_beyond"]),
                "contributions": _share(total["contributions_beyond"], total["contributions"]),
            }
        )
    return pandas.DataFrame(rows)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3%}" if whole else "-"
