"""A run: its ledger, which of its tasks wait, and what has failed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from experiment.config.schema import Config
from experiment.config.yaml_syntax import dump
from experiment.core.devices import or_cpu
from experiment.core.errors import StorageError, UserError
from experiment.core.files import write_whole
from experiment.core.seeding import Stream
from experiment.core.text import visible
from experiment.data.loading import load_data
from experiment.reporting.environment import hardware, write_environment
from experiment.reporting.logger import Logger
from experiment.runs import obstacles
from experiment.runs.compile_choice import for_a_team, with_compilation_decided
from experiment.runs.engines.engine import Failure
from experiment.runs.forecast import Forecast
from experiment.runs.holdout import all_doubts
from experiment.runs.identity import write_identity
from experiment.runs.ledger import Ledger
from experiment.runs.live import Live
from experiment.runs.lock import Lock
from experiment.runs.results import Result, Store, layout_of
from experiment.runs.tasks import Prune, Task, tasks
from experiment.runs.waiting import Ranks, Waiting, as_listed
from experiment.runs.workplace import Workplace
from experiment.training.records import EpochRecord
from experiment.training.team import ALONE, Team

SHARED = "any run"  # the owner of nets that runs share


@dataclass
class Outcome:
    """Where a run's main plot and its report are, and what failed in it."""

    plot: Path | None  # None if no net could be trained
    report: Path
    failures: list[str] = field(default_factory=list)


class Run:
    """A run in progress.

    If a task fails, its net or method is given up and the others go on; if it has found bad input
    that every other one would find too, all are given up.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        live: Live,
        *,
        ranks: Ranks = as_listed,
        lock: Lock | None = None,
    ):
        self.config = config
        self.ledger = ledger
        self.live = live
        self.lock = lock
        self.progress: Callable[[], str] = lambda: f"{self.num_left} tasks left"
        self.forecast = Forecast(ledger.tasks)
        done = ledger.restore()
        self.waiting = Waiting(ledger.tasks, ranks, done)
        for task in done:
            self.forecast.ended(task, None)
        self.postponed: list[Task] = []  # until another run has trained the same net
        self.failures: list[str] = []
        self.bad_input: UserError | None = None
        self._told: set[str] = set()  # the postponed tasks that people know of

    def take(self, num_sharing: int = 1) -> list[Task]:
        """The next tasks that have to be computed, to be done together.

        Those that come before them and are stored already are finished.
        """
        while tasks := self.waiting.take(self.config.num_at_once, num_sharing):
            missing = [task for task in tasks if not self._finish_stored(task)]
            claimed = [task for task in missing if self._claim(task)]
            if claimed:
                return claimed
        return []

    def take_up_postponed(self) -> None:
        """Let nets that other runs were about to train have their turn again."""
        for task in self.postponed:
            self.waiting.put_back(task)
        self.postponed = []

    @property
    def num_left(self) -> int:
        """How many tasks no worker has begun yet."""
        return len(self.waiting) + len(self.postponed)

    def begin(self, task: Task) -> Sequence[Result]:
        """What a task, which is ready, starts from: the results of its inputs, or a checkpoint."""
        self.check()
        checkpoint = self.ledger.begin(task)
        if checkpoint is None:
            return self.ledger.inputs(task)
        epochs = self.ledger.own_epochs(task, checkpoint)
        self.forecast.resumed(task, len(epochs))
        self.ledger.logger.say(f"{task.label}: goes on after epoch {epochs[-1].epoch}")
        return [checkpoint]

    def check(self) -> None:
        """Raise LockedError if another process has taken over the run."""
        if self.lock is not None:
            self.lock.check()

    def end_epoch(self, task: Task, record: EpochRecord) -> None:
        """Write down an epoch that has just ended."""
        self.check()
        self.forecast.epoch_ended(task, record.seconds)
        self.ledger.add_epoch(task, record)

    def keep_checkpoint(self, task: Task, result: Result) -> None:
        """Keep how far a training is."""
        self.check()
        self.ledger.store_checkpoint(task, result)

    def conclude(self, task: Task, outcome: Result | Failure, seconds: float) -> None:
        """Keep what has come of a task that was computed. Raises LockedError if it must not."""
        self.check()
        if isinstance(outcome, Result):
            try:
                self._finish(task, self.ledger.store_new(task, outcome), seconds)
                return
            except StorageError:  # nothing else could be stored either
                raise
            except Exception as error:
                outcome = Failure.of(error)
        self._give_up(task, outcome)

    def close(self, is_interrupted: bool) -> None:
        """No task will be computed any more, at least for now."""
        self.ledger.close()
        if is_interrupted:
            self.live.abandon()

    def outcome(self) -> Outcome:
        """Write the summary, the figures and the report of all results.

        Raises UserError for bad input.
        """
        if self.bad_input is not None:
            self.live.abandon()
            raise self.bad_input
        if len(self.ledger.results):
            self.ledger.sort_tables()
        written = self.live.conclude()
        if written.summary:
            self.ledger.logger.say(written.summary)
        return Outcome(written.plot, written.report, self.failures)

    def _finish_stored(self, task: Task) -> bool:
        """Finish a task if its result is stored. Returns whether nothing is left to be done."""
        try:
            result = self.ledger.stored(task)
            if result is None:
                return False
            self._finish(task, result, None)
        except StorageError:
            raise
        except Exception as error:
            self._give_up(task, Failure.of(error))
        return True

    def _claim(self, task: Task) -> bool:
        """Whether the task is to be computed now, and not by another run."""
        if not self.ledger.claim(task):
            if task.key not in self._told:
                holder = self.ledger.claimed_by(task) or "another run"
                self.ledger.logger.say(f"{task.label}: waits for the same net of {holder}")
                self._told.add(task.key)
            self.postponed.append(task)
            return False
        return not self._finish_stored(task)  # another run may have finished it just before

    def _finish(self, task: Task, result: Result, seconds: float | None) -> None:
        row = self.ledger.finish(task, result)
        self.forecast.ended(task, seconds)
        self.waiting.finished(task)
        if row is not None:
            self.ledger.logger.say(f"{row.line}  [{self.progress()}]")
            self.live.refresh()

    def _give_up(self, task: Task, failure: Failure) -> None:
        logger = self.ledger.logger
        given_up = [task, *self.waiting.give_up(task)]
        if failure.is_bad_input and task.concerns_whole_run:
            self.bad_input = UserError(failure.message)  # of no other net anything else would come
            given_up += [*self.waiting.give_up_all(), *self.postponed]
            self.postponed = []
        else:
            pointer = "" if failure.is_clear else f"; traceback in {logger.path}"
            self.failures.append(f"{task.place.title}: failed: {failure.message}{pointer}")
            logger.error(self.failures[-1], failure.details)
        self.ledger.add_failure(task, failure.message, len(given_up) - 1)
        for one in given_up:
            self.ledger.give_up(one)
            self.forecast.ended(one, None)


def open_run(
    config: Config,
    directory: Path,
    device: str,
    nets: Path | None = None,
    *,
    ranks: Ranks = as_listed,
    lock: Lock | None = None,
    of_workers: dict[str, Any] | None = None,
    team: Team = ALONE,
) -> tuple[Run, Workplace]:
    """A run, or what of it is not finished yet in `directory`, and a workplace for its tasks.

    Says what the run is about. Runs that are given the same directory `nets` train the nets that
    they have in common once. `of_workers` is the hardware of the workers if they are on other
    machines; this one need not have their device.

    Raises:
        UserError: if the data cannot be loaded, or the net does not fit them.
    """
    settled = config if team.is_alone else for_a_team(config)
    here = device if of_workers is None else or_cpu(device)
    data = load_data(config.dataset, Stream(config.seed), torch.device(here))
    in_the_way = obstacles.clear(directory)
    try:
        write_whole(directory / "config.yaml", dump(config.model_dump()))
    except StorageError as error:
        raise UserError(f"--results: {error}") from None
    logger = Logger(directory)
    for line in in_the_way:
        logger.warn(f"damaged: {line}")
    of_workers = of_workers or hardware(device)
    changes = write_environment(
        directory / "environment.json", {**of_workers, "processes_per_net": team.size}
    )
    if changes:
        logger.note(f"resumed in a different environment: {'; '.join(changes)}")
    of_each = "" if team.is_alone else f", {team.size} processes"
    logger.say(f"results in {directory}, on {device}{of_each}")
    for difference in write_identity(directory, config):
        logger.say(f"{difference}: this is a new run")
    if data.note:
        logger.say(visible(data.note))  # names of files may hold line breaks
    for doubt in all_doubts(config, len(data.train), len(data.validation)):
        logger.note(f"warning: {doubt}")
    workplace = Workplace(data, here, team=team)
    workplace.require_corruptible(config.evaluation.corrupted, config.seed)
    workplace.layers(config.network)  # runs the net once: whether it fits the data is seen here
    settled = with_compilation_decided(settled, workplace, directory, device)
    layout = layout_of(workplace.net(config.network))
    live = Live(config, directory, logger)
    ledger = Ledger(
        tasks(settled),
        directory,
        logger,
        config.run_id(),
        keep_all=config.checkpoints == "all",
        shared=Store(nets / torch.device(device).type, SHARED, layout) if nets else None,
        layout=layout,
        guarantee=config.guarantee,
        listen=live.add,
    )
    prunings = [task for task in ledger.tasks if isinstance(task, Prune)]
    if prunings:
        _describe_pruning(prunings[0], workplace, logger)
    return Run(settled, ledger, live, ranks=ranks, lock=lock), workplace


def _describe_pruning(task: Prune, workplace: Workplace, logger: Logger) -> None:
    """Say how large S is, what is set aside, and which parameters of the net are not pruned."""
    logger.say(f"sample S: {workplace.sample_size(task)} validation images")
    if task.holdout:
        _, holdout = workplace.divided(task.seed)
        logger.say(f"set aside for tests of the guarantee: {len(holdout)} validation images")
    left_out = workplace.layers(task.network).left_out
    if left_out:
        notes = ", ".join(f"{name} ({note})" for name, note in left_out.items())
        logger.say(f"not pruned: {notes}")
