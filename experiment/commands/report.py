"""Write report.html anew: one page with all that a run, or several together, has found.

The page needs no other file and no network. A run in progress says how far it is.
"""

import argparse
from pathlib import Path

from experiment.core.console import say_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory",
        metavar="RUN_OR_DIR",
        type=Path,
        help="directory of a run or a sweep, or one that holds runs, which are reported together",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="file to write (default: report.html in the directory)",
    )


def run(options: argparse.Namespace) -> int:
    from experiment.runs.report import write_report

    say_line(f"report: {write_report(options.directory, options.output)}")
    return 0
