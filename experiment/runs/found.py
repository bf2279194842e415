"""Runs that are there: what they are about, how far they are, and what they have found.

Reads what runs have written, without torch, so that it takes no time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from experiment.config.schedules import judged, steps_of
from experiment.config.schema import Config
from experiment.core.errors import LockedError, UserError, first_line
from experiment.reporting.run_files import summary_of
from experiment.reporting.tables import (
    FAILURES,
    RESULTS,
    TRAINING,
    load_corruptions,
    load_results,
)
from experiment.runs.lock import NAME, holder_of

if TYPE_CHECKING:
    import pandas

CONFIG = "config.yaml"

State = Literal["done", "running", "failed", "interrupted", "damaged"]


@dataclass(frozen=True)
class FoundRun:
    """A run's directory."""

    directory: Path

    @cached_property
    def config(self) -> Config:
        """Its configuration. Raises UserError if that is not one of this version."""
        path = self.directory / CONFIG
        try:
            values = _read_yaml(path)
            return Config(**values)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, ValueError, TypeError, RecursionError):
            raise UserError(f"{path}: is not the configuration of a run") from None

    @cached_property
    def results(self) -> "pandas.DataFrame":
        """The rows of results.csv. Raises UserError if they cannot be read."""
        return load_results(self.directory)

    @cached_property
    def corruptions(self) -> "pandas.DataFrame":
        """The rows of corruptions.csv, none without it. Raises UserError if they cannot be read."""
        return load_corruptions(self.directory)

    @cached_property
    def failures(self) -> "pandas.DataFrame":
        """The rows of failures.csv; none if nothing has failed."""
        return _rows(self.directory / FAILURES)

    @cached_property
    def state(self) -> State:
        """Whether it is finished or, if not, why."""
        return "running" if self.is_running else self.state_at_rest

    @property
    def state_at_rest(self) -> State:
        """The state if no process works at it."""
        try:
            if len(self.failures):
                return "failed"
            has_rows = self.num_rows >= self.num_expected
            is_done = has_rows and len(self.corruptions) >= self.num_corrupted_expected
            return "done" if is_done else "interrupted"
        except UserError:
            return "damaged"

    @property
    def is_running(self) -> bool:
        """Whether a process has its lock, and may be running: here, or on another host."""
        try:
            holder = holder_of(self.directory / NAME)
        except (LockedError, OSError):  # of another version, or just being written
            return True
        return holder is not None and (not holder.is_here or holder.is_running)

    @property
    def num_rows(self) -> int:
        """How many nets were measured. Raises UserError if that cannot be read."""
        return len(self.results) if (self.directory / RESULTS).exists() else 0

    @property
    def num_expected(self) -> int:
        """How many nets the finished run has measured. Raises UserError without configuration."""
        return self.config.num_nets + self.config.num_prunings

    @property
    def num_corrupted_expected(self) -> int:
        """How many evaluations on corrupted images the finished run has done."""
        config = self.config
        of_methods = [judged(steps_of(config, method)) for method in config.pruning.methods]
        num_judged = config.num_nets * config.num_repetitions * sum(map(len, of_methods))
        return (config.num_nets + num_judged) * len(config.evaluation.corrupted)

    @cached_property
    def corruption_summary(self) -> "pandas.DataFrame":
        """How far each method can prune on corrupted images, empty if none were asked for.

        Raises UserError if the results cannot be read.
        """
        from experiment.reporting.corruption_summary import summarise_corruptions

        margin = self.config.pruning.commensurate_margin
        return summarise_corruptions(self.results, self.corruptions, margin)

    @cached_property
    def summary(self) -> "pandas.DataFrame":
        """How far each method can prune. Raises UserError if the results cannot be read."""
        return summary_of(self.results, self.directory, self.config.pruning.commensurate_margin)

    @cached_property
    def tests(self) -> "pandas.DataFrame":
        """The tests of the guarantee; no rows without any. Raises UserError for another file."""
        from experiment.reporting.tables import load_holdout

        return load_holdout(self.directory)

    def seconds_left(self) -> float | None:
        """How long its epochs would take in one process; None if none was measured yet."""
        config = self.config
        num_retrainings = (config.num_nets * config.num_repetitions) * sum(
            step.retrained for method in config.pruning.methods for step in steps_of(config, method)
        )
        expected = config.num_nets * config.training.epochs
        epochs_before = config.pruning.rewind_epoch if config.pruning.schedule == "rewind" else 0
        expected += num_retrainings * (config.retraining.epochs - epochs_before)
        path = self.directory / TRAINING
        epochs = _rows(path)
        if not len(epochs):
            return None
        if "seconds" not in epochs or epochs["seconds"].dtype.kind not in "if":
            raise UserError(f"{path}: is not a table of epochs")
        return float(max(0, expected - len(epochs)) * epochs["seconds"].mean())


def find_runs(directory: Path) -> list[FoundRun]:
    """All runs in a directory or below it, in the order of their paths.

    Raises:
        UserError: if there is no such directory.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory")
    return [FoundRun(one) for one in sorted(_run_directories(directory))]


def found_run(path: str | Path) -> FoundRun:
    """The run in a directory, or the only one below it.

    Raises:
        UserError: if there is none, or several.
    """
    runs = find_runs(Path(path))
    if not runs:
        raise UserError(f"{path}: holds no run, that is no {CONFIG} with an environment.json")
    if len(runs) > 1:
        names = ", ".join(str(run.directory.relative_to(path)) for run in runs[:5])
        more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
        raise UserError(f"{path}: holds {len(runs)} runs; name one of {names}{more}")
    return runs[0]


def named_runs(paths: Sequence[str]) -> dict[str, FoundRun]:
    """Runs by their ids, or by their paths if two have the same id.

    Raises:
        UserError: if there is no run, or one is named twice.
    """
    runs = [found_run(path) for path in paths]
    directories = [run.directory.resolve() for run in runs]
    for directory in directories:
        if directories.count(directory) > 1:
            raise UserError(f"{directory}: is named twice")
    ids = [directory.name for directory in directories]
    names = ids if len(set(ids)) == len(ids) else [str(run.directory) for run in runs]
    return dict(zip(names, runs))


def _run_directories(directory: Path) -> Iterator[Path]:
    """The directories that hold a run; the files of runs are not searched for others."""
    if (directory / CONFIG).is_file() and (directory / "environment.json").is_file():
        yield directory
        return
    try:
        inner = [one for one in directory.iterdir() if one.is_dir() and not one.is_symlink()]
    except OSError:  # not ours to read
        return
    for one in inner:
        if not one.name.startswith("."):
            yield from _run_directories(one)


def _read_yaml(path: Path) -> Any:
    """A file that this software has written, by the fastest reader that there is."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)


def _rows(path: Path) -> "pandas.DataFrame":
    """The rows of a table of a run, none if it is not there. Raises UserError if it is damaged."""
    import pandas

    try:
        return pandas.read_csv(path)
    except FileNotFoundError:
        return pandas.DataFrame()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {first_line(error)}") from None
