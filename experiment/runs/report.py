"""Writes report.html for a run, or for several together. Reads their files, without torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment.core.errors import UserError
from experiment.core.files import read_file, write_whole
from experiment.core.text import visible
from experiment.reporting.run_files import REPORT, SWEEP_RUNS
from experiment.reporting.tables import load_layers
from experiment.runs.found import FoundRun, find_runs

if TYPE_CHECKING:
    from experiment.reporting.report.content import RunContent

# pandas and Jinja are imported when a report is written.


def write_report(
    directory: Path, target: Path | None = None, *, is_concluded: bool = False
) -> Path:
    """Write the report of a run, of the runs of a sweep, or of all runs below a directory.

    Args:
        directory: that of a run, of a sweep, or one that holds runs.
        target: the file; by default `report.html` in the directory.
        is_concluded: nothing of the run goes on, though this process still has its lock.

    Returns:
        The path of the file.

    Raises:
        UserError: if there is no run, or the files of one are damaged.
        StorageError: if the file cannot be written.
    """
    from experiment.reporting.report.page import page

    contents, left_out = _contents(reported_runs(directory), is_concluded)
    path = target or directory / REPORT
    write_whole(path, page(contents, visible(directory.resolve().name), left_out))
    return path


def reported_runs(directory: Path) -> Mapping[str, FoundRun]:
    """The runs of a report by their labels."""
    if (directory / SWEEP_RUNS).is_file():
        return _runs_of_sweep(directory)
    runs = find_runs(directory)
    if not runs:
        raise UserError(
            f"{directory}: holds no run, that is no config.yaml with an environment.json"
        )
    if runs[0].directory == directory:
        return {visible(directory.resolve().name): runs[0]}
    return {visible(str(run.directory.relative_to(directory))): run for run in runs}


def _runs_of_sweep(directory: Path) -> dict[str, FoundRun]:
    """The runs of a sweep that have begun, which lie beside it, by what was swept."""
    path = directory / SWEEP_RUNS
    try:
        names = json.loads(read_file(path))
        runs = {label: FoundRun(directory.parent / name) for label, name in names.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        raise UserError(f"{path}: cannot be read; run the sweep again to write it") from None
    there = {label: run for label, run in runs.items() if run.directory.is_dir()}
    if not there:
        raise UserError(f"{directory}: none of its runs is there; they lie beside it")
    return there


def _contents(
    runs: Mapping[str, FoundRun], is_concluded: bool
) -> "tuple[list[RunContent], list[str]]":
    """What the report says of each run, and why damaged ones are left out.

    Raises UserError if nothing is left.
    """
    contents = []
    damaged: list[UserError] = []
    for label, run in runs.items():
        try:
            contents.append(_content(label, run, is_concluded))
        except UserError as error:
            damaged.append(error)
    if not contents:
        raise damaged[0]
    return contents, [str(error) for error in damaged]


def _content(label: str, run: FoundRun, is_concluded: bool) -> "RunContent":
    """What the report says of a run. Raises UserError if its files are damaged."""
    import pandas

    from experiment.reporting.report.content import RunContent

    nothing = pandas.DataFrame()
    state = run.state_at_rest if is_concluded else run.state
    has_rows = run.num_rows > 0
    return RunContent(
        label=label,
        directory=visible(str(run.directory)),
        state=state,
        config=run.config,
        num_expected=run.num_expected,
        seconds_left=run.seconds_left() if state == "running" else None,
        rows=run.results if has_rows else nothing,
        summary=run.summary if has_rows else nothing,
        corruptions=run.corruption_summary if has_rows else nothing,
        failures=run.failures,
        environment=environment_of(run.directory),
        layers=layers if len(layers := load_layers(run.directory)) else None,
    )


def environment_of(directory: Path) -> dict[str, Any]:
    """What environment.json says; nothing if it is damaged."""
    try:
        found = json.loads(read_file(directory / "environment.json"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
