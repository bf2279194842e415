"""OpenVINO on a CPU, in single precision."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiment.deployment.packages import require
from experiment.deployment.subject import Subject

NAME = "OpenVINO"
PACKAGE = "openvino"
EXTRA = "openvino"
ON_GPU = False


def prepare(subject: Subject, threads: int, device: str) -> Callable[[Tensor], Tensor]:
    """The compiled net, for one batch after the other."""
    openvino = require(PACKAGE, EXTRA)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(subject.onnx), "CPU", settings)
    request = request.create_infer_request()

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(request.infer([images.numpy()])[0].copy())

    return run
