"""Which files of runs can be deleted."""

from collections.abc import Callable, Iterable
from pathlib import Path

from experiment.runs.found import FoundRun, find_runs
from experiment.runs.lock import NAME as LOCK
from experiment.runs.paths import DAMAGED, STEPS, shared_nets


def deletable(directory: Path, kinds: Iterable[str]) -> dict[str, list[Path]]:
    """The files of each kind below a directory; nothing of a run in progress.

    Raises:
        UserError: if there is no such directory.
    """
    runs = [run for run in find_runs(directory) if not run.is_running]
    all_idle = not any(FoundRun(lock.parent).is_running for lock in directory.rglob(LOCK))
    choices: dict[str, Callable[[], list[Path]]] = {
        "nets": lambda: _files(shared_nets(directory)) if all_idle else [],
        "damaged": lambda: [
            path for run in runs for path in _files(run.directory / STEPS / DAMAGED)
        ],
        "states": lambda: [path for run in runs for path in _states(run)],
    }
    found = {kind: choices[kind]() for kind in dict.fromkeys(kinds)}
    return {kind: files for kind, files in found.items() if files}


def _states(run: FoundRun) -> list[Path]:
    """The stored nets of a finished run."""
    if run.state != "done":
        return []
    return [path for path in _files(run.directory / STEPS) if path.suffix == ".safetensors"]


def _files(directory: Path) -> list[Path]:
    """All files below a directory that is no link to somewhere else."""
    if directory.is_symlink():
        return []
    found = sorted(directory.rglob("*"))
    return [path for path in found if path.is_file() or path.is_symlink()]
