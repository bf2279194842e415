"""Show the settings in which runs differ, and the code and files on which they depend."""

import argparse
from typing import TYPE_CHECKING

from experiment.commands._arguments import add_format
from experiment.core.console import say

if TYPE_CHECKING:
    from experiment.runs.found import FoundRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="directory of a run")
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    from experiment.core.errors import UserError
    from experiment.reporting.comparison import settings_that_differ
    from experiment.reporting.shown_tables import shown_table
    from experiment.runs.found import named_runs

    settings = {name: settings_of(found) for name, found in named_runs(options.runs).items()}
    if len(settings) < 2:
        raise UserError("diff needs at least two different runs")
    say(shown_table(settings_that_differ(settings), options.format))
    return 0


KINDS = {"files": "", "contents": "what is in ", "source": ""}  # of what a run depends on


def settings_of(found: "FoundRun") -> dict[str, object]:
    """The configuration of a run, and the digests of the own code and files that it depends on."""
    from experiment.runs.identity import read_identity

    identity = read_identity(found.directory)
    digests = (
        {}
        if identity is None
        else {
            f"{place}: {KINDS[one.kind]}{one.description}": one.digest
            for (place, _, _), one in identity.by_key().items()
        }
    )
    return {**found.config.model_dump(), "depends on": digests}
