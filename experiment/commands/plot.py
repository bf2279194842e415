"""Draw one or several runs in one figure.

A directory that holds runs stands for all of them. Runs in progress can be drawn, too.
"""

import argparse
from pathlib import Path

from experiment.core.console import say_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directories",
        nargs="+",
        metavar="RUN_OR_DIR",
        type=Path,
        help="directory of a run or a sweep, or one that holds runs",
    )
    parser.add_argument(
        "--x", default="prune_ratio", help="prune_ratio or flops (default: %(default)s)"
    )
    parser.add_argument(
        "--y",
        default="test_accuracy",
        help="test_accuracy, delta (to the unpruned net), before_retraining, validation_accuracy, "
        "top5 or loss (default: %(default)s)",
    )
    parser.add_argument(
        "--log", action="store_true", help="show the share that is kept, on a logarithmic axis"
    )
    parser.add_argument(
        "--published",
        nargs="?",
        const="",
        metavar="DATASET",
        help="draw published results of the same network, data set, schedule and methods beside; "
        "name the data set, such as CIFAR10, if the run calls it otherwise",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="a .png, .pdf or .svg (default: in plots/ of the run; of several runs, here)",
    )


def run(options: argparse.Namespace) -> int:
    from experiment.runs.plotting import plot_runs

    path = plot_runs(
        options.directories,
        x=options.x,
        y=options.y,
        log=options.log,
        published=options.published,
        target=options.output,
    )
    say_line(f"plot: {path}")
    return 0
