"""The products that a net computes with its parameters, observed while it runs.

Whatever a module is called, and whether its weight goes through `nn.Linear`, a function or an
operator, in the end a kernel multiplies inputs by a parameter: a matrix product or a convolution.
Observed there, packed projections of attention, functional layers and GPT-2's transposed `Conv1D`
are linear layers like any other. A weight that is computed from parameters (a parametrisation) is
not a parameter itself, so its products are not observed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from experiment.nets.tensors import storage_of

aten = torch.ops.aten
FACTORS = {  # matrix products -> the positions of the left and right factor in their arguments
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
    """The options of a convolution; one number for each spatial dimension."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class Block:
    """A block of the matrix [outputs, K] that a parameter is, its kernel flattened.

    K is the number of inputs of an output: for a convolution, the channels of a group times the
    kernel positions.
    """

    parameter: str
    rows: slice  # of the outputs
    columns: slice  # of the K inputs
    transposed: bool  # whether the parameter is stored as [K, outputs]


@dataclass(frozen=True)
class Product(Block):
    """Inputs multiplied by a block of a parameter, the weight."""

    inputs: Tensor  # [points, K]; of a convolution [samples, channels, *size]
    num_outputs: int  # elements of the result
    convolution: Convolution | None = None

    @property
    def num_rows(self) -> int:
        return self.rows.stop - self.rows.start

    @property
    def num_columns(self) -> int:
        return self.columns.stop - self.columns.start

    @property
    def groups(self) -> int:
        return 1 if self.convolution is None else self.convolution.groups


class ObservedProducts(TorchDispatchMode):
    """Within the block, call `visit(product)` after each product of an input with a parameter."""

    def __init__(self, net: nn.Module, visit: Callable[[Product], None]):
        super().__init__()
        self.visit = visit
        self.parameters: dict[int, list[tuple[str, Tensor]]] = {}  # by their storage
        for name, parameter in net.named_parameters():
            if parameter.dim() > 1 and parameter.is_floating_point():
                in_storage = self.parameters.setdefault(storage_of(parameter), [])
                in_storage.append((name, parameter.detach()))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False, so that torch does not import its compiler: nothing is compiled here."""
        return False

    def __torch_dispatch__(
        self,
        operator: OpOverload,
        types: tuple[type, ...],
        args: tuple = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        packet = operator.overloadpacket
        if packet in FACTORS:
            left, right = FACTORS[packet]
            product = self._matrix_product(args[left], args[right])
        elif packet is aten.convolution:
            product = self._convolution(*args)
        else:
            with self:  # in inference mode, operators arrive that consist of others
                result = operator.decompose(*args, **kwargs)
            return operator(*args, **kwargs) if result is NotImplemented else result
        # The operator runs before the visit, so that torch itself complains about wrong inputs.
        result = operator(*args, **kwargs)
        if product is not None:
            self.visit(product)
        return result

    def _matrix_product(self, left: Tensor, right: Tensor) -> Product | None:
        """The product of two factors, one of which is (a block of) a parameter."""
        if right.dim() == 1:
            right = right[:, None]
        block = self._block(_single(right))
        transposed_block = self._block(_single(left.mT))
        if block and transposed_block:
            return None  # a product of parameters, of low rank for instance, has no inputs
        if block:
            return _product(block, left, right.shape[-1])
        if transposed_block:
            return _product(transposed_block, right.mT, left.shape[-2])
        return None

    def _candidates(self, tensor: Tensor) -> Iterator[tuple[str, Tensor, int]]:
        """Parameters in whose memory a tensor may lie, and its distance from their start."""
        for name, parameter in self.parameters.get(storage_of(tensor), ()):
            distance = int(tensor.storage_offset() - parameter.storage_offset())
            if tensor.dtype == parameter.dtype and 0 <= distance < parameter.numel():
                yield name, parameter, distance

    def _block(self, factor: Tensor | None) -> Block | None:
        """The block of a parameter that a right factor [K, outputs] is, or None."""
        if factor is None:
            return None
        for name, parameter, distance in self._candidates(factor):
            if parameter.dim() > 2 and not parameter.is_contiguous():
                continue
            matrix = parameter.flatten(1)
            row, column = _entry_at(matrix, distance)
            if _lies_at(factor.mT, matrix, row, column):
                rows = slice(row, row + factor.shape[1])
                columns = slice(column, column + len(factor))
                return Block(name, rows, columns, transposed=False)
            if parameter.dim() == 2 and _lies_at(factor, matrix, row, column):
                rows = slice(column, column + factor.shape[1])
                columns = slice(row, row + len(factor))
                return Block(name, rows, columns, transposed=True)
        return None

    def _convolution(
        self,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        transposed: bool,
        output_padding: list[int],
        groups: int,
    ) -> Product | None:
        """The product of a convolution whose weight is (some rows of) a parameter."""
        for name, parameter, distance in self._candidates(weight):
            row, rest = divmod(distance, parameter.stride(0))
            has_same_rows = weight.shape[1:] == parameter.shape[1:]
            has_same_layout = weight.stride() == parameter.stride()
            if transposed or rest or not (has_same_rows and has_same_layout):
                continue
            spatial = weight.dim() - 2
            convolution = Convolution(
                kernel_size=tuple(weight.shape[2:]),
                stride=_per_dimension(stride, spatial),
                padding=_per_dimension(padding, spatial),
                dilation=_per_dimension(dilation, spatial),
                groups=groups,
            )
            return Product(
                parameter=name,
                rows=slice(row, row + len(weight)),
                columns=slice(0, weight[0].numel()),
                transposed=False,
                inputs=inputs,
                num_outputs=len(inputs) * len(weight) * _num_positions(convolution, inputs),
                convolution=convolution,
            )
        return None


def _product(block: Block, inputs: Tensor, num_outputs: int) -> Product:
    """The product of inputs [..., K] with a block, which gives `num_outputs` numbers per point."""
    points = inputs.reshape(-1, inputs.shape[-1])
    return Product(**vars(block), inputs=points, num_outputs=len(points) * num_outputs)


def _num_positions(convolution: Convolution, inputs: Tensor) -> int:
    """P, the number of output positions of each sample of a convolution's inputs."""
    positions = 1
    for dim, size in enumerate(inputs.shape[2:]):
        span = convolution.dilation[dim] * (convolution.kernel_size[dim] - 1) + 1
        padded = size + 2 * convolution.padding[dim]
        positions *= (padded - span) // convolution.stride[dim] + 1
    return positions


def _per_dimension(value: list[int], spatial: int) -> tuple[int, ...]:
    """An option of a convolution, one number for each of the spatial dimensions."""
    return tuple(value) if len(value) == spatial else tuple(value) * spatial


def _single(factor: Tensor) -> Tensor | None:
    """The one matrix that a factor is or repeats for every sample of a batch; None for several."""
    if factor.dim() == 2:
        return factor
    return factor[0] if len(factor) == 1 or factor.stride(0) == 0 else None


def _entry_at(matrix: Tensor, distance: int) -> tuple[int, int]:
    """Row and column of the entry of a matrix at a distance from its start in memory."""
    row_stride, column_stride = matrix.stride()
    if row_stride >= column_stride:
        row, rest = divmod(distance, row_stride)
        return row, rest // column_stride
    column, rest = divmod(distance, column_stride)
    return rest // row_stride, column


def _lies_at(block: Tensor, matrix: Tensor, row: int, column: int) -> bool:
    """Whether a block is the part of a matrix that begins at a row and column."""
    if row + block.shape[0] > matrix.shape[0] or column + block.shape[1] > matrix.shape[1]:
        return False
    return all(
        size == 1 or stride == matrix_stride
        for size, stride, matrix_stride in zip(block.shape, block.stride(), matrix.stride())
    )
