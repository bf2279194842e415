"""Experiments that are killed, or sent a signal, at any moment; then the same command goes on."""

import contextlib
import functools
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.faults.cases import Case, Found
from benchmarks.faults.commands import NAMES, Command, Ended
from benchmarks.faults.experiments import Experiment
from benchmarks.faults.moments import FILE_EVENT, LONGEST_DELAY, PHASES, TIME, TORN, Moment

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
SAID = "interrupted; run the same command again to resume"
AT_MOST = 5.0  # seconds to end after a signal
SHARE_OF_SIGNALS = 0.35
IMPORTS = 2.5  # seconds, about
STARTING = 6.0  # seconds that workers take to start, about


def one_process(case: Case) -> Found:
    """One to three kills or signals at moments of a process, then the undisturbed command."""
    random_ = case.random
    problems: list[str] = []
    slowest = 0.0
    for _ in range(random_.choice([1, 1, 1, 2, 3])):
        moment = _draw(random_, case.experiment)
        case.tell(moment)
        told = case.folder / "told"
        told.unlink(missing_ok=True)
        command = Command.forked(
            case.arguments, case.folder, functools.partial(moment.prepare, case.results, told)
        )
        if moment.kind == TIME:
            time.sleep(moment.delay)
            sent = command.signal(moment.signal)
            ended = command.wait()
        else:
            ended = command.wait()
            sent = float(told.read_text()) if told.exists() else ended.at
        problems += _problems_of_end(ended, moment.signal, sent)
        slowest = max(slowest, ended.at - sent)
    return Found(problems + case.resume(), slowest)


def _draw(random_: random.Random, experiment: Experiment) -> Moment:
    """A moment of an experiment."""
    number = signal.SIGKILL
    if random_.random() < SHARE_OF_SIGNALS:
        number = random_.choice(SIGNALS)
    kinds = [TIME, TIME, FILE_EVENT, FILE_EVENT, TORN, *PHASES]
    kind = random_.choice([one for one in kinds if experiment.counts.get(one, 1)])
    if kind == TIME:
        return Moment(kind, 0, number, delay=random_.uniform(0, 1.1 * experiment.seconds))
    moment = Moment(
        kind, random_.randrange(experiment.counts[kind]), number, share=random_.random()
    )
    if kind == TORN:
        return replace(moment, signal=signal.SIGKILL)
    if kind == FILE_EVENT:
        return moment
    return replace(moment, delay=random_.uniform(0.0001, LONGEST_DELAY))


def imports(case: Case) -> Found:
    """A signal while a command that was started as people do it imports what it needs."""
    command = Command.started(case.arguments, case.folder)
    moment = Moment("imports", 0, case.random.choice([signal.SIGKILL, *SIGNALS]))
    moment = replace(moment, delay=case.random.uniform(0.1, IMPORTS))
    case.tell(moment)
    wait_for_python(command.process)
    time.sleep(moment.delay)
    sent = command.signal(moment.signal)
    ended = command.wait()
    problems = _problems_of_end(ended, moment.signal, sent)
    return Found(problems + case.resume(), ended.at - sent)


def wait_for_python(process: int) -> None:
    """Wait until a new process has become Python."""
    with contextlib.suppress(OSError):
        while b"experiment.main" not in Path(f"/proc/{process}/cmdline").read_bytes():
            time.sleep(0.002)


def worker(case: Case) -> Found:
    """A worker of two is killed; the command itself goes on."""
    command = Command.started([*case.arguments, "--workers", "2"], case.folder)
    _wait_for_workers(case, command)
    time.sleep(case.random.uniform(0, STARTING))
    workers = _children(command.process, "spawn_main")
    if workers:
        case.tell(f"a worker of {len(workers)} killed")
        with contextlib.suppress(ProcessLookupError):
            os.kill(case.random.choice(workers), signal.SIGKILL)
    ended = command.wait()
    return Found(ended.problems() + case.experiment.problems(case.results), 0.0)


def driver_of_workers(case: Case) -> Found:
    """The driver of two workers is killed or sent a signal, and the same command goes on."""
    arguments = [*case.arguments, "--workers", "2"]
    command = Command.started(arguments, case.folder)
    _wait_for_workers(case, command)
    number = case.random.choice([signal.SIGKILL, signal.SIGKILL, *SIGNALS])
    case.tell(Moment("of workers", 0, number, delay=case.random.uniform(0, STARTING)))
    time.sleep(case.random.uniform(0, STARTING))
    workers = _children(command.process, "spawn_main")
    sent = command.signal(number)
    ended = command.wait()
    problems = _problems_of_end(ended, number, sent)
    if not _until(lambda: not any(map(_is_running, workers)), AT_MOST):
        problems.append("workers are left over")
    slowest = time.monotonic() - sent
    again = Command.started(arguments, case.folder).wait()
    return Found(problems + again.problems() + case.experiment.problems(case.results), slowest)


def _wait_for_workers(case: Case, command: Command) -> None:
    _until(lambda: any(case.results.rglob("log.txt")) or not _is_running(command.process), 60)


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds. Returns whether it does."""
    limit = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def _stat(process: int) -> list[str]:
    """What the system says of a process: state, parent and so on. Nothing if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _is_running(process: int) -> bool:
    return bool(_stat(process)) and _stat(process)[0] not in "ZX"


def _children(parent: int, word: str) -> list[int]:
    """The processes of that parent with that word in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError, IndexError):
            process = int(path.parent.name)
            if word in path.read_text() and int(_stat(process)[1]) == parent:
                found.append(process)
    return found


def _problems_of_end(ended: Ended, number: int, sent: float) -> list[str]:
    """What is wrong with the way in which a signal has ended a process."""
    if ended.code == 0:  # it was done before
        return []
    if number == signal.SIGKILL:
        return ended.problems(-number)
    problems = ended.problems(128 + number)
    if ended.at - sent > AT_MOST:
        problems.append(f"took {ended.at - sent:.1f} s to end after {NAMES[number]}")
    if ended.err.count(SAID) != 1 or not ended.err.endswith(f"{SAID}\n"):
        problems.append(f"says after {NAMES[number]}: {ended.err!r}")
    return problems
