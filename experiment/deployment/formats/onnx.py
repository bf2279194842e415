"""ONNX, which most runtimes read; batches may have any size."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from experiment.deployment.fidelity import OTHER_RUNTIME
from experiment.deployment.metadata import Metadata
from experiment.deployment.onnx_graph import INPUT, onnx_graph
from experiment.deployment.packages import require

SUFFIX = ".onnx"
TOLERANCE = OTHER_RUNTIME


def write(net: nn.Module, images: Tensor, path: Path, metadata: Metadata) -> None:
    """Write a net, with the metadata as properties of the model."""
    graph = onnx_graph(net, images)
    for key, value in metadata.as_texts().items():
        graph.metadata_props.add(key=key, value=value)
    path.write_bytes(graph.SerializeToString())


def read(path: Path) -> Callable[[Tensor], Tensor]:
    """What ONNX Runtime computes with a file."""
    onnxruntime = require("onnxruntime", "export")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        [outputs] = session.run(None, {INPUT: images.cpu().numpy()})
        return torch.from_numpy(outputs)

    return run
