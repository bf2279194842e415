"""Show the settings in which runs differ."""

import argparse

from experiment.commands._arguments import add_format
from experiment.core.console import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="directory of a run")
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    from experiment.core.errors import UserError
    from experiment.reporting.comparison import settings_that_differ
    from experiment.reporting.shown_tables import shown_table
    from experiment.runs.found import named_runs

    configs = {name: found.config.model_dump() for name, found in named_runs(options.runs).items()}
    if len(configs) < 2:
        raise UserError("diff needs at least two different runs")
    say(shown_table(settings_that_differ(configs), options.format))
    return 0
