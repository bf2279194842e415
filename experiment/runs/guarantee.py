"""The guarantees of an experiment's methods, measured on its own nets, at its own keep ratios."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pandas

from experiment.certification.certificates import Certificates
from experiment.certification.fresh_points import FreshPoints
from experiment.config.schema import Config
from experiment.core.errors import UserError
from experiment.core.files import write_whole
from experiment.data.loading import allowed_sample_size
from experiment.nets.running import copy_of
from experiment.nets.state import NetState
from experiment.pruning.method import build_method
from experiment.reporting.plots.certificates import certificate_vs_measurement
from experiment.reporting.records import REFERENCE
from experiment.runs.execution import execute
from experiment.runs.guarantee_bounds import measure_bounds, write_bounds
from experiment.runs.ledger import Ledger
from experiment.runs.run import open_run
from experiment.runs.tasks import Prune, Task, Train
from experiment.runs.workplace import Workplace
from experiment.training.evaluation import DivergedError

FRESH_BATCH = 32
LEGEND = """certified, measured: relative error of units: 95th percentiles of layers, their median
kept weights, sampled: pairs of a fresh point and a unit whose error exceeds the certificate, out of
  all pairs whose contributions are within C times the sensitivities, for units whose weights were
  kept as they are or sampled
beyond: the same for pairs with a contribution above C times its sensitivity"""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What to measure on."""

    num_fresh: int = 200  # test images
    points_per_sample: int = 8  # of each image and layer
    sample_sizes: tuple[int, ...] = ()  # of S; none: the experiment's own, a quarter, a sixteenth
    bounds: float | None = None  # the share for which calibrated bounds may fail; None: no bounds

    def __post_init__(self) -> None:
        if min(self.num_fresh, self.points_per_sample, *self.sample_sizes) < 1:
            raise UserError("--fresh, --points and --sample-sizes must be at least 1")
        if self.bounds is not None and not 0 < self.bounds < 1:
            raise UserError(f"--bounds must be a share between 0 and 1, not {self.bounds:g}")

    @property
    def file_name(self) -> str:
        """`guarantee`, or a name that tells the options, so that no table overwrites another."""
        if replace(self, bounds=None) == Measurement():
            return "guarantee"
        sizes = "".join(f"-{size}" for size in self.sample_sizes)
        return f"guarantee-{self.num_fresh}x{self.points_per_sample}{sizes}"


def measure_guarantees(
    config: Config, directory: Path, device: str, measurement: Measurement
) -> bool:
    """Compare certified errors with errors on fresh images; write the table and its plot.

    Trains the nets of the experiment, or takes those that it has trained in `directory`.

    Returns:
        Whether every certificate that must hold does.

    Raises:
        UserError: if a net cannot be trained, or nothing is certified about any method.
    """
    if config.pruning.schedule == "train":
        raise UserError("pruning.schedule: with train nothing is pruned, so nothing is certified")
    run, workplace = open_run(config, directory, device)
    ledger = run.ledger
    workplace.on_epoch = ledger.add_epoch
    tables = []
    found_bounds: list[pandas.DataFrame] = []
    for net_seed in range(config.num_nets):
        of_net = [task for task in ledger.tasks if task.place.net_seed == net_seed]
        trained = trained_net(of_net, ledger, workplace)
        tables.append(measure_net(of_net, trained, workplace, ledger, measurement))
        if measurement.bounds is not None:
            level = measurement.bounds
            found_bounds.append(measure_bounds(of_net, trained, workplace, measurement, level))
        for task in of_net:
            ledger.give_up(task)
        shown = summary(tables[-1]).to_string(index=False)
        ledger.logger.say(f"net {net_seed}\n{LEGEND}\n{shown}")
    rows = pandas.concat(tables, ignore_index=True)
    table_path = directory / f"{measurement.file_name}.csv"
    write_whole(table_path, rows.to_csv(index=False))
    ledger.logger.say(f"table: {table_path}")
    if found_bounds:
        write_bounds(found_bounds, table_path, ledger.logger)
    largest = rows[rows["sample_size"] == rows["sample_size"].max()]
    plot = certificate_vs_measurement(largest, directory / "plots" / measurement.file_name)
    ledger.logger.say(f"plot: {plot}")
    allowed = math.ceil(config.pruning.delta * rows["pairs_within_random"].sum())
    return bool(
        rows["exceeding_within_deterministic"].sum() == 0
        and rows["exceeding_within_random"].sum() <= allowed
    )


def trained_net(of_net: list[Task], ledger: Ledger, workplace: Workplace) -> NetState:
    """The trained net; it is trained and evaluated if that has not been done yet."""
    for task in of_net:
        if task.place.method == REFERENCE and not ledger.is_finished(task):
            inputs = ledger.inputs(task)
            result = ledger.stored(task)
            if result is None:
                try:
                    result = execute(task, inputs, workplace)
                except DivergedError as error:
                    raise UserError(f"{task.place.title}: {error}") from None
                result = ledger.store_new(task, result)
            ledger.finish(task, result)
    trained = max((task for task in of_net if isinstance(task, Train)), key=lambda task: task.until)
    return ledger.result_of(trained.key).state


def measure_net(
    of_net: list[Task],
    trained: NetState,
    workplace: Workplace,
    ledger: Ledger,
    measurement: Measurement,
) -> pandas.DataFrame:
    """The table of one net: all sizes of S, methods and keep ratios, each from the trained net.

    Repetitions are not repeated here.
    """
    prunings = [task for task in of_net if isinstance(task, Prune) and task.place.repetition == 0]
    stream = prunings[0].net_stream.child("guarantee")
    points = fresh_points(prunings[0], trained, workplace, measurement)
    found = []
    for size in sample_sizes(prunings[0], workplace, measurement):
        pruner = workplace.pruner(replace(prunings[0], sample_size=size), trained)
        certificates = Certificates(pruner.analysis)
        for task in prunings:
            method = build_method(task.method.name, task.method.options)
            pruned = pruner.prune(method, task.keep_ratio, stream.child("prune", task.place.step))
            if not certificates.cover(pruned):
                ledger.logger.say(
                    f"{task.place.method} kept {task.keep_ratio:.3g}: nothing is certified about it"
                )
                continue
            columns = {
                "method": task.place.method,
                "net_seed": task.place.net_seed,
                "sample_size": size,
                "keep_ratio_requested": task.keep_ratio,
                "keep_ratio": pruned.keep_ratio,
            }
            table = points.compare(certificates, pruned)
            found.append(pandas.concat([pandas.DataFrame([columns] * len(table)), table], axis=1))
    if not found:
        raise UserError("nothing is certified about any of the experiment's methods")
    names = {"network": prunings[0].network.name, "dataset": prunings[0].dataset.name}
    return pandas.concat(found, ignore_index=True).assign(**names)


def fresh_points(
    task: Prune, trained: NetState, workplace: Workplace, measurement: Measurement
) -> FreshPoints:
    """The points that the layers of the trained net see on some of the test images."""
    stream = task.net_stream.child("guarantee")
    net = copy_of(workplace.net(task.network))
    trained.load_into(net)
    test = workplace.data.test
    chosen = stream.child("images").permutation(len(test))[: measurement.num_fresh]
    return FreshPoints(
        net,
        test.subset(chosen).batches(FRESH_BATCH),
        workplace.layers(task.network).prunable,
        measurement.points_per_sample,
        stream.child("points"),
    )


def sample_sizes(task: Prune, workplace: Workplace, measurement: Measurement) -> list[int]:
    """The sizes asked for, as far as the images go, or a sixteenth, a quarter and all of S."""
    full = workplace.sample_size(task.network, task.sample_size, task.delta)
    asked = measurement.sample_sizes or (max(1, full // 16), max(1, full // 4), full)
    num_validation = len(workplace.data.validation)
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
