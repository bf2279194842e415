"""Run experiments from YAML files and write accuracy-versus-sparsity curves.

To resume a run that was interrupted, run the same command again.
"""

import argparse
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.commands._arguments import add_device, add_overrides, add_results
from experiment.core.errors import UserError

if TYPE_CHECKING:
    from experiment.config.schema import Config
    from experiment.config.sweeps import Sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="YAML file of an experiment")
    add_overrides(parser)
    add_results(parser)
    add_device(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be run and what it would cost"
    )


def run(options: argparse.Namespace) -> int:
    """Check all configurations, then plan or run them one after the other."""
    from experiment.config.sweeps import Sweep
    from experiment.core.devices import choose_device

    experiments = [(path, load(path, options.overrides)) for path in options.configs]
    if options.dry_run:
        for path, content in experiments:
            print(plan(path, content))
        return 0
    device = choose_device(options.device)
    codes = []
    for path, content in experiments:
        if isinstance(content, Sweep):
            codes.append(run_sweep(path, content, options.results, device))
        else:
            codes.append(run_config(path, content, options.results, device))
    return max(codes)


def load(path: str, overrides: list[str]) -> "Config | Sweep":
    """The sweep of a file that has one, else its configuration."""
    from experiment.config.loading import load_config
    from experiment.config.sweeps import load_sweep

    return load_sweep(path, overrides) or load_config(path, overrides)


def plan(path: str, content: "Config | Sweep") -> str:
    """What a configuration or a sweep would do and cost."""
    from experiment.config.sweeps import Sweep
    from experiment.runs.dry_run import describe, describe_sweep

    return describe_sweep(content, path) if isinstance(content, Sweep) else describe(content, path)


def run_config(path: str, config: "Config", results: str, device: str) -> int:
    """Run one configuration; print what failed and where the plot is. Returns the exit code."""
    from experiment.runs import execution, paths

    directory = paths.results_directory(path, config.run_id(), results)
    try:
        outcome = execution.run(config, directory, device, paths.shared_nets(results))
    except UserError as error:
        print(f"error: {path}: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, for instance
        print(f"failed: {path}: {error}", file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        print(f"failed: {path}", file=sys.stderr)
        return 1
    for failure in outcome.failures:
        print(f"failed: {path}: {failure}", file=sys.stderr)
    if outcome.plot is not None:
        print(f"plot: {outcome.plot}")
    return 1 if outcome.failures else 0


def run_sweep(path: str, sweep: "Sweep", results: str, device: str) -> int:
    """Run all combinations of a sweep, each in its own directory, then collect their results.

    Returns the largest exit code.
    """
    from experiment.reporting.sweep_tables import collect
    from experiment.runs.paths import results_directory

    codes: list[int] = []
    directories: list[Path] = []
    for index, combination in enumerate(sweep.combinations, 1):
        print(f"run {index} of {len(sweep.combinations)}: {combination.label}")
        codes.append(run_config(path, combination.config, results, device))
        directories.append(results_directory(path, combination.config.run_id(), results))
    text, plot = collect(sweep, directories, results_directory(path, sweep.sweep_id(), results))
    print(text)
    print(f"plot: {plot}")
    return max(codes)
