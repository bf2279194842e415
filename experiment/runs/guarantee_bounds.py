"""How tight the bounds of single units are, on the nets and images of an experiment."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas
import torch

from experiment.certification.bounds import POINTS_OF_SAMPLE, Bounds
from experiment.certification.certificates import Certificates
from experiment.certification.conformal import fewest_images
from experiment.certification.fresh_points import FreshPoints
from experiment.core.files import write_whole
from experiment.core.seeding import Stream
from experiment.data.split import Split
from experiment.nets.running import copy_of
from experiment.nets.state import NetState
from experiment.pruning.method import build_method
from experiment.reporting.logger import Logger
from experiment.runs.tasks import Prune, Task
from experiment.runs.workplace import Workplace

if TYPE_CHECKING:
    from experiment.runs.guarantee import Measurement

BATCH = 32
LEGEND = """certified: 95th percentile of the units of a layer, the median over layers
certified/measured: the ratio of the 95th percentiles, the median over layers
exceeding: share of fresh pairs (of S: of its points) with an error above the bound, of those where
  it is claimed to hold; allowed: the share that may be above it
beyond: share of pairs outside the envelope C s, where nothing is claimed; and of contributions"""


def measure_bounds(
    of_net: list[Task],
    trained: NetState,
    workplace: Workplace,
    measurement: "Measurement",
    level: float,
) -> pandas.DataFrame:
    """The bounds of one net for all methods and keep ratios, with the largest S.

    Calibration images are validation images that are not in S, as many as there are fresh ones if
    there are so many. Repetitions are not repeated here.
    """
    prunings = [task for task in of_net if isinstance(task, Prune) and task.place.repetition == 0]
    first = prunings[0]
    if measurement.sample_sizes:
        first = replace(first, sample_size=max(measurement.sample_sizes))
    stream = first.net_stream.child("guarantee")
    pruner = workplace.pruner(first, trained)
    certificates = Certificates(pruner.analysis)
    sample, calibration, fresh = _points(first, trained, workplace, measurement)
    bounds = Bounds(certificates, sample, calibration, level)
    tables = []
    for task in prunings:
        method = build_method(task.method.name, task.method.options)
        pruned = pruner.prune(method, task.keep_ratio, stream.child("prune", task.place.step))
        columns = {
            "method": task.place.method,
            "net_seed": task.place.net_seed,
            "sample_size": workplace.sample_size(first.network, first.sample_size, first.delta),
            "calibration_images": calibration.num_images,
            "keep_ratio_requested": task.keep_ratio,
            "keep_ratio": pruned.keep_ratio,
        }
        table = bounds.compare(pruned, fresh)
        tables.append(pandas.DataFrame([columns] * len(table)).join(table))
    names = {"network": first.network.name, "dataset": first.dataset.name}
    return pandas.concat(tables, ignore_index=True).assign(**names)


def _points(
    task: Prune, trained: NetState, workplace: Workplace, measurement: "Measurement"
) -> tuple[FreshPoints, FreshPoints, FreshPoints]:
    """Points of S, of calibration images and of test images, those of `guarantee.csv`."""
    net = copy_of(workplace.net(task.network))
    trained.load_into(net)
    stream = task.net_stream.child("guarantee")
    sample, rest = workplace.sample_and_rest(task)
    test = workplace.data.test
    chosen = stream.child("images").permutation(len(test))[: measurement.num_fresh]
    calibration = rest.subset(torch.arange(min(len(rest), measurement.num_fresh)))

    def points_of(images: Split, per_sample: int, own: Stream) -> FreshPoints:
        layers = workplace.layers(task.network).prunable
        return FreshPoints(net, images.batches(BATCH), layers, per_sample, own)

    per_image = measurement.points_per_sample
    return (
        points_of(sample, POINTS_OF_SAMPLE, stream.child("points of S")),
        points_of(calibration, per_image, stream.child("points of calibration")),
        points_of(test.subset(chosen), per_image, stream.child("points")),
    )


def write_bounds(tables: list[pandas.DataFrame], guarantee: Path, logger: Logger) -> None:
    """Write the tables of all nets beside that of the certificates, and show a summary."""
    table = pandas.concat(tables, ignore_index=True)
    path = guarantee.with_name(guarantee.name.replace("guarantee", "bounds", 1))
    write_whole(path, table.to_csv(index=False))
    for note in notes(table):
        logger.warn(note)
    logger.say(f"bounds\n{LEGEND}\n{summary(table).to_string(index=False)}\ntable: {path}")


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
