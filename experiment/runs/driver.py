"""The driver: gives the tasks of runs to an engine's workers, and keeps what comes of them."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiment.config.schema import Config
from experiment.core.errors import UserError
from experiment.reporting.board import Board, duration
from experiment.runs.engines.engine import (
    Advanced,
    Checkpointed,
    Engine,
    EpochEnded,
    Event,
    Failure,
    Finished,
    Job,
)
from experiment.runs.engines.in_process import InProcess
from experiment.runs.engines.team import Leader, Link
from experiment.runs.lock import Lock
from experiment.runs.run import Outcome, Run, open_run
from experiment.runs.tasks import Task
from experiment.training.team import ALONE

ATTEMPTS = 3  # at a task whose worker dies
PAUSE = 1.0  # seconds after which the display is drawn again if nothing happens


def run(
    config: Config,
    directory: Path,
    device: str = "cpu",
    nets: Path | None = None,
    lock: Lock | None = None,
    link: Link | None = None,
) -> Outcome:
    """Run an experiment in this process, or what of it is not finished yet in `directory`.

    With a link, the other processes of a team train and evaluate too.

    Raises:
        UserError: if the data cannot be loaded or no net of the configuration can be trained.
        LockedError: if another process takes over the lock meanwhile.
    """
    team = ALONE if link is None else link.team
    opened, workplace = open_run(config, directory, device, nets, lock=lock, team=team)
    engine: Engine = InProcess(workplace, config)
    if link is not None:
        engine = Leader(workplace, config, link)
    Driver([opened], engine).work()
    return opened.outcome()


@dataclass(frozen=True)
class Assigned:
    """What a worker is doing."""

    run: Run
    tasks: Sequence[Task]

    def task(self, key: str) -> Task:
        """One of the tasks."""
        return next(task for task in self.tasks if task.key == key)


class Driver:
    """Goes through the tasks of one or several runs at the same time."""

    def __init__(self, runs: Sequence[Run], engine: Engine):
        self.runs = runs
        self.engine = engine
        self.jobs: dict[int, Assigned] = {}
        self.deaths: Counter[tuple[int, str]] = Counter()  # of workers at a run's task
        self._last_taken_up = time.monotonic()
        for run in runs:
            run.progress = self._progress
        self.board = Board(engine.num_workers)

    def work(self) -> None:
        """Do all tasks, or give them up."""
        is_interrupted = True
        try:
            while self.jobs or any(run.num_left for run in self.runs):
                self._assign()
                self._check_for_deadlock()
                if self.jobs or any(run.num_left for run in self.runs):
                    self.engine.wait(self._hear, PAUSE)
                    self._show_progress()
            is_interrupted = False
        finally:
            self.board.close()
            for run in self.runs:
                run.close(is_interrupted)

    def _check_for_deadlock(self) -> None:
        postponed = any(run.postponed for run in self.runs)
        left = any(run.waiting for run in self.runs)
        if left and not self.jobs and not postponed and self.engine.idle():
            raise RuntimeError("the tasks that are left wait for each other")

    def _assign(self) -> None:
        """Give jobs to the workers that have none, as far as tasks are ready."""
        now = time.monotonic()
        if now - self._last_taken_up >= PAUSE:
            self._last_taken_up = now
            for run in self.runs:
                run.take_up_postponed()
        idle = self.engine.idle()
        for position, worker in enumerate(idle):
            assigned = self._next(len(idle) - position)
            if assigned is None:
                return
            self._start(worker, assigned)

    def _start(self, worker: int, assigned: Assigned) -> None:
        """Give a job to a worker; it fails if what it starts from cannot be read."""
        inputs = [assigned.run.begin(task) for task in assigned.tasks]
        job = Job(assigned.tasks, inputs, assigned.run.config.checkpoint_seconds)
        try:
            self.engine.start(worker, job)
        except UserError as error:
            for task in assigned.tasks:
                assigned.run.conclude(task, Failure.of(error), 0.0)
        else:
            self.jobs[worker] = assigned
            self.board.begin(worker, [task.label for task in assigned.tasks])

    def _next(self, num_sharing: int) -> Assigned | None:
        """The tasks that come next; None if none is ready."""
        while ready := [run for run in self.runs if run.waiting.first_rank is not None]:
            run = min(ready, key=lambda run: run.waiting.first_rank)
            tasks = run.take(num_sharing)
            if tasks:
                return Assigned(run, self._alone_after_deaths(run, tasks))
        return None

    def _alone_after_deaths(self, run: Run, tasks: list[Task]) -> list[Task]:
        """The tasks, or one alone: of those at which a worker has died, one may be the cause."""
        if not any(self.deaths[id(run), task.key] for task in tasks):
            return tasks
        for task in tasks[1:]:
            run.waiting.put_back(task)
        return tasks[:1]

    def _hear(self, worker: int, event: Event) -> None:
        assigned = self.jobs.get(worker)
        if assigned is None:  # a job of another driver, which gave up its runs
            return
        self._show_progress()
        if isinstance(event, Advanced):
            self.board.advance(worker, event.label, event.done, event.total, event.text)
        elif isinstance(event, EpochEnded):
            self._end_epoch(assigned, event)
        elif isinstance(event, Checkpointed):
            assigned.run.keep_checkpoint(assigned.task(event.key), event.result)
        else:
            del self.jobs[worker]
            self.board.end(worker)
            if isinstance(event, Finished):
                self._conclude(assigned, event)
            else:
                self._try_again(assigned, worker, event.reason)

    def _end_epoch(self, assigned: Assigned, event: EpochEnded) -> None:
        assigned.run.end_epoch(assigned.task(event.key), event.record)

    def _conclude(self, assigned: Assigned, event: Finished) -> None:
        for task, outcome in zip(assigned.tasks, event.outcomes):
            assigned.run.conclude(task, outcome, event.seconds / len(assigned.tasks))

    def _try_again(self, assigned: Assigned, worker: int, reason: str) -> None:
        """Put the tasks of a worker that has died back, or give them up after some attempts."""
        run = assigned.run
        for task in assigned.tasks:
            self.deaths[id(run), task.key] += 1
            deaths = self.deaths[id(run), task.key]
            run.forecast.interrupted(task)
            if deaths == ATTEMPTS:
                message = f"its worker has died {deaths} times, at last by {reason}"
                run.conclude(task, Failure(message), 0.0)
            else:
                run.waiting.put_back(task)
                run.ledger.logger.say(
                    f"{task.label}: worker {worker} has died ({reason}); "
                    f"attempt {deaths + 1} of {ATTEMPTS} follows"
                )

    def _show_progress(self) -> None:
        if self.board.is_due:
            self.board.show(self._progress())

    def _progress(self) -> str:
        """How much is done of all runs, in words."""
        num_tasks = sum(len(run.ledger.tasks) for run in self.runs)
        num_left = sum(run.num_left for run in self.runs) + sum(
            len(assigned.tasks) for assigned in self.jobs.values()
        )
        seconds_left = self._seconds_left()
        time_left = "" if seconds_left is None else f", about {duration(seconds_left)} left"
        return f"{num_tasks - num_left} of {num_tasks} tasks{time_left}"

    def _seconds_left(self) -> float | None:
        """Seconds until all runs are finished; None if too little is measured yet."""
        at_once = self.engine.num_workers * max(run.config.num_at_once for run in self.runs)
        total = 0.0
        for run in self.runs:
            longest = max(
                (
                    run.forecast.chain(task)
                    for assigned in self.jobs.values()
                    if assigned.run is run
                    for task in assigned.tasks
                ),
                default=0,
            )
            seconds = run.forecast.seconds_left(at_once, longest)
            if seconds is None and run.num_left:
                return None
            total += seconds or 0.0
        return total
