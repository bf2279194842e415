"""Prune a net that you have trained: load, prune, retrain if asked to, measure, write to a file.

The work is an experiment with one method and one keep ratio: it leaves a report, and the same
command goes on if it was interrupted.
"""

import argparse

from experiment.commands._arguments import (
    add_device,
    add_net_format,
    add_no_own_code,
    add_overrides,
    add_results,
    add_seconds,
    positive,
)
from experiment.core.console import say_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--network",
        required=True,
        metavar="NAME",
        help="package.module:Class, a network of this software, or one of torchvision's",
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help=".safetensors, or what torch.save(net.state_dict(), FILE) has written",
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="FOLDER",
        help="images in train/<class>/ and test/<class>/, or the name of a data set",
    )
    parser.add_argument("--method", default="SiPP", metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--keep-ratio",
        type=float,
        required=True,
        metavar="RATIO",
        help="share of the parameters to keep",
    )
    add_retraining(parser)
    add_images(parser)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of all random draws (default: 0)"
    )
    add_net_format(parser)
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="the file (default: in exports/ of the run)"
    )
    add_overrides(parser)
    add_results(parser)
    add_device(parser)
    add_seconds(parser, default=3.0)
    add_no_own_code(parser)


def add_retraining(parser: argparse.ArgumentParser) -> None:
    """`--epochs N --lr X --batch-size N`."""
    parser.add_argument(
        "--epochs",
        type=int,
        default=0,
        metavar="N",
        help="of retraining, by SGD with momentum 0.9 (default: none)",
    )
    parser.add_argument(
        "--lr", type=float, default=0.01, metavar="X", help="of retraining (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=64,
        metavar="N",
        help="of retraining (default: %(default)s)",
    )


def add_images(parser: argparse.ArgumentParser) -> None:
    """`--image-size N --mean ... --std ... --num-workers N`."""
    parser.add_argument(
        "--image-size",
        type=positive,
        metavar="N",
        help="scale and cut images to N x N pixels (default: they all have one size already)",
    )
    for name in ("mean", "std"):
        parser.add_argument(
            f"--{name}",
            type=float,
            nargs="+",
            metavar="X",
            help="of each channel on the scale 0 to 1, with which the net was trained (default: "
            "that of the training images)",
        )
    parser.add_argument(
        "--num-workers",
        type=int,
        metavar="N",
        help="processes that read images which do not fit into memory (default: 4)",
    )


def run(options: argparse.Namespace) -> int:
    from experiment.runs.prune_trained import prune_trained

    images = {name: getattr(options, name) for name in ("image_size", "mean", "std", "num_workers")}
    pruned = prune_trained(
        options.network,
        options.weights,
        options.data,
        method=options.method,
        keep_ratio=options.keep_ratio,
        epochs=options.epochs,
        lr=options.lr,
        batch_size=options.batch_size,
        images={name: value for name, value in images.items() if value is not None},
        seed=options.seed,
        overrides=options.overrides,
        format=options.format,
        output=options.output,
        seconds=options.seconds,
        results=options.results,
        device=options.device,
        say=say_line,
    )
    for line in pruned.lines():
        say_line(line)
    return 0
