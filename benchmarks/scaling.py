"""How much faster an experiment is with several workers, and what the driver itself costs.

`python -m benchmarks.scaling` runs a small experiment in one process, and by one and two workers
of this machine and of Ray, in turn. Two processes that know nothing of each other, with half of the
nets each, show what the machine allows.

Then it simulates 1,000 workers and 100,000 tasks. Tasks are replaced by sleeps of the lengths that
were measured, and instead of sleeping a clock is put forward; only the driver takes time, for what
it does otherwise too: files, and figures in 2% of the time that it takes.
"""

import argparse
import contextlib
import heapq
import importlib.util
import io
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from experiment.config.loading import load_config
from experiment.config.schema import Config
from experiment.config.yaml_syntax import dump
from experiment.core.files import write_whole
from experiment.reporting.logger import Logger
from experiment.runs.driver import Driver
from experiment.runs.engines.engine import Engine, EpochEnded, Event, Finished, Job, Listen
from experiment.runs.engines.in_process import InProcess
from experiment.runs.engines.processes import Processes
from experiment.runs.ledger import Ledger
from experiment.runs.live import Live
from experiment.runs.records import EvaluatedRecord, PrunedRecord, TrainedRecord
from experiment.runs.results import Result
from experiment.runs.run import Run, open_run
from experiment.runs.tasks import Evaluate, Prune, Retrain, Task, Train, tasks
from experiment.runs.waiting import longest_chain_first
from experiment.training.records import EpochRecord

ONE_WORKER = "1 worker"
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
CIFAR = 50_000 / 1_293  # how many more images CIFAR-10 has to train with than the digits

Lengths = dict[type[Task], list[float]]  # seconds of each kind of task


@dataclass(frozen=True)
class Measured:
    """A whole experiment."""

    seconds: float
    overheads: list[float]  # seconds of each job that are not its work
    lengths: Lengths


class Timed:
    """An engine that counts the time of tasks, and that between start and result of a job."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.num_workers = engine.num_workers
        self.overheads: list[float] = []  # less the work
        self.lengths: Lengths = {}
        self._started: dict[int, tuple[float, Job]] = {}

    def idle(self) -> Sequence[int]:
        return self.engine.idle()

    def start(self, worker: int, job: Job) -> None:
        self._started[worker] = (time.perf_counter(), job)
        self.engine.start(worker, job)

    def wait(self, listen: Listen, seconds: float | None = None) -> None:
        def hear(worker: int, event: Event) -> None:
            listen(worker, event)
            if isinstance(event, Finished):
                start, job = self._started[worker]
                self.overheads.append(time.perf_counter() - start - event.seconds)
                for task in job.tasks:
                    taken = event.seconds / len(job.tasks)
                    self.lengths.setdefault(type(task), []).append(taken)

        self.engine.wait(hear, seconds)

    def close(self) -> None:
        self.engine.close()


class Simulated:
    """Workers that sleep, by a clock that is put forward instead of waiting for them."""

    def __init__(self, num_workers: int, lengths: Lengths, num_epochs: int, longer: float):
        """`longer` is by how much trainings are longer than those that were measured."""
        self.num_workers = num_workers
        self.skipped = 0.0  # seconds
        self.busy = 0.0  # seconds, of all workers
        self._lengths = {kind: itertools.cycle(of_kind) for kind, of_kind in lengths.items()}
        self._num_epochs = num_epochs
        self._longer = longer
        self._idle = set(range(num_workers))
        self._events: list[tuple[float, int, int, Event]] = []  # a heap: when, number, worker
        self._numbers = itertools.count()

    def idle(self) -> Sequence[int]:
        return list(self._idle)

    def start(self, worker: int, job: Job) -> None:
        self._idle.discard(worker)
        [task] = job.tasks
        length = next(self._lengths[type(task)])
        if isinstance(task, Train | Retrain):
            length *= self._longer
        start = self.now
        epochs = simulated_epochs(task, length, self._num_epochs)
        for epoch in epochs:
            self._push(start + epoch.epoch * epoch.seconds, worker, EpochEnded(task.key, epoch))
        finished = Finished([simulated_result(task, epochs)], length)
        self._push(start + length, worker, finished)
        self.busy += length

    def wait(self, listen: Listen, seconds: float | None = None) -> None:
        moment, _, worker, event = heapq.heappop(self._events)
        self.skipped += max(0.0, moment - self.now)
        if isinstance(event, Finished):
            self._idle.add(worker)
        listen(worker, event)

    def _push(self, moment: float, worker: int, event: Event) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), worker, event))

    @property
    def now(self) -> float:
        return time.perf_counter() + self.skipped

    def close(self) -> None:
        pass


def simulated_epochs(task: Task, length: float, num_epochs: int) -> list[EpochRecord]:
    """The epochs of a training that takes so many seconds; none of another task."""
    if not isinstance(task, Train | Retrain):
        return []
    return [
        EpochRecord(
            epoch=number,
            learning_rate=0.1,
            train_loss=1.0,
            train_accuracy=0.5,
            validation_loss=1.0,
            validation_accuracy=0.5,
            seconds=length / num_epochs,
        )
        for number in range(1, num_epochs + 1)
    ]


def simulated_result(task: Task, epochs: list[EpochRecord]) -> Result:
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
    return Result(TrainedRecord(epochs=epochs, seconds=1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of all versions, in turn")
    parser.add_argument("--workers", type=int, default=1000, help="of the simulated cluster")
    parser.add_argument("--epochs", type=int, default=4, help="of a training that is measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "experiment.yaml")
        path.write_text(EXPERIMENT)
        config = load_config(path, [f"training.epochs={options.epochs}"])
        lengths = measure_speed(config, Path(folder), options.rounds)
        large = load_config(path, LARGE)
        for name, longer in {"digits": 1.0, "as many images as CIFAR-10 has": CIFAR}.items():
            simulated = Simulated(options.workers, lengths, options.epochs, longer)
            measure_driver(large, Path(folder, f"large-{longer}"), simulated, name)


def measure_speed(config: Config, folder: Path, rounds: int) -> Lengths:
    """Print tasks per minute of each version, from the first task to the last.

    Returns what the tasks have taken by one worker.
    """
    versions: dict[str, Callable[[Path], Measured]] = {
        "one process, 2 threads": lambda path: in_process(config, path, 2),
        "one process, 1 thread": lambda path: in_process(config, path, 1),
        ONE_WORKER: lambda path: by_workers(config, path, lambda: Processes(["cpu"], 1)),
        "2 workers": lambda path: by_workers(config, path, lambda: Processes(["cpu"] * 2, 1)),
        "2 processes, on their own": lambda path: on_their_own(config, path),
    }
    if importlib.util.find_spec("ray"):
        versions["Ray, 1 worker"] = lambda path: by_ray(config, path, 1)
        versions["Ray, 2 workers"] = lambda path: by_ray(config, path, 2)
    measured: dict[str, list[Measured]] = {name: [] for name in versions}
    for number in range(rounds):
        for index, (name, version) in enumerate(versions.items()):
            measured[name].append(version(folder / f"{number}-{index}"))
    count = len(tasks(config))
    print(f"{count} tasks of resnet20 on digits, medians of {rounds} rounds")
    usual = statistics.median(one.seconds for one in measured["one process, 2 threads"])
    single = statistics.median(one.seconds for one in measured["one process, 1 thread"])
    for name, of_version in measured.items():
        median = statistics.median(one.seconds for one in of_version)
        overheads = [seconds for one in of_version for seconds in one.overheads]
        print(
            f"{name:26} {60 * count / median:6.0f} tasks a minute  "
            f"{usual / median:5.2f} x 2 threads  {single / median:5.2f} x 1 thread"
            + (f"  {1000 * statistics.median(overheads):6.1f} ms overhead" if overheads else "")
        )
    lengths: Lengths = {}
    for one in measured[ONE_WORKER]:
        for kind, of_kind in one.lengths.items():
            lengths.setdefault(kind, []).extend(of_kind)
    return lengths


def in_process(config: Config, directory: Path, threads: int) -> Measured:
    """An experiment in this process."""
    torch.set_num_threads(threads)
    with contextlib.redirect_stdout(io.StringIO()):
        run, workplace = open_run(config, directory, "cpu")
        return timed(run, InProcess(workplace, config))


def by_workers(config: Config, directory: Path, start: Callable[[], Engine]) -> Measured:
    """The same by workers of one thread each, which have started before."""
    torch.set_num_threads(1)
    engine = start()
    with contextlib.closing(engine), contextlib.redirect_stdout(io.StringIO()):
        run, _ = open_run(config, directory, "cpu", ranks=longest_chain_first)
        while len(engine.idle()) < engine.num_workers:
            engine.wait(lambda worker, event: None)
        return timed(run, engine)


def by_ray(config: Config, directory: Path, num_workers: int) -> Measured:
    """The same on a Ray cluster of this machine."""
    from experiment.runs.engines.ray_cluster import RayCluster, Share, connected

    with connected(None, directory):
        return by_workers(config, directory, lambda: RayCluster(Share(1.0, 0.0), num_workers, 1))


def on_their_own(config: Config, directory: Path) -> Measured:
    """Half of the nets in each of two processes that start together and do not communicate."""
    half = config.model_copy(update={"num_nets": config.num_nets // 2})
    others = half.model_copy(update={"seed": config.seed + 1})
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(2)
    pipes = []
    for number, part in enumerate((half, others)):
        ours, theirs = context.Pipe(duplex=False)
        arguments = (part, directory / str(number), together, theirs)
        context.Process(target=_on_its_own, args=arguments, daemon=True).start()
        pipes.append(ours)
    return Measured(max(pipe.recv() for pipe in pipes), [], {})


def _on_its_own(config: Config, directory: Path, together: Barrier, tell: Connection) -> None:
    together.wait()
    tell.send(in_process(config, directory, 1).seconds)


def timed(run: Run, engine: Engine) -> Measured:
    watched = Timed(engine)
    start = time.perf_counter()
    Driver([run], watched).work()
    seconds = time.perf_counter() - start
    if run.failures:
        raise RuntimeError(run.failures[0])
    return Measured(seconds, watched.overheads, watched.lengths)


def measure_driver(config: Config, directory: Path, engine: Simulated, data: str) -> None:
    """Print what the driver takes of the time of a large experiment."""
    directory.mkdir(parents=True)
    planned = tasks(config)
    with contextlib.redirect_stdout(io.StringIO()):
        write_whole(directory / "config.yaml", dump(config.model_dump()))
        logger = Logger(directory)
        live = Live(config, directory, logger)
        ledger = Ledger(planned, directory, logger, config.run_id(), listen=live.add)
        start = time.perf_counter()
        run = Run(config, ledger, live, ranks=longest_chain_first)
        Driver([run], engine).work()
        seconds = time.perf_counter() - start
    assert len(ledger.results) == len({task.place for task in planned})
    in_all = seconds + engine.skipped
    print(
        f"{engine.num_workers} simulated workers, {len(planned)} tasks with {data}, "
        f"{engine.busy / len(planned):.2f} s on average: {in_all / 60:.1f} minutes, "
        f"of which the driver takes {seconds / in_all:.1%} "
        f"({1000 * seconds / len(planned):.2f} ms a task); "
        f"workers are busy for {engine.busy / engine.num_workers / in_all:.0%} of it"
    )


if __name__ == "__main__":
    main()
