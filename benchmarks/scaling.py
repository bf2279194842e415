"""How much faster an experiment is with several workers, and what the driver itself costs.

`python -m benchmarks.scaling` runs a small experiment in one process with two threads, and by one
and two workers with one thread each, in turn; and simulates 1,000 workers, whose tasks take no
time of their own, to see what the driver takes for each of 100,000 tasks.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from experiment.config.loading import load_config
from experiment.config.schema import Config
from experiment.reporting.logger import Logger
from experiment.runs.driver import Driver
from experiment.runs.engines.engine import Engine, Event, Finished, Job, Listen
from experiment.runs.engines.in_process import InProcess
from experiment.runs.engines.processes import Processes
from experiment.runs.ledger import Ledger
from experiment.runs.records import EvaluatedRecord, PrunedRecord, TrainedRecord
from experiment.runs.results import Result
from experiment.runs.run import Run, open_run
from experiment.runs.tasks import Evaluate, Prune, Task, tasks
from experiment.runs.waiting import longest_chain_first

EXPERIMENT = """
network: {name: resnet20}
dataset: {name: digits}
training: {epochs: 2, batch_size: 64, optimizer: {name: SGD, lr: 0.05}}
pruning: {methods: [WT, SiPP], keep_ratios: [0.5, 0.2]}
num_nets: 4
"""
LARGE = [
    "num_nets=100",
    "pruning.methods=[WT, SiPP, SNIP, FT, PFP, Random, WTLayer, SoftNet, ThiNet, Uniform]",
    "pruning.keep_ratios=[{spacing: geometric, first: 0.9, last: 0.1, count: 25}]",
]
SHARE = 0.05  # of the time, which the driver may take


class Timed:
    """An engine that counts the time between the start of a job and its result, less its work."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.num_workers = engine.num_workers
        self.overheads: list[float] = []
        self._started: dict[int, float] = {}

    def idle(self) -> Sequence[int]:
        return self.engine.idle()

    def start(self, worker: int, job: Job) -> None:
        self._started[worker] = time.perf_counter()
        self.engine.start(worker, job)

    def wait(self, listen: Listen, seconds: float | None = None) -> None:
        def hear(worker: int, event: Event) -> None:
            listen(worker, event)
            if isinstance(event, Finished):
                taken = time.perf_counter() - self._started[worker]
                self.overheads.append(taken - event.seconds)

        self.engine.wait(hear, seconds)

    def close(self) -> None:
        self.engine.close()


class Simulated:
    """Workers whose tasks are finished as soon as the driver waits for them."""

    def __init__(self, num_workers: int):
        self.num_workers = num_workers
        self._jobs: dict[int, Job] = {}
        self._idle = set(range(num_workers))

    def idle(self) -> Sequence[int]:
        return list(self._idle)

    def start(self, worker: int, job: Job) -> None:
        self._idle.discard(worker)
        self._jobs[worker] = job

    def wait(self, listen: Listen, seconds: float | None = None) -> None:
        worker = next(iter(self._jobs))  # the one that has worked for longest
        job = self._jobs.pop(worker)
        self._idle.add(worker)
        listen(worker, Finished([simulated_result(task) for task in job.tasks], 1.0))

    def close(self) -> None:
        pass


def simulated_result(task: Task) -> Result:
    """A result without a net."""
    if isinstance(task, Evaluate):
        return Result(
            EvaluatedRecord(
                validation_accuracy=0.5,
                test_accuracy=0.5,
                test_top5=0.5,
                test_loss=1.0,
                constant_output=False,
            )
        )
    if isinstance(task, Prune):
        return Result(
            PrunedRecord(
                keep_ratio=task.keep_ratio,
                flop_keep_ratio=task.keep_ratio,
                seconds=1.0,
                evaluations=1,
                size_note=None,
                empty_layers=[],
                constant_before=False,
            )
        )
    return Result(TrainedRecord(epochs=[], seconds=1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of all versions, in turn")
    parser.add_argument("--workers", type=int, default=1000, help="of the simulated cluster")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "experiment.yaml")
        path.write_text(EXPERIMENT)
        measure_speed(load_config(path), Path(folder), options.rounds)
        measure_driver(load_config(path, LARGE), Path(folder, "large"), options.workers)


def measure_speed(config: Config, folder: Path, rounds: int) -> None:
    """Print tasks per minute of each version, from the first task to the last."""
    versions: dict[str, Callable[[Path], tuple[float, list[float]]]] = {
        "one process, 2 threads": lambda path: in_process(config, path, 2),
        "one process, 1 thread": lambda path: in_process(config, path, 1),
        "1 worker, 1 thread": lambda path: by_workers(config, path, 1),
        "2 workers, 1 thread each": lambda path: by_workers(config, path, 2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in versions}
    overheads: dict[str, list[float]] = {name: [] for name in versions}
    for number in range(rounds):
        for index, (name, version) in enumerate(versions.items()):
            taken, own = version(folder / f"{number}-{index}")
            seconds[name].append(taken)
            overheads[name] += own
    count = len(tasks(config))
    usual = statistics.median(seconds["one process, 2 threads"])
    print(f"{count} tasks of resnet20 on digits, medians of {rounds} rounds")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        overhead = statistics.median(overheads[name])
        print(
            f"{name:26} {60 * count / median:6.0f} tasks a minute  "
            f"{usual / median:5.2f} x one process  "
            f"{1000 * overhead:6.1f} ms of a task are not its work"
        )


def in_process(config: Config, directory: Path, threads: int) -> tuple[float, list[float]]:
    """Seconds of an experiment in this process, and the overheads of its tasks."""
    torch.set_num_threads(threads)
    with contextlib.redirect_stdout(io.StringIO()):
        run, workplace = open_run(config, directory, "cpu")
        return timed(run, InProcess(workplace, config))


def by_workers(config: Config, directory: Path, num_workers: int) -> tuple[float, list[float]]:
    """The same with workers of one thread each, which have started before."""
    torch.set_num_threads(1)
    engine = Processes(["cpu"] * num_workers, 1)
    with contextlib.closing(engine), contextlib.redirect_stdout(io.StringIO()):
        run, _ = open_run(config, directory, "cpu", ranks=longest_chain_first)
        while len(engine.idle()) < num_workers:
            engine.wait(lambda worker, event: None)
        return timed(run, engine)


def timed(run: Run, engine: Engine) -> tuple[float, list[float]]:
    watched = Timed(engine)
    start = time.perf_counter()
    Driver([run], watched).work()
    seconds = time.perf_counter() - start
    if run.failures:
        raise RuntimeError(run.failures[0])
    return seconds, watched.overheads


def measure_driver(config: Config, directory: Path, num_workers: int) -> None:
    """Print what the driver takes for each task of a large experiment, files included."""
    directory.mkdir(parents=True)
    planned = tasks(config)
    with contextlib.redirect_stdout(io.StringIO()):
        ledger = Ledger(planned, directory, Logger(directory))
        start = time.perf_counter()
        run = Run(config, ledger, ranks=longest_chain_first)
        Driver([run], Simulated(num_workers)).work()
        seconds = time.perf_counter() - start
    each = seconds / len(planned)
    assert len(ledger.results) == len({task.place for task in planned})
    print(
        f"{num_workers} simulated workers, {len(planned)} tasks: the driver takes "
        f"{1000 * each:.2f} ms a task, {SHARE:.0%} of the time where tasks take "
        f"{num_workers * each / SHARE:.0f} s on average"
    )


if __name__ == "__main__":
    main()
