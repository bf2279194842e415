"""Running whole experiments as commands, and comparing what they have found."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas
import pytest
from conftest import ROOT

from experiment.main import main

TIMES = ["prune_seconds", "retrain_seconds", "seconds"]
KEY = ["method", "net_seed", "repetition", "step"]
KEYS = {
    "results.csv": KEY,
    "training.csv": [*KEY, "epoch"],
    "corruptions.csv": [*KEY, "corruption", "severity"],
}

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="finds processes in /proc"
)


def command(config: Path, results: Path, *arguments: str) -> list[str]:
    where = ["--results", str(results), "--device", "cpu", "--threads", "1"]
    return [sys.executable, "-m", "experiment.main", str(config), *where, *arguments]


def run_here(*arguments) -> subprocess.CompletedProcess:
    """The command in this process, which has imported already what a process of its own must."""
    out, err = io.StringIO(), io.StringIO()
    words = command(*arguments)[3:]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def launch(*arguments, launcher: Sequence[str] = ()) -> subprocess.CompletedProcess:
    """The command in a process of its own, when it has ended."""
    process = start(*arguments, launcher=launcher)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start(*arguments, launcher: Sequence[str] = ()) -> subprocess.Popen:
    """The command, which runs; in the processes that a launcher, like torchrun, starts."""
    return subprocess.Popen(
        [sys.executable, *launcher, *command(*arguments)[1:]],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )


def heed_signals() -> None:
    """Let a new process be ended by signals, even those that the tests themselves ignore."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(pattern: str, results: Path, process: subprocess.Popen) -> None:
    """Wait until a running command has written a file of such a name."""
    while not list(results.rglob(pattern)):
        time.sleep(0.02)
        assert process.poll() is None, process.communicate()


def content(results: Path) -> tuple[list[pandas.DataFrame], dict[str, bytes]]:
    """The tables of the only run there, times aside, and the files of all nets."""
    [directory] = {path.parent for path in results.rglob("results.csv")}
    tables = [
        pandas.read_csv(directory / name)
        .drop(columns=TIMES, errors="ignore")
        .sort_values(key, ignore_index=True)
        for name, key in KEYS.items()
        if (directory / name).exists()
    ]
    nets = {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*.safetensors")}
    return tables, nets


def assert_same(results: Path, others: Path) -> None:
    (tables, nets), (other_tables, other_nets) = content(results), content(others)
    for one, other in zip(tables, other_tables, strict=True):
        pandas.testing.assert_frame_equal(one, other, check_exact=True)
    assert nets == other_nets != {}


def processes() -> dict[int, list[str]]:
    """What /proc says of each process: state, parent, group and so on."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
    return found


def is_running(process: int) -> bool:
    """Whether a process is there; one that nobody waits for counts as ended."""
    return processes().get(process, "Z")[0] != "Z"
