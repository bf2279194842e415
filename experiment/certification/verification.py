"""The guarantees of an experiment's methods, measured for its own nets, keep ratios and several sizes of S."""

import argparse
import math

import pandas
import torch

from experiment.certification.certificates import Certificates
from experiment.certification.fresh_points import FreshPoints
from experiment.config.schedules import steps
from experiment.config.schema import load_config
from experiment.core.devices import choose_device
from experiment.core.errors import UserError
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.data.splits import largest_sample, load_data
from experiment.main import results_directory
from experiment.reporting import plots
from experiment.reporting.logger import Logger
from experiment.runs.execution import Experiment, cells
from experiment.runs.store import write_whole
from experiment.training.trainer import DivergedError

LEGEND = """certified, measured: relative error of units, the 95th percentile of a layer, the median over layers
kept weights, sampled: pairs of a fresh point and a unit with an error above the certificate / all such pairs whose
  contributions are within C times the sensitivities, for units whose weights were kept as they are or sampled
beyond: the same for pairs with a contribution above C times its sensitivity"""


def verify(options: argparse.Namespace) -> int:
    """Measure, write the table and its plot, and print a summary; 1 if a certificate that must hold does not."""
    config, device = load_config(options.config, options.overrides), choose_device(options.device)
    check(options, config.pruning.schedule)
    data = load_data(config.dataset, Stream(config.seed), torch.device(device))
    directory = results_directory(options.config, config.run_id(), options.results)
    logger = Logger(directory, config, device)
    if data.note:
        logger.say(data.note)
    experiment = Experiment(config, data, logger, torch.device(device))
    tables = []
    for net_seed in range(config.num_nets):
        tables.append(measure_net(experiment, net_seed, options))
        logger.say(f"net {net_seed}\n{LEGEND}\n{summary(tables[-1]).to_string(index=False)}")
    rows, name = pandas.concat(tables, ignore_index=True), file_name(options)
    write_whole(directory / f"{name}.csv", rows.to_csv(index=False))
    largest = rows[rows["sample_size"] == rows["sample_size"].max()]
    logger.say(f"table: {directory / name}.csv")
    logger.say(f"plot: {plots.certificate_vs_measurement(largest, directory / 'plots' / name)}")
    allowed = math.ceil(config.pruning.delta * rows["pairs_within_random"].sum())
    return int(
        rows["exceeding_within_deterministic"].sum() > 0
        or rows["exceeding_within_random"].sum() > allowed
    )


def check(options: argparse.Namespace, schedule: str) -> None:
    """Raises UserError for what cannot be measured."""
    if min(options.fresh, options.points, *(options.sample_sizes or [1])) < 1:
        raise UserError("--fresh, --points and --sample-sizes must be at least 1")
    if schedule == "train":
        raise UserError(
            f"{options.config}: pruning.schedule: train prunes nothing that a certificate could be about"
        )


def file_name(options: argparse.Namespace) -> str:
    """`guarantee`, or a name that tells other than the default options, so that no table overwrites another."""
    if (options.fresh, options.points, options.sample_sizes) == (200, 8, None):
        return "guarantee"
    sizes = "".join(f"-{size}" for size in options.sample_sizes or [])
    return f"guarantee-{options.fresh}x{options.points}{sizes}"


def measure_net(
    experiment: Experiment, net_seed: int, options: argparse.Namespace
) -> pandas.DataFrame:
    """The table of one net: all sizes of S, methods and keep ratios, every ratio pruned from the trained net.

    Repetitions are not repeated here. Raises UserError if the net cannot be trained.
    """
    try:
        trained, test = experiment.train(net_seed), experiment.data.test
    except DivergedError as error:
        raise UserError(f"net {net_seed}: {error}") from None
    stream = experiment.stream.child("net", net_seed, "guarantee")
    images = test.subset(stream.child("images").permutation(len(test))[: options.fresh])
    fresh, tables = None, []
    for size in sample_sizes(experiment, options.sample_sizes):
        pruner = experiment.pruner(net_seed, 0, trained, size)
        analysis = pruner.analysis
        fresh = fresh or FreshPoints(
            analysis.net,
            images.batches(32),
            analysis.layers,
            options.points,
            stream.child("points"),
        )
        certificates = Certificates(analysis)
        for cell in cells(experiment.config, net_seed)[: len(experiment.config.pruning.methods)]:
            method = METHODS.build(cell.method.name, cell.method.options)
            for step in steps(experiment.config):
                pruned = pruner.prune(method, step.keep_ratio, stream.child("prune", step.index))
                if not certificates.cover(pruned):
                    experiment.logger.say(
                        f"{cell.label} kept {step.keep_ratio:.3g}: nothing is certified about it"
                    )
                else:
                    where = {
                        "method": cell.label,
                        "net_seed": net_seed,
                        "sample_size": size,
                        "keep_ratio_requested": step.keep_ratio,
                        "keep_ratio": pruned.keep_ratio,
                    }
                    table = fresh.compare(certificates, pruned)
                    tables.append(
                        pandas.concat([pandas.DataFrame([where] * len(table)), table], axis=1)
                    )
    if not tables:
        raise UserError("nothing is certified about any of the experiment's methods")
    names = {
        "network": experiment.config.network.name,
        "dataset": experiment.config.dataset.name,
    }
    return pandas.concat(tables, ignore_index=True).assign(**names)


def sample_sizes(experiment: Experiment, asked: list[int] | None) -> list[int]:
    """The sizes asked for, at most half of the validation split, or a sixteenth, a quarter and all of S."""
    full, most = experiment.sample_size, largest_sample(len(experiment.data.validation))
    return sorted(
        {min(size, most) for size in asked or (max(1, full // 16), max(1, full // 4), full)}
    )


def summary(table: pandas.DataFrame) -> pandas.DataFrame:
    """One row for each method, size of S and keep ratio, over all layers."""
    rows = []
    for (method, size, ratio), layers in table.groupby(
        ["method", "sample_size", "keep_ratio_requested"], sort=False
    ):
        total = layers.filter(regex="^(pairs|exceeding|contributions)").sum()
        rows.append(
            {
                "method": method,
                "|S|": size,
                "kept": f"{ratio:.3g}",
                "certified": f"{layers['certified_p95'].median():.3g}",
                "measured": f"{layers['measured_p95'].median():.3g}",
                **{
                    kind: f"{total[f'exceeding_{column}']:.0f}/{total[f'pairs_{column}']:.0f}"
                    for kind, column in (
                        ("kept weights", "within_deterministic"),
                        ("sampled", "within_random"),
                        ("beyond", "beyond"),
                    )
                },
                "contributions beyond": f"{total['contributions_beyond'] / total['contributions']:.3%}",
            }
        )
    return pandas.DataFrame(rows)
