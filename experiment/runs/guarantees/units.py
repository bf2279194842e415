"""The paper's certificates of single units, compared with what happens on test images."""

import math
from pathlib import Path

import pandas

from experiment.certification.certificates import Certificates
from experiment.data.loading import allowed_sample_size
from experiment.reporting.logger import Logger
from experiment.reporting.plots.certificates import certificate_vs_measurement
from experiment.runs.guarantees.net_under_test import NetUnderTest

NAME = "guarantee"
LEGEND = """certified, measured: relative error of units: 95th percentiles of layers, their median
kept weights, sampled: pairs of a fresh point and a unit whose error exceeds the certificate, out of
  all pairs whose contributions are within C times the sensitivities, for units whose weights were
  kept as they are or sampled
beyond: the same for pairs with a contribution above C times its sensitivity"""


def measure(net: NetUnderTest, logger: Logger) -> pandas.DataFrame:
    """The table of one net: all sizes of S, methods and keep ratios; empty if none is certified."""
    found = []
    left_out: dict[str, None] = {}
    for size in sample_sizes(net):
        pruner = net.pruner(size)
        certificates = Certificates(pruner.analysis)
        for task, pruned in net.each_pruned(pruner):
            if not certificates.cover(pruned):
                left_out[task.place.method] = None
                continue
            columns = {
                "method": task.place.method,
                "net_seed": task.place.net_seed,
                "sample_size": size,
                "keep_ratio_requested": pruned.keep_ratio_requested,
                "keep_ratio": pruned.keep_ratio,
            }
            table = net.fresh_points.compare(certificates, pruned)
            found.append(pandas.concat([pandas.DataFrame([columns] * len(table)), table], axis=1))
    if left_out:
        logger.say(
            f"nothing is certified about the units of {', '.join(left_out)}: their weights were "
            f"not sampled by their sensitivities"
        )
    if not found:
        return pandas.DataFrame()
    rows = pandas.concat(found, ignore_index=True).assign(**net.names)
    logger.say(f"net {net.first.place.net_seed}\n{LEGEND}\n{summary(rows).to_string(index=False)}")
    return rows


def draw(rows: pandas.DataFrame, path: Path) -> Path:
    """Draw those of the largest S; see `certificate_vs_measurement`."""
    return certificate_vs_measurement(rows[rows["sample_size"] == rows["sample_size"].max()], path)


def hold(rows: pandas.DataFrame, delta: float) -> bool:
    """Whether all certificates that must hold do: of sampled units, a share delta need not.

    A share of less than a pair allows none.
    """
    if not len(rows):
        return True
    allowed = math.floor(delta * rows["pairs_within_random"].sum())
    return bool(
        rows["exceeding_within_deterministic"].sum() == 0
        and rows["exceeding_within_random"].sum() <= allowed
    )


def sample_sizes(net: NetUnderTest) -> list[int]:
    """The sizes asked for, as far as the images go, or a sixteenth, a quarter and all of S."""
    task = net.prunings[0]
    full = net.workplace.sample_size(task)
    asked = net.measurement.sample_sizes or (max(1, full // 16), max(1, full // 4), full)
    num_validation = len(net.workplace.data_of(task).validation)
    return sorted({allowed_sample_size(size, num_validation) for size in asked})


def summary(table: pandas.DataFrame) -> pandas.DataFrame:
    """One row for each method, size of S and keep ratio, over all layers."""
    groups = table.groupby(["method", "sample_size", "keep_ratio_requested"], sort=False)
    rows = []
    for (method, size, ratio), layers in groups:
        total = layers.filter(regex="^(pairs|exceeding|contributions)").sum()
        exceeding = {
            title: f"{total[f'exceeding_{kind}']:.0f}/{total[f'pairs_{kind}']:.0f}"
            for title, kind in (
                ("kept weights", "within_deterministic"),
                ("sampled", "within_random"),
                ("beyond", "beyond"),
            )
        }
        share_beyond = total["contributions_beyond"] / total["contributions"]
        rows.append(
            {
                "method": method,
                "|S|": size,
                "kept": f"{ratio:.3g}",
                "certified": f"{layers['certified_p95'].median():.3g}",
                "measured": f"{layers['measured_p95'].median():.3g}",
                **exceeding,
                "contributions beyond": f"{share_beyond:.3%}",
            }
        )
    return pandas.DataFrame(rows)
