"""Run pruning experiments: `python -m experiment.main CONFIG [CONFIG ...]`."""

import argparse
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiment.config.schema import Config
    from experiment.config.sweeps import Sweep

SHARED_NETS = ".nets"  # in the results directory: trained nets, shared by all runs there


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m experiment.main",
        description="Run pruning experiments from YAML files and write accuracy-versus-sparsity curves.",
        epilog="A run that was stopped goes on where it stopped when the same command is given again.",
    )
    result.add_argument("configs", nargs="+", metavar="CONFIG", help="YAML file of an experiment")
    add_common_arguments(result)
    result.add_argument(
        "--dry-run", action="store_true", help="print what would be run and how much it would cost"
    )
    return result


def add_common_arguments(target: argparse.ArgumentParser) -> None:
    """The arguments of every command that works on an experiment."""
    target.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        dest="overrides",
        help="set a key of the configuration to a YAML value; repeatable",
    )
    target.add_argument(
        "--results", default="results", metavar="DIR", help="where results go (default: results)"
    )
    target.add_argument(
        "--device",
        default="auto",
        choices=["auto", "cpu", "cuda", "mps"],
        help="default: auto, the fastest there is",
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, 1 if a part of an experiment failed, 2 for bad input, 130 if interrupted."""
    return guarded(launch, parser().parse_args(arguments))


def guarded(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a command; turn bad input and interruptions into one line and their exit codes."""
    from experiment.core.errors import (
        UserError,  # what a command imports, torch too, comes after the arguments
    )

    try:
        return command(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command takes up what this one has finished", file=sys.stderr)
        return 130


def launch(options: argparse.Namespace) -> int:
    """Check all configurations, then plan or run them one after the other."""
    from experiment.config.schema import load_config
    from experiment.config.sweeps import Sweep, load_sweep
    from experiment.core.devices import choose_device
    from experiment.runs.dry_run import describe, describe_sweep

    found = [
        (path, load_sweep(path, options.overrides) or load_config(path, options.overrides))
        for path in options.configs
    ]
    if options.dry_run:
        print(
            "\n".join(
                (describe_sweep if isinstance(content, Sweep) else describe)(content, path)
                for path, content in found
            )
        )
        return 0
    device = choose_device(options.device)
    return max(
        (launch_sweep if isinstance(content, Sweep) else launch_run)(
            path, content, options.results, device
        )
        for path, content in found
    )


def launch_run(path: str, config: "Config", results: str, device: str) -> int:
    """Run one configuration; print what failed and where the plot is. The exit code."""
    from experiment.core.errors import UserError
    from experiment.runs.serial import run

    try:
        outcome = run(
            config,
            results_directory(path, config.run_id(), results),
            device,
            Path(results, SHARED_NETS),
        )
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


def launch_sweep(path: str, sweep: "Sweep", results: str, device: str) -> int:
    """Run all combinations of a sweep, each in its own directory, then collect what they found. The exit code."""
    from experiment.reporting.sweep_tables import collect

    codes, runs = [], sweep.combinations
    for index, combination in enumerate(runs, 1):
        print(f"run {index} of {len(runs)}: {combination.label}")
        codes.append(launch_run(path, combination.config, results, device))
    directories = [
        results_directory(path, combination.config.run_id(), results) for combination in runs
    ]
    text, plot = collect(sweep, directories, results_directory(path, sweep.sweep_id(), results))
    print(f"{text}\nplot: {plot}")
    return max(codes)


def results_directory(path: str, run_id: str, results: str) -> Path:
    """`results/<path of the file below paper/, without .yaml>/<run id>`; for other files their name alone."""
    parts = Path(path).resolve().with_suffix("").parts
    if "paper" in parts[:-1]:
        last = len(parts) - 1 - parts[::-1].index("paper")
        parts = parts[last + 1 :] if last < len(parts) - 1 else parts[-1:]
    else:
        parts = parts[-1:]
    return Path(results, *parts, run_id)


if __name__ == "__main__":
    sys.exit(main())
