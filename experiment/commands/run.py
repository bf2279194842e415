"""Run experiments from YAML files and write accuracy-versus-sparsity curves.

To resume a run that was interrupted, run the same command again.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.commands._arguments import (
    add_device,
    add_no_own_code,
    add_overrides,
    add_results,
    add_verify_data,
)
from experiment.commands._engines import Workers, add_engine, opened_team, opened_workers
from experiment.commands._errors import tell
from experiment.core import torchrun
from experiment.core.console import say, say_line
from experiment.core.errors import LockedError, StorageError, UserError, details_of

if TYPE_CHECKING:
    from experiment.config.schema import Config
    from experiment.config.sweeps import Sweep
    from experiment.runs.run import Outcome

    Experiments = Sequence[tuple[str, Config | Sweep]]  # each with its path
    Conclude = Callable[[str, Config | Sweep, argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="YAML file of an experiment")
    add_overrides(parser)
    add_how_to_run(parser)


def add_how_to_run(parser: argparse.ArgumentParser) -> None:
    """The arguments of all commands that run experiments: where, by what, or only planned."""
    add_no_own_code(parser)
    add_verify_data(parser)
    add_results(parser)
    add_device(parser)
    add_engine(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be run and what it would cost"
    )
    parser.add_argument(
        "--time", action="store_true", help="with --dry-run: measure how many hours it would take"
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="go on with runs that a process on another host, which runs no more, has left",
    )


def run(options: argparse.Namespace) -> int:
    """Check all configurations, then plan or run them one file after the other."""
    return run_experiments(lambda: load_all(options), options, collect_sweep)


def run_experiments(
    load: "Callable[[], Experiments]", options: argparse.Namespace, conclude: "Conclude"
) -> int:
    """Plan or run experiments one after the other, as the options of `add_how_to_run` say.

    Args:
        load: reads them; of a team of processes, only the first one does.
        options: of the command line.
        conclude: called after the runs of each experiment with its path and content and the
            options; returns an exit code.

    Returns:
        The exit code.
    """
    from experiment.runs.paths import require_directory

    if options.time and not options.dry_run:
        raise UserError("--time: only measures what a run would take; add --dry-run")
    member = torchrun.member()
    if member is not None and not options.dry_run:
        return run_in_team(load, options, member, conclude)
    if torchrun.is_follower():
        return 0
    experiments = load()
    if options.time:
        return plan_with_time(experiments, options.device)
    if options.dry_run:
        for path, content in experiments:
            try:
                say(plan(path, content))
            except UserError as error:
                raise error.within(path) from error
        return 0
    require_directory(options.results)
    try_out(experiments, options)

    exit_codes = []
    with opened_workers(options) as workers:
        for path, content in experiments:
            run_all = run_one_by_one if workers.engine is None else run_at_once
            exit_codes += run_all(path, content, options, workers)
            exit_codes.append(conclude(path, content, options))
    return max(exit_codes)


def run_in_team(
    load: "Callable[[], Experiments]",
    options: argparse.Namespace,
    member: torchrun.Member,
    conclude: "Conclude",
) -> int:
    """Run all experiments one after the other, with the other processes of torchrun.

    Returns the exit code.
    """
    exit_codes = [0]
    with opened_team(options, member) as workers:
        options.take_over |= member.restarts > 0  # what the first process has left before
        if member.leads:
            experiments = load()
            try_out(experiments, options)
            for path, content in experiments:
                exit_codes += run_one_by_one(path, content, options, workers)
                exit_codes.append(conclude(path, content, options))
        else:
            from experiment.runs.engines.team import follow

            assert workers.link is not None
            follow(workers.link, workers.device)
    return max(exit_codes)


def run_one_by_one(
    path: str, content: "Config | Sweep", options: argparse.Namespace, workers: Workers
) -> list[int]:
    """Run a configuration, or all those of a sweep, in this process. Returns their exit codes."""
    from experiment.runs import driver, paths
    from experiment.runs.lock import locked

    exit_codes = []
    nets = paths.shared_nets(options.results)
    for config in announced_configs(content):
        directory = paths.results_directory(path, config.run_id(), options.results)
        try:
            with locked(directory, take_over=options.take_over) as lock:
                outcome = driver.run(config, directory, workers.device, nets, lock, workers.link)
            exit_codes.append(report(path, outcome))
        except Exception as error:
            exit_codes.append(report_error(path, error, options.traceback))
    return exit_codes


def run_at_once(
    path: str, content: "Config | Sweep", options: argparse.Namespace, workers: Workers
) -> list[int]:
    """Run a configuration, or all those of a sweep at the same time. Returns their exit codes."""
    from experiment.runs import paths
    from experiment.runs.driver import Driver
    from experiment.runs.lock import locked
    from experiment.runs.run import Run, open_run
    from experiment.runs.waiting import longest_chain_first

    exit_codes = []
    nets = paths.shared_nets(options.results)
    runs: list[Run] = []
    assert workers.engine is not None
    with contextlib.ExitStack() as locks:
        for config in announced_configs(content):
            directory = paths.results_directory(path, config.run_id(), options.results)
            try:
                lock = locks.enter_context(locked(directory, take_over=options.take_over))
                opened, _ = open_run(
                    config,
                    directory,
                    workers.device,
                    nets,
                    ranks=longest_chain_first,
                    lock=lock,
                    of_workers=workers.hardware,
                )
                runs.append(opened)
            except Exception as error:
                exit_codes.append(report_error(path, error, options.traceback))
        try:
            Driver(runs, workers.engine).work()
        except Exception as error:
            return [*exit_codes, report_error(path, error, options.traceback)]
        for opened in runs:
            try:
                exit_codes.append(report(path, opened.outcome()))
            except Exception as error:
                exit_codes.append(report_error(path, error, options.traceback))
    return exit_codes


def load_all(options: argparse.Namespace) -> "Experiments":
    """What the files hold, each with its path."""
    from experiment.config.sweeps import load_experiment

    return [(path, load_experiment(path, options.overrides)) for path in options.configs]


def try_out(experiments: "Experiments", options: argparse.Namespace) -> None:
    """Try the parts of all runs that have not begun yet on a few random images; print warnings.

    Raises UserError, one line for each mistake.
    """
    from experiment.config.sweeps import configs_of
    from experiment.core.devices import choose_device
    from experiment.runs.paths import results_directory
    from experiment.runs.preflight import Preflight

    # The nodes of a cluster may have other devices than this machine.
    preflight = Preflight("cpu" if options.engine == "ray" else choose_device(options.device))
    # Dicts, since runs of a sweep may have the same mistake.
    mistakes: dict[str, UserError] = {}
    doubts: dict[str, None] = {}
    for path, content in experiments:
        for config in configs_of(content):
            if results_directory(path, config.run_id(), options.results).exists():
                continue  # they were tried when it began
            try:
                doubts |= {f"warning: {path}: {line}": None for line in preflight.check(config)}
            except UserError as error:
                mistakes |= {f"{path}: {line}": error for line in error.mistakes}
    for doubt in doubts:
        say_line(doubt, to=sys.stderr)
    if mistakes:
        errors = ExceptionGroup("mistakes", [*dict.fromkeys(mistakes.values())])
        raise UserError(*mistakes) from errors


def plan(path: str, content: "Config | Sweep") -> str:
    """What a configuration or a sweep would do and cost."""
    from experiment.config.sweeps import Sweep
    from experiment.runs.dry_run import describe, describe_sweep

    return describe_sweep(content, path) if isinstance(content, Sweep) else describe(content, path)


def plan_with_time(experiments: "Experiments", device: str) -> int:
    """Print plans with the hours that they would take on a device. Returns the exit code.

    What cannot be measured, since its files must be there to know its shape, is left out.
    """
    from experiment.config.sweeps import configs_of
    from experiment.core.devices import choose_device
    from experiment.runs.dry_run import Estimate, describe_estimates, describe_time
    from experiment.runs.speeds import MeasuredSpeeds

    speeds = MeasuredSpeeds(choose_device(device))
    estimates = []
    exit_code = 0
    for path, content in experiments:
        configs = configs_of(content)
        try:
            say(plan(path, content))
            estimates.append(Estimate.of(configs, path, speeds))
            say(describe_time(configs, estimates[-1], speeds))
        except UserError as error:
            exit_code = report_error(path, error)
    if len(estimates) > 1:
        say(describe_estimates(estimates))
    return exit_code


def announced_configs(content: "Config | Sweep") -> Iterator["Config"]:
    """The configuration, or those of a sweep's runs, each announced by a line."""
    from experiment.config.sweeps import Sweep

    if not isinstance(content, Sweep):
        yield content
        return
    for index, combination in enumerate(content.combinations, 1):
        say_line(f"run {index} of {len(content.combinations)}: {combination.label}")
        yield combination.config


def report(path: str, outcome: "Outcome") -> int:
    """Print what failed in a run, and where report and plot are. Returns the exit code."""
    for failure in outcome.failures:
        say_line(f"failed: {path}: {failure}", to=sys.stderr)
    say_line(f"report: {outcome.report}")
    if outcome.plot is not None:
        say_line(f"plot: {outcome.plot}")
    return 1 if outcome.failures else 0


def report_error(path: str, error: Exception, show_traceback: bool = False) -> int:
    """Print what ended a run, with a traceback if nobody expected it. Returns the exit code.

    Raises:
        StorageError: if it is one. Others would train, too, what they could not store.
    """
    if isinstance(error, StorageError):
        raise error
    if isinstance(error, LockedError):
        say_line(f"locked: {path}: {error}", to=sys.stderr)
        return 3
    if isinstance(error, UserError):
        tell(f"error: {path}", error, show_traceback)
        return 2
    if isinstance(error, OSError):  # a full disk, for instance
        say_line(f"failed: {path}: {error}", to=sys.stderr)
        return 1
    say(details_of(error).rstrip(), to=sys.stderr)
    say_line(f"failed: {path}", to=sys.stderr)
    return 1


def collect_sweep(path: str, content: "Config | Sweep", options: argparse.Namespace) -> int:
    """Write and print what the runs of a sweep have found together; nothing for a single run.

    Returns the exit code: 3 if another process is just writing that.
    """
    from experiment.config.sweeps import Sweep

    if not isinstance(content, Sweep):
        return 0

    from experiment.reporting.sweep_tables import collect
    from experiment.runs.lock import locked
    from experiment.runs.paths import results_directory
    from experiment.runs.report import write_report

    directories: list[Path] = [
        results_directory(path, combination.config.run_id(), options.results)
        for combination in content.combinations
    ]
    directory = results_directory(path, content.sweep_id(), options.results)
    try:
        with locked(directory, take_over=options.take_over):
            text, plot = collect(content, directories, directory)
            say(text)
            with contextlib.suppress(UserError):  # none of its runs has begun
                say_line(f"report: {write_report(directory)}")
    except LockedError as error:
        return report_error(path, error, options.traceback)
    say_line(f"plot: {plot}")
    return 0
