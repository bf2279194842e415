"""The guarantees of an experiment's methods, measured on its own nets, at its own keep ratios."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas

from experiment.config.schema import Config
from experiment.core.errors import UserError
from experiment.core.files import write_whole
from experiment.nets.state import NetState
from experiment.reporting.logger import Logger
from experiment.reporting.plots.output_errors import output_errors_vs_sparsity
from experiment.reporting.records import REFERENCE
from experiment.runs.execution import execute
from experiment.runs.guarantees import bounds, outputs, theorem, units
from experiment.runs.guarantees.net_under_test import Measurement, NetUnderTest
from experiment.runs.ledger import Ledger
from experiment.runs.run import open_run
from experiment.runs.tasks import Task, Train
from experiment.runs.workplace import Workplace
from experiment.training.evaluation import DivergedError


@dataclass(frozen=True)
class Part:
    """A kind of guarantee, with its table."""

    name: str  # of the table and of the figure
    measure: Callable[[NetUnderTest, Logger], pandas.DataFrame]  # rows of one net; perhaps none
    show: Callable[[pandas.DataFrame, Logger], None] | None = None  # those of all nets
    draw: Callable[[pandas.DataFrame, Path], Path] | None = None  # to a path without a suffix

    def write(
        self, rows: pandas.DataFrame, directory: Path, measurement: Measurement, logger: Logger
    ) -> None:
        """Write the table and the figure of all nets, and show a summary."""
        name = f"{self.name}{measurement.suffix}"
        path = directory / f"{name}.csv"
        write_whole(path, rows.to_csv(index=False))
        if self.show is not None:
            self.show(rows, logger)
        logger.say(f"table: {path}")
        if self.draw is not None:
            logger.say(f"plot: {self.draw(rows, directory / 'plots' / name)}")


PARTS = [
    Part(units.NAME, units.measure, draw=units.draw),
    Part(bounds.NAME, bounds.measure, bounds.show),
    Part(outputs.NAME, outputs.measure, outputs.show, output_errors_vs_sparsity),
    Part(theorem.NAME, theorem.measure, theorem.show),
]


def measure_guarantees(
    config: Config, directory: Path, device: str, measurement: Measurement
) -> bool:
    """Compare what is certified with what happens on test images; write tables and figures.

    Trains the nets of the experiment, or takes those that it has trained in `directory`.

    Returns:
        Whether every certificate of a unit that must hold does.

    Raises:
        UserError: if a net cannot be trained, or nothing is pruned.
    """
    if config.pruning.schedule == "train":
        raise UserError("pruning.schedule: with train nothing is pruned, so nothing is certified")
    run, workplace = open_run(config, directory, device)
    ledger = run.ledger
    workplace.on_epoch = ledger.add_epoch
    found: list[list[pandas.DataFrame]] = [[] for _ in PARTS]
    for net_seed in range(config.num_nets):
        of_net = [task for task in ledger.tasks if task.place.net_seed == net_seed]
        trained = trained_net(of_net, ledger, workplace)
        net = NetUnderTest.of(of_net, trained, workplace, measurement)
        for tables, part in zip(found, PARTS):
            tables.append(part.measure(net, ledger.logger))
        for task in of_net:
            ledger.give_up(task)
    rows = [pandas.concat(tables, ignore_index=True) for tables in found]
    for table, part in zip(rows, PARTS):
        if len(table):
            part.write(table, directory, measurement, ledger.logger)
    return units.hold(rows[0], config.pruning.delta)


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
