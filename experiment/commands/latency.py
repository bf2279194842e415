"""Measure how long the nets of a run take, in PyTorch, ONNX Runtime and OpenVINO.

The unpruned net and the pruned ones, without the channels that pruning has made superfluous, take
turns. Writes latency.csv and plots/accuracy_vs_latency of the run.
"""

import argparse

from experiment.commands._arguments import (
    add_device,
    add_format,
    add_net_seed,
    add_no_own_code,
    add_round_channels,
    add_seconds,
    positive,
)
from experiment.core.console import say_line
from experiment.reporting.shown_tables import shown_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="directory of a run")
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="NAME",
        help="only this method, as in results.csv; repeatable (default: all)",
    )
    parser.add_argument(
        "--keep-ratio",
        action="append",
        type=float,
        default=[],
        metavar="RATIO",
        help="only this one of those that were asked for; repeatable (default: all)",
    )
    add_net_seed(parser)
    parser.add_argument(
        "--batch-size",
        action="append",
        type=positive,
        default=[],
        metavar="N",
        help="images at a time; repeatable (default: 1 and 64)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=1,
        metavar="N",
        help="of each runtime on a CPU (default: %(default)s)",
    )
    add_seconds(parser, default=10.0)
    parser.add_argument(
        "--recompute", action="store_true", help="compute nets again that were not kept"
    )
    add_round_channels(parser)
    add_device(parser)
    parser.set_defaults(device="cpu")
    add_format(parser)
    add_no_own_code(parser)


def run(options: argparse.Namespace) -> int:
    from experiment.core.devices import choose_device
    from experiment.deployment.latency import BATCH_SIZES
    from experiment.runs.latency import measure_run, summary

    found = measure_run(
        options.run,
        methods=options.method,
        keep_ratios=options.keep_ratio,
        net_seed=options.net_seed,
        batch_sizes=options.batch_size or BATCH_SIZES,
        threads=options.threads,
        seconds=options.seconds,
        device=choose_device(options.device),
        round_channels=options.round_channels,
        recompute=options.recompute,
        say=say_line if options.format == "text" else lambda line: None,
    )
    if options.format != "text":
        say_line(shown_table(found.table, options.format))
        return 0
    for line in summary(found):
        say_line(line)
    return 0
