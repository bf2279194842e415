"""Directories that are full, read-only or deleted, closed output, and two commands at once."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.cases import Case, Found
from benchmarks.faults.commands import Command, Ended
from benchmarks.faults.experiments import copied
from benchmarks.faults.moments import FILE_EVENT, PHASES, Moment

ENOUGH = "200m"


class SkippedError(Exception):
    """A case cannot be done here."""


@contextlib.contextmanager
def mounted(folder: Path, size: str = ENOUGH) -> Iterator[None]:
    """A block in which a folder is a file system of its own, of that size."""
    folder.mkdir(parents=True)
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(options, capture_output=True, text=True)
    if done.returncode:
        raise SkippedError(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def full(case: Case) -> Found:
    """A file system gets full at any moment."""
    whole = sum(path.stat().st_size for path in case.experiment.results.rglob("*"))
    size = case.random.randrange(20, max(21, whole // 1024))
    with mounted(case.results, f"{size}k"):
        case.tell(f"{size} KiB")
        ended = Command.forked(case.arguments, case.folder).wait()
        problems = [] if ended.code == 0 else _problems_of_storage(ended, case, "No space left")
        remount(case.results, f"size={ENOUGH}")
        return Found(problems + case.resume())


def full_at_the_end(case: Case) -> Found:
    """A file system gets full while the summary or the figure is written."""
    with mounted(case.results):
        kind = case.random.choice(["summary", "figures"])
        case.tell(kind)

        def prepare() -> None:
            _before(kind, lambda: _fill(case.results))

        ended = Command.forked(case.arguments, case.folder, prepare).wait()
        problems = _problems_of_storage(ended, case, "No space left")
        (case.results / "filling").unlink()
        return Found(problems + case.resume())


def _fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def read_only(case: Case) -> Found:
    """A file system can only be read, from any moment on."""
    with mounted(case.results):
        kind, number = _phase(case)
        ended = Command.forked(
            case.arguments,
            case.folder,
            lambda: _before(kind, lambda: remount(case.results, "ro"), number),
        ).wait()
        # At first, it is the argument --results that is wrong.
        code = 2 if kind == "loading" else 1
        problems = _problems_of_storage(ended, case, "Read-only file system", code)
        remount(case.results, "rw")
        return Found(problems + case.resume())


def vanished(case: Case) -> Found:
    """The results are deleted while the command runs."""
    kind, number = _phase(case)
    ended = Command.forked(
        case.arguments,
        case.folder,
        lambda: _before(kind, lambda: shutil.rmtree(case.results), number),
    ).wait()
    problems = [] if ended.code in (0, 1, 3) else ended.problems(1)
    if "Traceback" in ended.err:
        problems.append(f"a traceback: {ended.err[-1500:]}")
    if ended.code and str(case.results) not in ended.err:
        problems.append(f"no path is named: {ended.err!r}")
    return Found(problems + case.resume())


def _phase(case: Case) -> tuple[str, int]:
    kind = case.random.choice([one for one in PHASES if case.experiment.counts.get(one)])
    if kind == "sweep tables":
        kind = "figures"
    number = case.random.randrange(case.experiment.counts[kind])
    case.tell(f"{kind} {number}")
    return kind, number


def _before(kind: str, action: object, number: int = 0) -> None:
    """Do something right before a phase begins for the `number`-th time."""
    place, name = PHASES[kind]
    function = getattr(place, name)
    count = 0

    def acting(*arguments: object, **options: object) -> object:
        nonlocal count
        if count == number:
            action()  # type: ignore[operator]
        count += 1
        return function(*arguments, **options)

    setattr(place, name, acting)


def _problems_of_storage(ended: Ended, case: Case, reason: str, code: int = 1) -> list[str]:
    """What is wrong with how a command ended that could not write."""
    problems = ended.problems(code)
    lines = ended.err.splitlines()
    if len(lines) != 1 or str(case.results) not in lines[0] or reason not in lines[0]:
        problems.append(f"says: {ended.err!r}")
    return problems


def closed_output(case: Case) -> Found:
    """Nobody reads the output, from the start or from a line on."""
    ways = [[1], [2], [1, 2], [0, 1, 2]]
    closed = case.random.choice(ways)
    broken = case.random.random() < 0.5

    def prepare() -> None:
        if not broken:
            for number in closed:
                os.close(number)
            return
        reading, writing = os.pipe()
        os.close(reading)
        for number in closed:
            if number:
                os.dup2(writing, number)

    case.tell(f"{'broken' if broken else 'closed'}: {closed}")
    ended = Command.forked(case.arguments, case.folder, prepare).wait()
    return Found(ended.problems() + case.experiment.problems(case.results))


def two_at_once(case: Case) -> Found:
    """The same command is started twice at once; the second one ends with 3, or after the first."""
    both = [Command.forked(case.arguments, case.folder / "one")]
    time.sleep(case.random.choice([0, 0, case.random.uniform(0, case.experiment.seconds)]))
    both.append(Command.forked(case.arguments, case.folder / "two"))
    ended = [command.wait() for command in both]
    codes = sorted(one.code for one in ended)
    problems = [] if codes in ([0, 0], [0, 3]) else [f"exit codes {codes}"]
    for one in ended:
        problems += one.problems(one.code)
        if one.code == 3 and "is in use by process" not in one.err:
            problems.append(f"says: {one.err!r}")
    return Found(problems + case.experiment.problems(case.results))


def two_that_take_over(case: Case) -> Found:
    """The command is started twice at once where a killed process has left its lock."""
    count = case.experiment.counts[FILE_EVENT]
    moment = Moment(FILE_EVENT, case.random.randrange(count), signal.SIGKILL)
    case.tell(moment)
    Command.forked(
        case.arguments, case.folder, lambda: moment.prepare(case.results, case.folder / "told")
    ).wait()
    return two_at_once(case)


def damaged_lock(case: Case) -> Found:
    """The lock is no lock: the command says so, and goes on once it was deleted."""
    copied(case.experiment.results, case.results)
    [directory] = case.experiment.directories(case.results)
    lock = directory / "run.lock"
    way = case.random.choice(["empty", "half", "pipe", "folder", "binary", "nested"])
    case.tell(way)
    if way == "pipe":
        os.mkfifo(lock)
    elif way == "folder":
        lock.mkdir()
    else:
        texts = {
            "empty": b"",
            "half": b'{"host": "a',
            "binary": b"\xff\xfe",
            "nested": b"[" * 99999,
        }
        lock.write_bytes(texts[way])
    ended = Command.forked(case.arguments, case.folder).wait(20)
    problems = ended.problems(3)
    if str(lock) not in ended.err:
        problems.append(f"says: {ended.err!r}")
    lock.rmdir() if way == "folder" else lock.unlink()
    return Found(problems + case.resume())


KINDS = {
    "full disk": full,
    "full disk at the end": full_at_the_end,
    "read-only directory": read_only,
    "vanished directory": vanished,
    "closed output": closed_output,
    "two at once": two_at_once,
    "two after a kill": two_that_take_over,
    "damaged lock": damaged_lock,
}
