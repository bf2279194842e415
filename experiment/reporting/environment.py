"""What one must know to reproduce a run: versions, the device and the commit."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from experiment.core.files import read_file, write_whole

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scikit-learn", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Python and of packages."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def code_digest() -> str:
    """A digest of the code of this software, as it is installed here."""
    package = Path(__file__).parents[1]
    content = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).parts):
        content.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:10]


def hardware(device: str) -> dict[str, Any]:
    """What this process computes with. Raises RuntimeError if it has no such device."""
    if device.startswith("cuda"):
        device_name = torch.cuda.get_device_name()
    else:
        device_name = platform.processor() or platform.machine()
    return {
        "platform": platform.platform(),
        "device": device,
        "device_name": device_name,
        "cpu_threads": torch.get_num_threads(),
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


def write_environment(path: Path, of_workers: dict[str, Any]) -> list[str]:
    """Write the environment of a run when it first starts; `of_workers` is their hardware.

    Returns:
        When it is started again, what differs from the first time: one text per entry.
    """
    now = {**versions(), **of_workers, "git_commit": git_commit()}
    try:
        before = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):  # there is none, or it is damaged
        before = None
    if not isinstance(before, dict):
        write_whole(path, json.dumps(now, indent=1) + "\n")
        return []
    return [
        f"{key} was {before.get(key)}, is {value}"
        for key, value in now.items()
        if before.get(key) != value
    ]
