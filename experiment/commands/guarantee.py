"""Compare certified errors with those measured on fresh test images.

Trains the nets of an experiment, or takes those that it has trained already, prunes each to the
configured keep ratios, and compares the certified errors of its units with those that occur on
test images. The exit code is 1 if a certificate that must hold does not. For methods with an option
`error`, network_theorem.csv compares the certified error of the whole net with that of its output.
"""

import argparse
import sys

from experiment.commands._arguments import (
    add_device,
    add_no_own_code,
    add_overrides,
    add_results,
    add_verify_data,
)
from experiment.core.console import say_line
from experiment.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file of an experiment")
    add_overrides(parser)
    add_no_own_code(parser)
    add_verify_data(parser)
    add_results(parser)
    add_device(parser)
    parser.add_argument(
        "--fresh",
        type=int,
        default=200,
        metavar="N",
        help="number of test images to measure on (default: %(default)s)",
    )
    parser.add_argument(
        "--points",
        type=int,
        default=8,
        metavar="N",
        help="number of points of each image and layer to measure on (default: %(default)s)",
    )
    parser.add_argument(
        "--sample-sizes",
        type=int,
        nargs="+",
        metavar="N",
        help="sizes of S (default: the experiment's own, a quarter and a sixteenth of it)",
    )

    parser.add_argument(
        "--bounds",
        action="store_true",
        help="also write bounds.csv, with tighter bounds of neurons; those that hold with some "
        "confidence do so with 1 - SHARE",
    )
    parser.add_argument(
        "--share",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="share of new images that may have a larger error than what is certified by other "
        "images (default: %(default)s)",
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        help="of what is certified about outputs (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    from experiment.config.loading import load_config
    from experiment.core.devices import choose_device
    from experiment.runs.guarantees.measuring import measure_guarantees
    from experiment.runs.guarantees.net_under_test import Measurement
    from experiment.runs.lock import locked
    from experiment.runs.paths import results_directory
    from experiment.runs.preflight import Preflight

    config = load_config(options.config, options.overrides)
    measurement = Measurement(
        num_fresh=options.fresh,
        points_per_sample=options.points,
        sample_sizes=tuple(options.sample_sizes or ()),
        share=options.share,
        confidence=options.confidence,
        bounds=options.bounds,
    )
    directory = results_directory(options.config, config.run_id(), options.results)
    device = choose_device(options.device)
    try:
        for doubt in Preflight(device).check(config):
            say_line(f"warning: {options.config}: {doubt}", to=sys.stderr)
        with locked(directory):
            holds = measure_guarantees(config, directory, device, measurement)
    except UserError as error:
        raise error.within(options.config) from None
    return 0 if holds else 1
