"""ONNX Runtime on a CPU."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiment.deployment.onnx_graph import INPUT
from experiment.deployment.packages import require
from experiment.deployment.subject import Subject

NAME = "ONNX Runtime"
PACKAGE = "onnxruntime"
EXTRA = "export"
ON_GPU = False


def prepare(subject: Subject, threads: int, device: str) -> Callable[[Tensor], Tensor]:
    """A session with so many threads, which do not spin while others are measured."""
    onnxruntime = require(PACKAGE, EXTRA)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        subject.onnx, options, providers=["CPUExecutionProvider"]
    )

    def run(images: Tensor) -> Tensor:
        [outputs] = session.run(None, {INPUT: images.numpy()})
        return torch.from_numpy(outputs)

    return run
