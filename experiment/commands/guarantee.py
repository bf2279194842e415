"""Certificates against measurements: `python -m experiment.commands.guarantee CONFIG`."""

import argparse
import sys

from experiment.main import add_common_arguments, guarded


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
    from experiment.certification.verification import (
        verify,  # after the arguments: it imports torch
    )

    return verify(options)


if __name__ == "__main__":
    sys.exit(main())
