"""Small experiments that are disturbed, and comparisons with their undisturbed results."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.commands import Command
from benchmarks.faults.moments import Counts, count_moments

TIMES = ("prune_seconds", "retrain_seconds", "seconds")
TABLES = ("results.csv", "training.csv")
OF_TIMES = ("time_by_phase",)  # figures
SAME_BYTES = (".safetensors", ".yaml", ".png")
OTHER_SEED = 7

CASCADE = """
network: {name: lenet300_100}
dataset: {name: digits}
training: {epochs: 3, batch_size: 64, optimizer: {name: SGD, lr: 0.05, momentum: 0.9}}
pruning: {methods: [SiPP, WT], keep_ratios: [0.5, 0.2]}
num_nets: 2
nets_at_once: 1
checkpoint_minutes: 0
"""
REWIND = """
network: {name: lenet5}
dataset: {name: digits}
training: {epochs: 2, batch_size: 128, optimizer: {name: Adam, lr: 0.005}}
pruning:
  {methods: [WT, FT], keep_ratios: [0.5, 0.2], schedule: rewind, rewind_epoch: 1}
num_nets: 2
nets_at_once: 2
checkpoints: all
checkpoint_minutes: 0.0001
"""
SWEEP = """
network: {name: lenet300_100}
dataset: {name: digits}
training: {epochs: 2, batch_size: 64, optimizer: {name: SGD, lr: 0.05}}
pruning: {methods: [WT], keep_ratios: [0.5, 0.2]}
checkpoint_minutes: 0
sweep: {grid: {seed: [0, 1], pruning.delta: [1, 0.1]}}
"""
TEXTS = {"cascade": CASCADE, "rewind": REWIND, "sweep": SWEEP}


@dataclass(frozen=True)
class Experiment:
    """A small experiment, and what it leaves if nothing disturbs it."""

    name: str
    config: Path
    results: Path  # undisturbed
    seconds: float  # that it takes
    counts: Counts = field(default_factory=dict)  # how many moments of each kind it has
    foreign: Path | None = None  # the results of another experiment, with the same names of steps

    @classmethod
    def unrun(cls, name: str, folder: Path) -> "Experiment":
        """An experiment of which only the file is there."""
        config = folder / f"{name}.yaml"
        config.write_text(TEXTS[name])
        return cls(name, config, folder / name / "results", 0.0)

    @classmethod
    def undisturbed(cls, name: str, folder: Path) -> "Experiment":
        """An experiment that is run now."""
        empty = cls.unrun(name, folder)
        config, results = empty.config, empty.results
        counts = count_moments(empty.arguments(results), results, folder / name)
        foreign = folder / name / "foreign"
        if name != "sweep":
            others = [*empty.arguments(foreign), "--set", f"seed={OTHER_SEED}"]
            assert not Command.forked(others, folder / name).wait().problems()
        return cls(name, config, results, counts["seconds"], counts, foreign)

    def arguments(self, results: Path) -> list[str]:
        """Those of the command."""
        where = ["--results", str(results), "--device", "cpu", "--threads", "1"]
        return [str(self.config), *where]

    def directories(self, results: Path) -> list[Path]:
        """Those of its runs."""
        return sorted(path.parent for path in results.rglob("environment.json"))

    def problems(self, results: Path, but: Callable[[str], bool] = lambda name: False) -> list[str]:
        """How results differ from the undisturbed ones, and what else lies there.

        Files that `but` is true for are not looked at.
        """
        expected = {name for name in _files(self.results) if not but(name)}
        found = {name for name in _files(results) if not but(name)}
        problems = [f"missing: {name}" for name in sorted(expected - found)]
        problems += [f"left over: {name}" for name in sorted(found - expected)]
        for name in sorted(expected & found):
            if not _are_equal(self.results / name, results / name):
                problems.append(f"differs: {name}")
        return problems


def _files(results: Path) -> set[str]:
    """All files below a directory, without what was moved aside."""
    return {
        str(path.relative_to(results))
        for path in results.rglob("*")
        if not path.is_dir() and "damaged" not in path.relative_to(results).parts
    }


def _are_equal(one: Path, other: Path) -> bool:
    if not other.is_file():
        return False
    if one.name in TABLES:
        return _without_times(one) == _without_times(other)
    if one.stem in OF_TIMES:
        return bool(other.stat().st_size)
    if one.suffix in SAME_BYTES or one.name in ("summary.csv", "layers.csv"):
        return one.read_bytes() == other.read_bytes()
    return bool(other.stat().st_size)


def _without_times(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def copied(results: Path, target: Path) -> Path:
    """A copy of results that may be disturbed."""
    shutil.copytree(results, target, symlinks=True)
    return target
