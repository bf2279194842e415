"""Running whole experiments as commands, and comparing what they have found."""

import os
import subprocess
import sys
from pathlib import Path

import pandas
from conftest import ROOT

PARTS = ["num_nets=2", "checkpoints=all"]
TIMES = ["prune_seconds", "retrain_seconds", "seconds"]
KEY = ["method", "net_seed", "repetition", "step"]


def command(config: Path, results: Path, *arguments: str) -> list[str]:
    settings = [word for part in PARTS for word in ("--set", part)]
    where = ["--results", str(results), "--device", "cpu", "--threads", "1"]
    return [sys.executable, "-m", "experiment.main", str(config), *where, *settings, *arguments]


def launch(*arguments, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment, **options
    )


def content(results: Path) -> tuple[pandas.DataFrame, pandas.DataFrame, dict[str, bytes]]:
    """The tables of the only run there, times aside, and the files of all nets."""
    [directory] = {path.parent for path in results.rglob("results.csv")}
    tables = [
        pandas.read_csv(directory / name)
        .drop(columns=TIMES, errors="ignore")
        .sort_values(key, ignore_index=True)
        for name, key in (("results.csv", KEY), ("training.csv", [*KEY, "epoch"]))
    ]
    nets = {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*.safetensors")}
    return tables[0], tables[1], nets


def assert_same(results: Path, others: Path) -> None:
    for one, other in zip(content(results)[:2], content(others)[:2]):
        pandas.testing.assert_frame_equal(one, other, check_exact=True)
    assert content(results)[2] == content(others)[2] != {}


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
