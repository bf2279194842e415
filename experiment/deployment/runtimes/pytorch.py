"""PyTorch as it is, without compilation; on a GPU too."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiment.deployment.subject import Subject
from experiment.nets.running import copy_of

NAME = "PyTorch"
PACKAGE = "torch"
EXTRA = ""
ON_GPU = True


def prepare(subject: Subject, threads: int, device: str) -> Callable[[Tensor], Tensor]:
    """The net, ready to run. The caller sets the number of threads, which is torch's own."""
    net = copy_of(subject.net).to(device).eval()

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return net(images)

    return run
