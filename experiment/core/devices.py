"""Where to compute."""

import torch

from experiment.core.errors import UserError


def choose_device(name: str) -> str:
    """`auto` is CUDA, else Apple's MPS, else the CPU. Raises UserError for a device that is not there."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(kind for kind, there in available.items() if there)
    if not available[name]:
        there = ", ".join(kind for kind, present in available.items() if present)
        raise UserError(
            f"--device {name}: not available on this machine (available: auto, {there})"
        )
    return name
