"""PyTorch with compressed rows (CSR) for linear layers and 1x1 convolutions of few weights."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from experiment.deployment.subject import Subject
from experiment.nets.running import copy_of

NAME = "PyTorch, sparse rows"
PACKAGE = "torch"
EXTRA = ""
ON_GPU = False
LEAST_ZEROS = 0.7  # of a layer's weights, from which on it is stored by compressed rows


def prepare(subject: Subject, threads: int, device: str) -> Callable[[Tensor], Tensor] | None:
    """A copy of the net with sparse layers; None if none of its layers has enough zeros."""
    net = copy_of(subject.net).cpu().eval()
    if not make_sparse(net):
        return None

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return net(images)

    return run


def make_sparse(net: nn.Module) -> int:
    """Replace layers with many zeros by sparse ones, in place; return how many."""
    replaced = 0
    for path, module in list(net.named_modules()):
        if not path or not _can_be_sparse(module):
            continue
        parent, _, attribute = path.rpartition(".")
        setattr(net.get_submodule(parent), attribute, SparseRows.of(module))
        replaced += 1
    return replaced


def _can_be_sparse(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        is_product = (
            module.kernel_size == (1, 1) and module.groups == 1 and module.padding == (0, 0)
        )
    else:
        is_product = type(module) is nn.Linear
    if not is_product:
        return False
    weight = module.get_parameter("weight")
    return int(weight.count_nonzero()) <= (1 - LEAST_ZEROS) * weight.numel()


class SparseRows(nn.Module):
    """The product with a matrix of which only the entries other than 0 are stored, and a bias."""

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: tuple[int, int] | None = None):
        """`stride`: of a 1x1 convolution; None for a linear layer."""
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            self.rows = weight.detach().to_sparse_csr()  # [outputs, inputs]
        self.bias = None if bias is None else bias.detach()[:, None]
        self.stride = stride

    @classmethod
    def of(cls, layer: nn.Module) -> "SparseRows":
        """Of a linear layer or a 1x1 convolution."""
        if isinstance(layer, nn.Conv2d):
            vertical, horizontal = layer.stride
            return cls(layer.weight.flatten(1), layer.bias, (vertical, horizontal))
        assert isinstance(layer, nn.Linear)
        return cls(layer.weight, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride is None:
            return self._product(x.flatten(0, -2).t()).t().reshape(*x.shape[:-1], -1)
        vertical, horizontal = self.stride
        x = x[:, :, ::vertical, ::horizontal]
        count, _, height, width = x.shape
        outputs = self._product(x.transpose(0, 1).flatten(1))
        return outputs.reshape(-1, count, height, width).transpose(0, 1)

    def _product(self, inputs: Tensor) -> Tensor:
        """For each column of the inputs [inputs, columns]: [outputs, columns]."""
        outputs = self.rows @ inputs
        return outputs if self.bias is None else outputs + self.bias
