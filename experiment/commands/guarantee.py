"""Certificates against measurements: `python -m experiment.commands.guarantee CONFIG`."""

import argparse
import sys

from experiment.main import add_common_arguments, guarded, results_directory


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m experiment.commands.guarantee",
        description="Train the nets of an experiment (or take those it has trained), prune each to the configured "
        "keep ratios, and compare the certified errors of its units with those on fresh test images.",
    )
    result.add_argument("config", metavar="CONFIG", help="YAML file of an experiment")
    add_common_arguments(result)
    result.add_argument(
        "--fresh",
        type=int,
        default=200,
        metavar="N",
        help="test images to measure on (default: 200)",
    )
    result.add_argument(
        "--points",
        type=int,
        default=8,
        metavar="N",
        help="points of each image and layer to measure on (default: 8)",
    )
    result.add_argument(
        "--sample-sizes",
        type=int,
        nargs="+",
        metavar="N",
        help="sizes of S (default: the experiment's own, a quarter and a sixteenth of it)",
    )
    return result


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, 1 if a certificate that must hold does not, 2 for bad input, 130 if interrupted."""
    return guarded(launch, parser().parse_args(arguments))


def launch(options: argparse.Namespace) -> int:
    from experiment.config.schema import load_config
    from experiment.core.devices import choose_device
    from experiment.runs.guarantee import Measurement, measure_guarantees

    config = load_config(options.config, options.overrides)
    measurement = Measurement(
        num_fresh=options.fresh,
        points_per_sample=options.points,
        sample_sizes=tuple(options.sample_sizes or ()),
    )
    directory = results_directory(options.config, config.run_id(), options.results)
    holds = measure_guarantees(config, directory, choose_device(options.device), measurement)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
