"""Arguments that several commands share."""

import argparse

from experiment.core.text import shown
from experiment.reporting.shown_tables import FORMATS


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """`--set key.path=value`, stored as a list of texts in `overrides`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        dest="overrides",
        help="set a key of the configuration to a YAML value; repeatable",
    )


def add_results(parser: argparse.ArgumentParser) -> None:
    """`--results DIR`."""
    parser.add_argument(
        "--results",
        default="results",
        metavar="DIR",
        help="directory for results (default: %(default)s)",
    )


def add_directory(parser: argparse.ArgumentParser) -> None:
    """`DIR`, of the runs that a command is about."""
    parser.add_argument(
        "directory",
        nargs="?",
        default="results",
        metavar="DIR",
        help="directory that holds runs (default: %(default)s)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device NAME`."""
    parser.add_argument(
        "--device",
        default="auto",
        choices=["auto", "cpu", "cuda", "mps"],
        help="where to compute (default: %(default)s, the fastest one available)",
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    """`--format NAME`, of `experiment.reporting.shown_tables`."""
    parser.add_argument(
        "--format",
        default="text",
        choices=FORMATS,
        help="how tables are printed (default: %(default)s)",
    )


def add_no_own_code(parser: argparse.ArgumentParser) -> None:
    """`--no-own-code`, which `main` obeys."""
    parser.add_argument(
        "--no-own-code",
        action="store_true",
        help="refuse files that name code outside of this software, as package.module:Name",
    )


def add_verify_data(parser: argparse.ArgumentParser) -> None:
    """`--verify-data`, which `main` obeys."""
    parser.add_argument(
        "--verify-data",
        action="store_true",
        help="tell image folders apart by all that their files hold, not by names and sizes alone; "
        "reads every image before anything else",
    )


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """`--traceback`."""
    parser.add_argument(
        "--traceback", action="store_true", help="for errors in your own code: show all of them"
    )


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:  # for which the parser would name this function
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {shown(text)}")
    return number


def add_net(parser: argparse.ArgumentParser) -> None:
    """`RUN --method NAME --keep-ratio R ...`: one of the nets of a run."""
    parser.add_argument("run", metavar="RUN", help="directory of a run")
    parser.add_argument(
        "--method", metavar="NAME", help="as in results.csv (default: the unpruned net)"
    )
    parser.add_argument(
        "--keep-ratio", type=float, metavar="RATIO", help="one of those that were asked for"
    )
    add_net_seed(parser)
    parser.add_argument(
        "--repetition",
        type=int,
        default=0,
        metavar="N",
        help="which repetition of the pruning (default: %(default)s)",
    )
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="compute a net again that was not kept, as runs keep only the last of each method",
    )


def add_net_seed(parser: argparse.ArgumentParser) -> None:
    """`--net-seed N`, of the nets of a run."""
    parser.add_argument(
        "--net-seed", type=int, default=0, metavar="N", help="which net (default: %(default)s)"
    )


def add_round_channels(parser: argparse.ArgumentParser) -> None:
    """`--round-channels N`, of a net that gets smaller."""
    parser.add_argument(
        "--round-channels",
        type=positive,
        default=1,
        metavar="N",
        help="leave so many channels of zeros that the layers' widths are multiples of N",
    )


def add_seconds(parser: argparse.ArgumentParser, default: float) -> None:
    """`--seconds X`, for which latency is measured."""
    parser.add_argument(
        "--seconds",
        type=float,
        default=default,
        metavar="X",
        help="for which each batch size is measured (default: %(default)s)",
    )


def add_net_format(parser: argparse.ArgumentParser) -> None:
    """`--format NAME`, of `experiment.deployment.writing`."""
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="safetensors, onnx, torch-export or openvino (default: what the suffix of the file "
        "says, or safetensors)",
    )
