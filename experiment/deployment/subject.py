"""A net whose latency is measured, with what runtimes make of it once."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from experiment.deployment.onnx_graph import onnx_graph
from experiment.nets.running import run_in_eval_mode


@dataclass(frozen=True)
class Subject:
    """A net in eval mode, and real images for it."""

    name: str
    net: nn.Module
    images: Tensor

    @cached_property
    def onnx(self) -> bytes:
        """The net as ONNX. Raises UserError if that is not possible."""
        return onnx_graph(self.net, self.images).SerializeToString()

    @cached_property
    def outputs(self) -> Tensor:
        """What it returns for its images."""
        return run_in_eval_mode(self.net, (self.images, None))
