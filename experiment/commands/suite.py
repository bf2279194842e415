"""Compare methods fairly: run a fixed set of experiments for one method, and rank it.

`small` takes minutes on a laptop, `standard` needs a GPU; a folder of YAML files is a suite of your
own. A method is scored by the accuracy that pruned and retrained nets lose, and compared with the
stored results of all shipped methods on the same nets. The baselines run along.

An interrupted suite goes on by the same command, and what was run before is not run again. On CPUs
one thread per process is the default, since other numbers of threads train other nets; --workers
uses more cores.
"""

import argparse
from typing import TYPE_CHECKING

from experiment.commands import run as run_command
from experiment.core import torchrun
from experiment.core.console import say, say_line

if TYPE_CHECKING:
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
    from experiment.runs.suites import open_suite, planned

    suite = open_suite(options.suite, options.stored)
    plans = planned(suite, options.methods)
    if options.threads is None and _is_on_cpu(options):
        options.threads = 1
    experiments = [(str(plan.experiment.path), plan.sweep) for plan in plans]
    code = run_command.run_experiments(lambda: experiments, options, lambda *_: 0)
    if options.dry_run or torchrun.is_follower():
        return code
    return max(code, _rank(suite, plans, options))


def _is_on_cpu(options: argparse.Namespace) -> bool:
    from experiment.core.devices import choose_device

    return options.engine == "local" and choose_device(options.device) == "cpu"


def _rank(suite: "Suite", plans: "list[Planned]", options: argparse.Namespace) -> int:
    from experiment.reporting.suites.standing import EXPLANATION
    from experiment.runs.suite_results import RANKING_TEXT, SuiteResults

    found = SuiteResults(suite, plans, options.results)
    standing = found.standing(_labels(plans) if options.methods else ())
    report = found.write_files(standing, _command(options))
    say(f"\n{EXPLANATION}\n\n{standing.text(standing.overall)}\n")
    say_line(f"by experiment: {report.with_name(RANKING_TEXT)}")
    say_line(f"report: {report}")
    return 0


def _labels(plans: "list[Planned]") -> list[str]:
    """The methods that were asked for, which are those that are no baselines."""
    labels = {label: label in plan.experiment.baselines for plan in plans for label in plan.runs}
    return [label for label, is_baseline in labels.items() if not is_baseline] or list(labels)


def _command(options: argparse.Namespace) -> str:
    """The command that runs the same again."""
    words = ["python -m experiment suite", options.suite]
    words += [f"--method '{method}'" for method in options.methods]
    words += [f"--device {options.device}"] if options.device != "auto" else []
    words += [f"--workers {options.workers}"] if options.workers else []
    words += [f"--threads {options.threads}"] if options.threads else []
    return " ".join(words)
