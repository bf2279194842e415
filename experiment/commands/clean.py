"""Delete what runs can do without, after asking.

  nets      trained nets that runs in one directory share; each run has its own copies
  damaged   files that were found changed or damaged, and put aside
  states    stored nets of finished runs; their tables and figures stay

Nothing of a run in progress is deleted.
"""

import argparse
import contextlib
from pathlib import Path

from experiment.commands._arguments import add_directory

KINDS = ("nets", "damaged", "states")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_directory(parser)
    parser.add_argument(
        "--what",
        nargs="+",
        default=["nets", "damaged"],
        choices=KINDS,
        help="kinds of files, see above (default: nets damaged)",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    from experiment.core.files import remove
    from experiment.runs.cleaning import deletable

    found = deletable(Path(options.directory), options.what)
    files = [path for of_kind in found.values() for path in of_kind]
    if not files:
        print("nothing to delete")
        return 0
    for kind, of_kind in found.items():
        print(f"{kind}: {len(of_kind)} files, {megabytes(of_kind)}")
    if not (options.yes or confirmed(f"delete {len(files)} files, {megabytes(files)}?")):
        print("nothing was deleted")
        return 0
    still = deletable(Path(options.directory), options.what)  # a run may have begun meanwhile
    spared = set(files).difference(path for of_kind in still.values() for path in of_kind)
    for path in files:
        if path not in spared:
            remove(path)
    print(f"deleted {len(files) - len(spared)} files")
    return 0


def megabytes(files: list[Path]) -> str:
    total = 0
    for path in files:
        with contextlib.suppress(OSError):  # a run has just deleted it
            total += path.lstat().st_size
    return f"{total / 1e6:,.1f} MB"


def confirmed(question: str) -> bool:
    """Whether a person answers yes; nobody there counts as no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False
