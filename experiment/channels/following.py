"""Following channels through whatever a net computes between its layers, operation by operation.

Every activation has labels, of its shape. Operations that rearrange numbers rearrange their labels
in the same way, those that work element by element join the labels that meet, and means and pooling
keep labels that are the same. All others, such as attention, may mix their operands, whose channels
therefore cannot be removed.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from experiment.channels.labels import CONSTANT, FIXED, Labels, own_copy
from experiment.nets.tensors import storage_of

RESHAPING = {"view", "_unsafe_view", "_reshape_alias"}
REARRANGING = {
    "cat",
    "stack",
    "index",
    "index_select",
    "roll",
    "flip",
    "repeat",
    "pixel_shuffle",
    "pixel_unshuffle",
}
# Element by element, but not tagged so by torch.
POINTWISE = {"hardswish", "hardswish_", "_to_copy", "_prelu_kernel", "log_sigmoid_forward"}
OVERWRITING = {"copy_", "fill_", "zero_"}
# Views whose labels are not the same view of the labels.
UNRELATED = {"as_strided", "view_as_real", "view_as_complex"}
# Along the dimensions `dim`.
REDUCING = {
    "mean",
    "sum",
    "amax",
    "amin",
    "max",
    "min",
    "var",
    "std",
    "var_mean",
    "_softmax",
    "_log_softmax",
    "cumsum",
    "linalg_vector_norm",
}
# Operations that mix the positions of each channel, with the number of their dimensions.
POOLING = {
    f"{name}{dims}d{more}": dims
    for dims in (1, 2, 3)
    for name, more in (
        ("avg_pool", ""),
        ("adaptive_avg_pool", ""),
        ("_adaptive_avg_pool", ""),
        ("max_pool", "_with_indices"),
        ("adaptive_max_pool", ""),
        ("reflection_pad", ""),
        ("replication_pad", ""),
        ("upsample_nearest", ""),
        ("_upsample_nearest_exact", ""),
    )
}
POOLING |= {
    "upsample_linear1d": 1,
    "upsample_bilinear2d": 2,
    "upsample_bicubic2d": 2,
    "upsample_trilinear3d": 3,
}


class Following(TorchDispatchMode):
    """Within the block, the results of operations get labels; see `labels_of` and `label`.

    `elsewhere` collects the parameters that are used by an operation outside of the modules that
    `depth` counts.
    """

    def __init__(self, net: nn.Module, labels: Labels):
        super().__init__()
        self.labels = labels
        self.elsewhere: set[str] = set()
        self.depth = 0  # of nested modules whose labels are known as a whole; 0 outside of them
        self._labels = WeakTensorKeyDictionary()
        self._parameters: dict[int, list[str]] = {}
        for name, parameter in net.named_parameters(remove_duplicate=False):
            self._parameters.setdefault(storage_of(parameter), []).append(name)

    def labels_or_none(self, tensor: Tensor) -> Tensor | None:
        """The labels of a tensor; None for one that is known to hold constants only."""
        if tensor in self._labels:
            return self._labels[tensor]
        if self._names(tensor):
            return torch.tensor(FIXED).expand(tensor.shape)
        return None

    def labels_of(self, tensor: Tensor) -> Tensor:
        """The labels of a tensor, also of one that holds constants only."""
        labels = self.labels_or_none(tensor)
        return torch.tensor(CONSTANT).expand(tensor.shape) if labels is None else labels

    def label(self, tensor: Tensor, labels: Tensor) -> None:
        """Set the labels of a tensor, in memory of their own: they change when it is written to."""
        self._labels[tensor] = own_copy(labels).expand(tensor.shape)

    def __torch_dispatch__(
        self,
        function: OpOverload,
        types: tuple[type, ...],
        args: tuple = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if not self.depth:
            self._follow(function, args, kwargs, _tensors(result))
        return result

    def _names(self, tensor: Tensor) -> list[str]:
        """The parameters in whose memory a tensor lies."""
        if tensor.layout != torch.strided or not tensor.numel():
            return []
        return self._parameters.get(storage_of(tensor), [])

    def _follow(
        self, function: OpOverload, args: tuple, kwargs: dict, outputs: list[Tensor]
    ) -> None:
        """Give the outputs of an operation their labels."""
        operands = _tensors((args, kwargs))
        name = function.overloadpacket.__name__
        for operand in operands:
            self.elsewhere.update(self._names(operand))
        if name.endswith("_like") or name.startswith("new_"):
            return  # only the shape is used
        if function.is_view and name not in UNRELATED and self.labels_or_none(args[0]) is None:
            # The view shares these labels, so that what is written to the view counts here too.
            self.label(args[0], torch.full(args[0].shape, CONSTANT))
        if all(self.labels_or_none(operand) is None for operand in operands):
            return
        by_output = self._labels_after(function, name, args, kwargs, outputs)
        if by_output is None or not all(map(_fits, by_output, outputs)):
            by_output = self._unknown(operands, outputs)
        for output, labels in zip(outputs, by_output):
            in_place = any(output is operand for operand in operands)
            self._set(output, labels, function.is_view, in_place)

    def _set(self, output: Tensor, labels: Tensor, is_view: bool, in_place: bool) -> None:
        """Set the labels of an output, in place if the operation was."""
        known = self.labels_or_none(output)
        if is_view:
            self._labels[output] = labels.expand(output.shape)
        elif in_place and known is not None and known.shape == output.shape:
            self.labels.write(known, labels)
        else:
            self.label(output, labels)

    def _labels_after(
        self, function: OpOverload, name: str, args: tuple, kwargs: dict, outputs: list[Tensor]
    ) -> list[Tensor] | None:
        """The labels of the outputs; None for an operation of another kind."""
        if name in OVERWRITING:
            return [self._joined(_tensors((args[1:], kwargs))).expand(args[0].shape)]
        if name in RESHAPING:
            return [self.labels_of(args[0]).reshape(outputs[0].shape)]
        if name == "as_strided_" and self.labels_of(args[0]).shape == outputs[0].shape:
            return [self.labels_of(args[0])]  # the same numbers in another memory format
        if torch.Tag.inplace_view in function.tags and name not in UNRELATED:
            return [function(self.labels_of(args[0]).clone(), *args[1:], **kwargs)]
        if name in REARRANGING or (function.is_view and name not in UNRELATED):
            return self._rearranged(function, args, kwargs)
        if name == "constant_pad_nd":
            return [function(self.labels_of(args[0]), args[1], CONSTANT)]
        if torch.Tag.pointwise in function.tags or name in POINTWISE:
            return [self._joined(_tensors((args, kwargs)))] * len(outputs)
        if name in REDUCING:
            return self._reduced(function, args, kwargs, outputs)
        if name in POOLING:
            labels = self.labels_of(args[0])
            positions = list(range(labels.dim() - POOLING[name], labels.dim()))
            return [self.labels.single(labels, positions)] * len(outputs)
        return None

    def _rearranged(self, function: OpOverload, args: tuple, kwargs: dict) -> list[Tensor] | None:
        """The operation applied to the labels of the first argument; the others are indices."""
        if any(self.labels_or_none(index) is not None for index in _tensors((args[1:], kwargs))):
            return None
        labels = tree_map_only(Tensor, self.labels_of, args[0])
        others, options = tree_map_only(Tensor, Tensor.cpu, (args[1:], kwargs))
        return _tensors(function(labels, *others, **options))

    def _joined(self, operands: list[Tensor]) -> Tensor:
        """The labels of operands that are combined element by element."""
        labels = torch.tensor(CONSTANT)
        for operand in operands:
            labels = self.labels.join(labels, self.labels_of(operand))
        return labels

    def _reduced(
        self, function: OpOverload, args: tuple, kwargs: dict, outputs: list[Tensor]
    ) -> list[Tensor] | None:
        """The labels that are left along the dimensions `dim`, or along all without any."""
        names = [argument.name for argument in function._schema.arguments]
        named = dict(zip(names, args)) | kwargs
        if len(_tensors(named)) > 1:
            return None  # the maximum of two tensors, for instance
        labels = self.labels_of(args[0])
        dims = named.get("dim")
        if dims is None or dims == []:
            dims = range(labels.dim())
        elif isinstance(dims, int):
            dims = [dims]
        dims = sorted(dim % labels.dim() for dim in dims)
        single = self.labels.single(labels, dims)
        return [
            single if output.dim() == labels.dim() else single.squeeze(dims) for output in outputs
        ]

    def _unknown(self, operands: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
        """Fixed labels, for the operands of an unknown operation and for its outputs."""
        all_constant = True
        for operand in operands:
            labels = self.labels_of(operand)
            self.labels.fix(labels)
            all_constant = all_constant and not bool((labels >= 0).any())
        label = torch.tensor(CONSTANT if all_constant else FIXED)
        return [label.expand(output.shape) for output in outputs]


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in nested arguments or results."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _fits(labels: Tensor, output: Tensor) -> bool:
    """Whether tensors are labels of the output's shape, or of length 1 where they are repeated."""
    if labels.dtype != torch.int64 or labels.dim() != output.dim():
        return False
    return all(length in (1, full) for length, full in zip(labels.shape, output.shape))
