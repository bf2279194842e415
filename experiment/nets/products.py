"""The products that a net computes with its parameters, observed while it runs.

Whatever a module is called, and whether its weight goes through `nn.Linear`, a function or an
operator, in the end a kernel multiplies inputs with a parameter: a matrix product or a convolution.
Seen there, packed projections of attention, functional layers and GPT-2's transposed `Conv1D` are
linear layers like any other. A weight that is computed from parameters (a parametrisation) is no
parameter, and so its products are not seen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from experiment.nets.running import storage_of

aten = torch.ops.aten
MATRIX_PRODUCTS = {  # operator -> positions of the left and the right factor
    aten.mm: (0, 1),
    aten.addmm: (1, 2),
    aten._addmm_activation: (1, 2),
    aten.mv: (0, 1),
    aten.addmv: (1, 2),
    aten.bmm: (0, 1),
    aten.baddbmm: (1, 2),
}


@dataclass(frozen=True)
class Convolution:
    """How a convolution reads its input; one number for each spatial dimension."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class Product:
    """Inputs multiplied with a block of a parameter, the weight.

    The weight is a matrix [outputs, K]: K inputs, of a convolution the channels of a group times the
    kernel positions.
    """

    parameter: str
    rows: slice  # the outputs of the weight that were used
    columns: slice  # and of its K inputs
    transposed: bool  # whether the parameter is stored as [K, outputs]
    inputs: Tensor  # [points, K]; of a convolution [samples, channels, *size]
    num_outputs: int  # elements of the result
    convolution: Convolution | None = None


class ObservedProducts(TorchDispatchMode):
    """Within the block, call `visit(product)` after each product of an input with a parameter."""

    def __init__(self, net: nn.Module, visit: Callable[[Product], None]):
        super().__init__()
        self.visit = visit
        self.parameters: dict[int, list[tuple[str, Tensor]]] = {}  # by their storage
        for name, parameter in net.named_parameters():
            if parameter.dim() > 1 and parameter.is_floating_point():
                own = self.parameters.setdefault(storage_of(parameter), [])
                own.append((name, parameter.detach()))

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs, packet = kwargs or {}, operator.overloadpacket
        if packet in MATRIX_PRODUCTS:
            product = self._matrix_product(*(args[place] for place in MATRIX_PRODUCTS[packet]))
        elif packet is aten.convolution:
            product = self._convolution(*args)
        else:
            with self:  # in inference mode operators arrive that consist of others
                result = operator.decompose(*args, **kwargs)
            return operator(*args, **kwargs) if result is NotImplemented else result
        result = operator(
            *args, **kwargs
        )  # first, so that torch itself complains about wrong inputs
        if product is not None:
            self.visit(product)
        return result

    def _matrix_product(self, left: Tensor, right: Tensor) -> Product | None:
        """The product of one of two factors that is (a block of) a parameter with the other."""
        if right.dim() == 1:
            right = right[:, None]
        blocks = self._block(_single(right)), self._block(_single(left.mT))
        if all(blocks):
            return None  # a product of parameters, of low rank for instance, says nothing of inputs
        for block, weight, inputs in zip(blocks, (right, left.mT), (left, right.mT)):
            if block is not None:
                inputs = inputs.reshape(-1, inputs.shape[-1])
                return Product(*block, inputs, len(inputs) * weight.shape[-1])
        return None

    def _candidates(self, tensor: Tensor) -> Iterator[tuple[str, Tensor, int]]:
        """Parameters in whose memory a tensor may lie, and at which distance from their start."""
        for name, parameter in self.parameters.get(storage_of(tensor), ()):
            distance = tensor.storage_offset() - parameter.storage_offset()
            if tensor.dtype == parameter.dtype and 0 <= distance < parameter.numel():
                yield name, parameter, distance

    def _block(self, factor: Tensor | None) -> tuple[str, slice, slice, bool] | None:
        """The parameter, rows, columns and orientation that a right factor [K, outputs] is."""
        if factor is None:
            return None
        for name, parameter, distance in self._candidates(factor):
            if parameter.dim() > 2 and not parameter.is_contiguous():
                continue
            matrix = parameter.flatten(1)
            row, column = _place(matrix, distance)
            if _lies_at(factor.mT, matrix, row, column):
                outputs, inputs = (
                    slice(row, row + factor.shape[1]),
                    slice(column, column + len(factor)),
                )
                return name, outputs, inputs, False
            if parameter.dim() == 2 and _lies_at(factor, matrix, row, column):
                outputs, inputs = (
                    slice(column, column + factor.shape[1]),
                    slice(row, row + len(factor)),
                )
                return name, outputs, inputs, True
        return None

    def _convolution(
        self,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride,
        padding,
        dilation,
        transposed: bool,
        output_padding,
        groups: int,
    ) -> Product | None:
        for name, parameter, distance in self._candidates(weight):
            row, rest = divmod(distance, parameter.stride(0))
            same = weight.shape[1:] == parameter.shape[1:] and weight.stride() == parameter.stride()
            if transposed or rest or not same:
                continue
            spatial = weight.dim() - 2
            how = Convolution(
                tuple(weight.shape[2:]),
                *(_each(value, spatial) for value in (stride, padding, dilation)),
                groups,
            )
            return Product(
                name,
                slice(row, row + len(weight)),
                slice(0, weight[0].numel()),
                False,
                inputs,
                len(inputs) * len(weight) * num_positions(how, inputs),
                how,
            )
        return None


def num_positions(how: Convolution, inputs: Tensor) -> int:
    """P, the number of output positions of each sample of a convolution's inputs."""
    positions = 1
    for dim, size in enumerate(inputs.shape[2:]):
        reach = how.dilation[dim] * (how.kernel_size[dim] - 1) + 1
        positions *= (size + 2 * how.padding[dim] - reach) // how.stride[dim] + 1
    return positions


def _each(value: Any, spatial: int) -> tuple[int, ...]:
    return tuple(value) if len(value) == spatial else tuple(value) * spatial


def _single(factor: Tensor) -> Tensor | None:
    """The matrix that a factor is, or repeats for every sample of a batch; None if it has several."""
    if factor.dim() == 2:
        return factor
    return factor[0] if len(factor) == 1 or factor.stride(0) == 0 else None


def _place(matrix: Tensor, distance: int) -> tuple[int, int]:
    """Row and column of the entry of a matrix at a distance from its start in memory."""
    first, second = matrix.stride()
    if first >= second:
        row, rest = divmod(distance, first)
        return row, rest // second
    column, rest = divmod(distance, second)
    return rest // first, column


def _lies_at(block: Tensor, matrix: Tensor, row: int, column: int) -> bool:
    """Whether a block is that part of a matrix that begins at a row and column."""
    if row + block.shape[0] > matrix.shape[0] or column + block.shape[1] > matrix.shape[1]:
        return False
    return all(
        size == 1 or own == stride
        for size, own, stride in zip(block.shape, block.stride(), matrix.stride())
    )
