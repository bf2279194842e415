"""What one must know to reproduce a run: versions, the device and the commit."""

import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from experiment.core.files import write_whole

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scikit-learn", "safetensors")


def environment(device: str, processes: int = 1) -> dict[str, Any]:
    """Versions of Python and of packages, the device, the processes of torchrun, the commit."""
    if device.startswith("cuda"):
        device_name = torch.cuda.get_device_name()
    else:
        device_name = platform.processor() or platform.machine()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: version(package) for package in PACKAGES},
        "device": device,
        "device_name": device_name,
        "cpu_threads": torch.get_num_threads(),
        "processes": processes,
        "git_commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit of this software, followed by `+changes` if files differ; None outside git."""
    try:
        _git("ls-files", "--error-unmatch", __file__)  # or it is another project's git
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(*arguments: str) -> str:
    """What a git command prints, run in the folder of this file."""
    finished = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return finished.stdout.strip()


def write_environment(path: Path, device: str, processes: int = 1) -> list[str]:
    """Write the environment of a run when it first starts.

    Returns:
        When it is started again, what differs from the first time: one text per entry.
    """
    now = environment(device, processes)
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError):
        write_whole(path, json.dumps(now, indent=1) + "\n")
        return []
    return [
        f"{key} was {before.get(key)}, is {value}"
        for key, value in now.items()
        if before.get(key) != value
    ]
