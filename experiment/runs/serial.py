"""Running an experiment in one process, one task after the other."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from experiment.config.schema import Config
from experiment.core.errors import UserError, one_line
from experiment.core.files import write_whole
from experiment.core.seeding import Stream
from experiment.data.loading import load_data
from experiment.reporting.environment import write_environment
from experiment.reporting.logger import Logger
from experiment.reporting.progress import ProgressBar
from experiment.reporting.run_files import write_plot, write_summary
from experiment.reporting.tables import load_results
from experiment.runs.compile_choice import with_compilation_decided
from experiment.runs.execution import execute, train_together
from experiment.runs.ledger import Ledger
from experiment.runs.results import Result, Store
from experiment.runs.tasks import Retrain, Task, Train, tasks
from experiment.runs.waiting import Waiting
from experiment.runs.workplace import Workplace


@dataclass
class Outcome:
    """Where a run's main plot is, and what failed in it."""

    plot: Path | None  # None if no net could be trained
    failures: list[str] = field(default_factory=list)


def run(config: Config, directory: Path, device: str = "cpu", nets: Path | None = None) -> Outcome:
    """Run an experiment, or what of it is not finished yet in `directory`.

    If a task fails, its net or method is given up and the others go on. Runs that are given the
    same directory `nets` train the nets that they have in common once.

    Raises:
        UserError: if the data cannot be loaded or no net of the configuration can be trained.
    """
    ledger, workplace = open_run(config, directory, device, nets)
    failures = []
    waiting = Waiting(ledger.tasks, ledger)
    while waiting:
        fatal = None
        for task, outcome in outcomes(waiting.take(config.num_at_once), ledger, workplace):
            error = outcome
            if isinstance(outcome, Result):
                error = attempt(ledger.finish, task, outcome)
            if not isinstance(error, Exception):
                continue
            if isinstance(error, UserError) and task.concerns_whole_run:
                fatal = error  # of no other net anything else would come
                continue
            failures.append(failure_text(task, error))
            ledger.logger.error(failures[-1], "".join(traceback.format_exception(error)))
            ledger.give_up(task)
            waiting.give_up(task)
        if fatal is not None:
            raise fatal
    if not len(ledger.results):
        return Outcome(None, failures)
    rows = load_results(directory)
    summary = write_summary(rows, directory, config.pruning.commensurate_margin)
    if summary:
        ledger.logger.say(summary)
    return Outcome(write_plot(rows, directory), failures)


def outcomes(
    tasks: Sequence[Task], ledger: Ledger, workplace: Workplace
) -> Iterator[tuple[Task, Result | Exception]]:
    """What comes of tasks that are done together: stored results, and exceptions of failures."""
    missing = []
    for task in tasks:
        result = attempt(ledger.stored, task)
        if result is None:
            missing.append(task)
        else:
            yield task, result
    for task, result in zip(missing, computed(missing, ledger, workplace)):
        if not isinstance(result, Exception):
            result = attempt(ledger.store_new, task, result)
        yield task, result


def computed(
    tasks: Sequence[Task], ledger: Ledger, workplace: Workplace
) -> list[Result | Exception]:
    """New results of one task, or of several trainings."""
    inputs = [ledger.inputs(task) or [] for task in tasks]
    trainings = [task for task in tasks if isinstance(task, Train | Retrain)]
    if len(trainings) > 1:
        return train_together(trainings, inputs, workplace)
    return [attempt(execute, task, of_task, workplace) for task, of_task in zip(tasks, inputs)]


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, or the exception that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def open_run(
    config: Config, directory: Path, device: str, nets: Path | None = None
) -> tuple[Ledger, Workplace]:
    """The ledger of a run and a workplace for its tasks; says what the run is about."""
    data = load_data(config.dataset, Stream(config.seed), torch.device(device))
    try:
        write_whole(directory / "config.yaml", yaml.safe_dump(config.model_dump(), sort_keys=False))
    except OSError as error:
        raise UserError(f"--results: cannot write to {directory}: {error}") from None
    logger = Logger(directory)
    changes = write_environment(directory / "environment.json", device)
    if changes:
        logger.note(f"resumed in a different environment: {'; '.join(changes)}")
    logger.say(f"results in {directory}, on {device}")
    if data.note:
        logger.say(data.note)
    workplace = Workplace(data, device, progress=ProgressBar)
    workplace.layers(config.network)  # runs the net once: whether it fits the data is seen here
    config = with_compilation_decided(config, workplace, directory)
    ledger = Ledger(
        tasks(config),
        directory,
        logger,
        keep_all=config.checkpoints == "all",
        shared=Store(nets / torch.device(device).type) if nets else None,
    )
    workplace.on_epoch = ledger.add_epoch
    if config.pruning.schedule != "train":
        _describe_pruning(config, workplace, logger)
    return ledger, workplace


def _describe_pruning(config: Config, workplace: Workplace, logger: Logger) -> None:
    """Say how large S is, and which parameters of the net are not pruned."""
    pruning = config.pruning
    size = workplace.sample_size(config.network, pruning.sample_size, pruning.delta)
    logger.say(f"sample S: {size} validation images")
    left_out = workplace.layers(config.network).left_out
    if left_out:
        notes = ", ".join(f"{name} ({note})" for name, note in left_out.items())
        logger.say(f"not pruned: {notes}")


def failure_text(task: Task, error: Exception) -> str:
    """What failed, in one line."""
    message = str(error) if isinstance(error, UserError) else one_line(error)
    return f"{task.place.title}: failed: {message}"
