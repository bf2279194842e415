"""Where runs keep their results."""

import os
from pathlib import Path

from experiment.core.errors import UserError

STEPS = "steps"  # the folder of a run for what its tasks have computed
DAMAGED = "damaged"  # the folder of a store for files that cannot be used


def results_directory(config_path: str, run_id: str, results: str | Path) -> Path:
    """`RESULTS/<path of the YAML file below paper/, without .yaml>/<run id>`.

    A file that does not lie below a folder called `paper` contributes its name alone.
    """
    parts = Path(config_path).resolve().with_suffix("").parts
    folders, name = parts[:-1], parts[-1]
    if "paper" not in folders:
        return Path(results, name, run_id)
    last = len(folders) - 1 - folders[::-1].index("paper")
    return Path(results, *folders[last + 1 :], name, run_id)


def require_directory(results: str | Path) -> None:
    """Raise UserError if there is something else with the name of the directory for results."""
    if os.path.lexists(results) and not os.path.isdir(results):
        raise UserError(f"--results: {results} is no directory; name one, which may not exist yet")


def shared_nets(results: str | Path) -> Path:
    """The directory of trained nets, which all runs below `results` share."""
    return Path(results, ".nets")
