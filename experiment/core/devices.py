"""Where to compute, and with how many threads."""

import os
from collections.abc import Sequence

import torch

from experiment.core.errors import UserError
from experiment.core.torchrun import Member


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


def or_cpu(device: str) -> str:
    """The device if this machine has one of its kind, else the CPU."""
    is_missing = torch.device(device).type == "cuda" and not torch.cuda.is_available()
    return "cpu" if is_missing else device


def choose_device_in_team(name: str, member: Member) -> str:
    """The same for one of the processes of torchrun, each of which has a GPU of its own.

    Raises UserError for a device that is not available, or not for all processes of this machine.
    """
    if name == "mps":
        raise UserError("--device mps: several processes cannot use it together; use cpu")
    device = choose_device("cpu" if name == "auto" and not torch.cuda.is_available() else name)
    if device == "cuda" and torch.cuda.device_count() < member.local_size:
        raise UserError(
            f"torchrun has started {member.local_size} processes on a machine with "
            f"{torch.cuda.device_count()} GPU(s); each needs one, or all of them --device cpu"
        )
    return device


def num_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of_each(num_processes: int, asked: int | None) -> int:
    """The threads of each of several processes that compute at the same time.

    As asked for; else torch's own choice, which OMP_NUM_THREADS decides if it is set, and which
    several processes divide if it is not.
    """
    if asked is not None:
        return asked
    if num_processes == 1 or os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    return max(1, num_cores() // num_processes)


def devices_of_each(num_processes: int, device: str) -> Sequence[str]:
    """The device of each of several processes; all GPUs are used in turn."""
    if device != "cuda":
        return [device] * num_processes
    return [f"cuda:{number % torch.cuda.device_count()}" for number in range(num_processes)]
