"""Write a pruned net of a run to a file, as small as it can be, and say what was gained.

Channels that pruning has made superfluous are cut out of all layers. The file is read back, and
its outputs on real images are compared with those of the pruned net: nothing is written if they
differ. A run that is still going on will do.
"""

import argparse

from experiment.commands._arguments import (
    add_net,
    add_net_format,
    add_no_own_code,
    add_round_channels,
    add_seconds,
)
from experiment.core.console import say_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_net(parser)
    add_net_format(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to write it (default: in exports/ of the run)"
    )
    add_round_channels(parser)
    add_seconds(parser, default=3.0)
    add_no_own_code(parser)


def run(options: argparse.Namespace) -> int:
    from experiment.runs.exporting import export

    exported = export(
        options.run,
        options.method,
        options.keep_ratio,
        options.net_seed,
        repetition=options.repetition,
        format=options.format,
        output=options.output,
        seconds=options.seconds,
        round_channels=options.round_channels,
        recompute=options.recompute,
        say=say_line,
    )
    for line in exported.lines():
        say_line(line)
    return 0
