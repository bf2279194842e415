"""Compare methods fairly: run a fixed set of experiments for one method, and rank it.

`small` takes minutes on a laptop, `standard` needs a GPU; a folder of YAML files is a suite of your
own. A method is scored by the accuracy that pruned and retrained nets lose, and compared with the
stored results of all shipped methods on the same nets. The baselines run along.

An interrupted suite goes on by the same command, and what was run before is not run again. On CPUs
one thread per process is the default, since other numbers of threads train other nets; --workers
uses more cores.
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.commands import run as run_command
from experiment.core import torchrun
from experiment.core.console import say, say_line
from experiment.core.errors import UserError

if TYPE_CHECKING:
    from experiment.runs.suite_stored import StoredResults
    from experiment.runs.suites import Planned, Suite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", metavar="SUITE", help="small, standard, or a folder of YAML files")
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="METHOD",
        dest="methods",
        help="a name, package.module:Name, or '{name: NAME, option: value}'; repeatable (default: "
        "all methods of this software)",
    )
    parser.add_argument(
        "--stored",
        metavar="DIR",
        help="results of other methods to rank with, as a suite leaves them (default: those that "
        "come with the suite)",
    )
    run_command.add_how_to_run(parser)


def run(options: argparse.Namespace) -> int:
    """Run what is missing, then rank."""
    from experiment.runs.suite_stored import load_stored
    from experiment.runs.suites import open_suite, planned

    suite = open_suite(options.suite, options.stored)
    _require_other_directory(suite, options)
    stored = load_stored(suite.stored)
    plans = planned(suite, options.methods)
    if options.threads is None and _is_on_cpu(options):
        options.threads = 1
    experiments = [(str(plan.experiment.path), plan.sweep) for plan in plans]
    code = run_command.run_experiments(lambda: experiments, options, lambda *_: 0)
    if options.dry_run or torchrun.is_follower():
        return code
    _rank(suite.name, plans, stored, options)
    return code


def _require_other_directory(suite: "Suite", options: argparse.Namespace) -> None:
    """Raise UserError if the stored results would be overwritten by those of this command."""
    own = _directory(suite.name, options)
    if suite.stored is not None and suite.stored.resolve() == own.resolve():
        raise UserError(
            f"--stored {options.stored}: is where this suite writes, and would be overwritten; "
            f"copy it elsewhere, or name its methods too: what was run before is not run again"
        )


def _directory(name: str, options: argparse.Namespace) -> Path:
    """Where the files of a suite are written."""
    return Path(options.results, "suite", name)


def _is_on_cpu(options: argparse.Namespace) -> bool:
    from experiment.core.devices import choose_device

    return options.engine == "local" and choose_device(options.device) == "cpu"


def _rank(
    name: str, plans: "list[Planned]", stored: "StoredResults", options: argparse.Namespace
) -> None:
    """Rank what was found, print that, and write the files."""
    from experiment.reporting.suites.standing import EXPLANATION
    from experiment.runs.suite_files import RANKING_TEXT, write_files
    from experiment.runs.suite_results import SuiteResults

    found = SuiteResults(plans, stored, options.results)
    standing = found.standing(_asked(plans) if options.methods else ())
    directory = _directory(name, options)
    report = write_files(found, standing, directory, name, _command(options))
    say(f"\n{EXPLANATION}\n\n{standing.text(standing.overall)}\n")
    say_line(f"by experiment: {directory / RANKING_TEXT}")
    say_line(f"report: {report}")


def _asked(plans: "list[Planned]") -> list[str]:
    """The methods that were asked for: those that are no baselines, unless all are."""
    methods = dict.fromkeys(label for plan in plans for label in plan.runs)
    baselines = {label for plan in plans for label in plan.experiment.baselines}
    return [label for label in methods if label not in baselines] or list(methods)


def _command(options: argparse.Namespace) -> str:
    """The command that finds the same again, on the same machine."""
    words = ["python", "-m", "experiment", "suite", options.suite]
    words += [word for method in options.methods for word in ("--method", method)]
    for name in ("stored", "device", "workers", "threads"):
        value = getattr(options, name)
        words += [f"--{name}", str(value)] if value not in (None, "auto") else []
    return shlex.join(words)
