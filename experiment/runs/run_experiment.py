"""Running an experiment from Python."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiment.config.schema import Config
from experiment.config.sweeps import Sweep, configs_of, load_experiment
from experiment.core.devices import choose_device
from experiment.core.errors import UserError
from experiment.reporting.sweep_tables import collect
from experiment.runs import driver, paths
from experiment.runs.lock import locked
from experiment.runs.preflight import Preflight
from experiment.runs.report import write_report
from experiment.runs.run_results import RunResults

NAME = "notebook"  # of the folder for experiments that are in no file


def run(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    results: str | Path = "results",
    device: str = "auto",
) -> RunResults:
    """Run an experiment, or go on with one that was interrupted, in this process.

    It is the run of `python -m experiment.main CONFIG --set ... --results ...`: both find what the
    other has done.

    Args:
        config: the path of a YAML file, or a mapping such as one holds; with a sweep, all its
            runs are done one after the other.
        overrides: `key.path=value` texts.
        results: where the directory of the run is put.
        device: `cpu`, `cuda`, `cuda:1` ..., or `auto`.

    Returns:
        What was found. What failed, while the rest went on, is in its `failures`.

    Raises:
        UserError: for bad input, or if nothing could be trained.
        LockedError: if another process has the run.
        StorageError: if a file cannot be written.

    Example:
        >>> found = experiment.run("paper/sipp/digits/cascade/lenet5.yaml", ["num_nets=2"])
        >>> found.summary
    """
    name = NAME if isinstance(config, Mapping) else str(config)
    return run_named(config, name, overrides, results=results, device=device)


def run_named(
    config: str | Path | Mapping[str, Any],
    name: str,
    overrides: Sequence[str] = (),
    *,
    results: str | Path = "results",
    device: str = "auto",
) -> RunResults:
    """The same, in a folder that is called as a file of that name would be."""
    content = load_experiment(config, list(overrides))
    paths.require_directory(results)
    chosen = choose_device(device)
    configs = configs_of(content)
    directories = [paths.results_directory(name, one.run_id(), results) for one in configs]
    _try_out(configs, directories, chosen)
    mistakes: list[UserError] = []
    for one, directory in zip(configs, directories):
        try:
            with locked(directory) as lock:
                driver.run(one, directory, chosen, paths.shared_nets(results), lock)
        except UserError as error:  # of one run of a sweep, perhaps
            mistakes.append(error)
    if len(mistakes) == len(configs):
        raise mistakes[0]
    if not isinstance(content, Sweep):
        return RunResults(directories[0])
    for mistake in mistakes:
        warnings.warn(f"a run of the sweep failed: {mistake}", stacklevel=3)
    together = paths.results_directory(name, content.sweep_id(), results)
    with locked(together):
        collect(content, directories, together)
        write_report(together)
    return RunResults(together)


def _try_out(configs: list[Config], directories: list[Path], device: str) -> None:
    """Try the parts of the runs that have not begun. Raises UserError, one line per mistake."""
    preflight = Preflight(device)
    mistakes: dict[str, None] = {}
    for config, directory in zip(configs, directories):
        if not directory.exists():
            try:
                preflight.check(config)
            except UserError as error:
                mistakes |= dict.fromkeys(error.mistakes)
    if mistakes:
        raise UserError(*mistakes)
