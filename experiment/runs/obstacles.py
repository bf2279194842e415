"""What lies in the directory of a run in the places of its files, and is none of them."""

from pathlib import Path

from experiment.core.files import move_aside
from experiment.runs.paths import DAMAGED, STEPS

FOLDERS = ("", "plots")  # where a run writes files, besides its stored steps


def clear(directory: Path) -> list[str]:
    """Move links, pipes and folders with the name of a file to where damaged steps are.

    Through a link a run would write into a file that may be anybody's.

    Returns:
        What was moved and to where, one text each.
    """
    linked = [directory / name for name in FOLDERS if name and (directory / name).is_symlink()]
    folders = [directory / name for name in FOLDERS if directory / name not in linked]
    found = [*linked, *(path for one in folders for path in _inside(one) if _is_in_way(path))]
    aside = directory / STEPS / DAMAGED
    moved = {path: move_aside(path, aside / path.relative_to(directory)) for path in found}
    return [
        f"{path}: is {'a link' if path in linked else 'no file'}; moved to {target}"
        for path, target in moved.items()
    ]


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_in_way(path: Path) -> bool:
    """Whether it has a name such as those of a run's files, but is no file."""
    has_such_a_name = bool(path.suffix) and not path.name.startswith(".")
    return has_such_a_name and (path.is_symlink() or not path.is_file())
