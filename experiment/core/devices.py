"""Where to compute."""

import torch

from experiment.core.errors import UserError


def choose_device(name: str) -> str:
    """The device of that name; for `auto`, CUDA, else Apple's MPS, else the CPU.

    Raises UserError for a device that is not available.
    """
    is_available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    available = [device for device, usable in is_available.items() if usable]
    if name == "auto":
        return available[0]
    if name not in available:
        raise UserError(
            f"--device {name}: not available on this machine "
            f"(available: auto, {', '.join(available)})"
        )
    return name
