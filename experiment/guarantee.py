"""Certificates against measurements: `python -m experiment.guarantee CONFIG`."""

import argparse
import sys
from typing import TYPE_CHECKING

from experiment.main import add_common_arguments, guarded, results_directory

if TYPE_CHECKING:
    import pandas

    from experiment.run import Experiment

LEGEND = """certified, measured: relative error of units, the 95th percentile of a layer, the median over layers
kept weights, sampled: pairs of a fresh point and a unit with an error above the certificate / all such pairs whose
  contributions are within C times the sensitivities, for units whose weights were kept as they are or sampled
beyond: the same for pairs with a contribution above C times its sensitivity"""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m experiment.guarantee",
        description="Train the nets of an experiment (or take those it has trained), prune each to the configured "
                    "keep ratios, and compare the certified errors of its units with those on fresh test images.")
    result.add_argument("config", metavar="CONFIG", help="YAML file of an experiment")
    add_common_arguments(result)
    result.add_argument("--fresh", type=int, default=200, metavar="N", help="test images to measure on (default: 200)")
    result.add_argument("--points", type=int, default=8, metavar="N",
                        help="points of each image and layer to measure on (default: 8)")
    result.add_argument("--sample-sizes", type=int, nargs="+", metavar="N",
                        help="sizes of S (default: the experiment's own, a quarter and a sixteenth of it)")
    return result


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, 1 if a certificate that must hold does not, 2 for bad input, 130 if interrupted."""
    return guarded(launch, parser().parse_args(arguments))


def launch(options: argparse.Namespace) -> int:
    """Measure, write guarantee.csv and its plot, and print a summary."""
    import pandas
    import torch

    from experiment import plots
    from experiment.config import load_config
    from experiment.data.splits import load_data
    from experiment.devices import choose_device
    from experiment.errors import UserError
    from experiment.logger import Logger
    from experiment.run import Experiment
    from experiment.seeding import Stream
    from experiment.store import write_whole

    if min(options.fresh, options.points, *(options.sample_sizes or [1])) < 1:
        raise UserError("--fresh, --points and --sample-sizes must be at least 1")
    config, device = load_config(options.config, options.overrides), choose_device(options.device)
    data = load_data(config.dataset, Stream(config.seed), torch.device(device))
    directory = results_directory(options.config, config.run_id(), options.results)
    logger = Logger(directory, config, device)
    experiment = Experiment(config, data, logger, torch.device(device))
    tables = []
    for net_seed in range(config.num_nets):
        table = measure_net(experiment, net_seed, options)
        logger.say(f"net {net_seed}\n{LEGEND}\n{summary(table).to_string(index=False)}")
        tables.append(table)
    rows = pandas.concat(tables, ignore_index=True)
    write_whole(directory / "guarantee.csv", rows.to_csv(index=False))
    largest = rows[rows["sample_size"] == rows["sample_size"].max()]
    logger.say(f"table: {directory / 'guarantee.csv'}")
    logger.say(f"plot: {plots.certificate_vs_measurement(largest, directory / 'plots' / 'guarantee')}")
    return 1 if rows["exceeding_within_deterministic"].sum() else 0


def measure_net(experiment: "Experiment", net_seed: int, options: argparse.Namespace) -> "pandas.DataFrame":
    """The table of one net: all sizes of S, methods and keep ratios, every ratio pruned from the trained net."""
    import pandas

    from experiment.certificates import Certificates, FreshPoints
    from experiment.registry import METHODS
    from experiment.run import cells
    from experiment.schedules import steps

    config, trained = experiment.config, experiment.train(net_seed)
    stream = experiment.stream.child("net", net_seed, "guarantee")
    fresh, tables = None, []
    for size in options.sample_sizes or default_sizes(experiment):
        pruner = experiment.pruner(net_seed, 0, trained, size)
        size = sum(len(targets) for _, targets in pruner.statistics.batches)
        if fresh is None:
            test = experiment.data.test
            images = test.subset(stream.child("images").permutation(len(test))[: options.fresh])
            fresh = FreshPoints(pruner.statistics.net, images.batches(32), pruner.statistics.layers, options.points,
                                stream.child("points"))
        certificates = Certificates(pruner.statistics)
        for cell in cells(config, net_seed):
            method = METHODS.build(cell.method.name, cell.method.options)
            for step in steps(config):
                pruned = pruner.prune(method, step.keep_ratio, stream.child("prune", cell.repetition, step.index))
                if pruned.selection.factors is not None and pruned.selection.draws is None:
                    continue  # reweighted by a rule of its own, about which nothing is certified
                table = fresh.compare(certificates, pruned)
                for position, (column, value) in enumerate({
                        "network": config.network.name, "dataset": config.dataset.name, "method": cell.label,
                        "net_seed": net_seed, "repetition": cell.repetition, "sample_size": size,
                        "keep_ratio_requested": step.keep_ratio, "keep_ratio": pruned.keep_ratio}.items()):
                    table.insert(position, column, value)
                tables.append(table)
    return pandas.concat(tables, ignore_index=True)


def default_sizes(experiment: "Experiment") -> list[int]:
    """A sixteenth, a quarter and all of the experiment's sample."""
    full = experiment.sample_size()
    return sorted({max(1, full // 16), max(1, full // 4), full})


def summary(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """One row for each method, size of S and keep ratio, over all layers."""
    import pandas

    rows = []
    for (method, size, ratio), layers in table.groupby(["method", "sample_size", "keep_ratio_requested"], sort=False):
        total = layers.filter(regex="^(pairs|exceeding|contributions)").sum()
        rows.append({
            "method": method, "|S|": size, "kept": f"{ratio:.3g}",
            "certified": f"{layers['certified_p95'].median():.3g}",
            "measured": f"{layers['measured_p95'].median():.3g}",
            **{kind: f"{total[f'exceeding_{column}']:.0f}/{total[f'pairs_{column}']:.0f}"
               for kind, column in (("kept weights", "within_deterministic"), ("sampled", "within_random"),
                                    ("beyond", "beyond"))},
            "contributions beyond": f"{total['contributions_beyond'] / total['contributions']:.3%}"})
    return pandas.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(main())
