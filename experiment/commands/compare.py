"""Compare methods and runs: side by side, and by differences over the same nets.

The second table says by how much each method differs from a baseline: the mean over nets of the
difference at the keep ratios that both have, with a 95% interval of Student's t. Each interval
holds by itself; of twenty methods that are equal, one is expected to seem different.
"""

import argparse
from typing import TYPE_CHECKING

from experiment.commands._arguments import add_format
from experiment.core.console import say
from experiment.core.errors import UserError

if TYPE_CHECKING:
    from experiment.reporting.shown_tables import Format
    from experiment.runs.found import FoundRun

METRIC = "test_accuracy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="directory of a run")
    parser.add_argument(
        "--metric",
        default=METRIC,
        metavar="COLUMN",
        help="column of results.csv to compare (default: %(default)s)",
    )
    parser.add_argument(
        "--baseline",
        metavar="METHOD",
        help="method of the first run to which others are compared (default: WT, or the first)",
    )
    parser.add_argument(
        "--differences", action="store_true", help="print the table of differences alone"
    )
    parser.add_argument(
        "--published",
        nargs="?",
        const="",
        metavar="DATASET",
        help="print instead, for each published result of the same network, data set, schedule and "
        "method, what each run has there; name the data set, such as CIFAR10, if the run calls it "
        "otherwise",
    )
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    from experiment.reporting.comparison import BASELINE, differences, side_by_side
    from experiment.reporting.shown_tables import shown_table
    from experiment.runs.found import named_runs

    is_changed = options.metric != METRIC or options.baseline or options.differences
    if options.published is not None and is_changed:
        raise UserError(
            "--published: sets test accuracies beside published ones; leave out --metric, "
            "--baseline and --differences"
        )
    found = named_runs(options.runs)
    if options.published is not None:
        return _compare_published(found, options.published, options.format)
    runs = {name: one.results for name, one in found.items()}
    if not options.differences:
        say(shown_table(side_by_side(runs, options.metric), options.format))
        if options.format != "text":
            return 0
        say("")
    table = differences(runs, options.metric, options.baseline)
    if options.format == "text" and not len(table):
        say("there is no other method to compare with; name a second run to compare its methods")
        return 0
    if options.format == "text":
        say(f"{options.metric}, difference to {' of run '.join(table[BASELINE].iloc[0])}:")
        table = table.drop(columns=BASELINE)
    say(shown_table(table, options.format))
    return 0


def _compare_published(runs: "dict[str, FoundRun]", dataset: str, format_name: "Format") -> int:
    import pandas

    from experiment.reporting.published import compared_with_published
    from experiment.reporting.shown_tables import shown_table
    from experiment.runs.plotting import published_points

    points = published_points(runs, dataset)
    tables = {
        name: compared_with_published(one.results, points[name])
        for name, one in runs.items()
        if len(points[name])
    }
    table = pandas.concat(tables, names=["run"]).reset_index("run")
    say(shown_table(table, format_name))
    return 0
