"""OpenVINO's own format: a `.xml` with the graph and a `.bin` with the weights."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from experiment.deployment.fidelity import OTHER_RUNTIME
from experiment.deployment.metadata import Metadata
from experiment.deployment.onnx_graph import onnx_graph
from experiment.deployment.packages import require

SUFFIX = ".xml"
TOLERANCE = OTHER_RUNTIME
GROUP = "experiment"  # of the metadata in the model's rt_info


def write(net: nn.Module, images: Tensor, path: Path, metadata: Metadata) -> None:
    """Write a net in single precision, with the metadata as rt_info of the model."""
    openvino = require("openvino", "openvino")
    model = openvino.Core().read_model(onnx_graph(net, images).SerializeToString())
    for key, value in metadata.as_texts().items():
        model.set_rt_info(value, [GROUP, key])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def read(path: Path) -> Callable[[Tensor], Tensor]:
    """What OpenVINO computes with a file on a CPU."""
    openvino = require("openvino", "openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(images.cpu().numpy())[0])

    return run
