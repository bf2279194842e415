"""Following channels through whatever a net computes between its layers, operation by operation.

Every activation has labels, of its shape. Operations that move numbers about move their labels in
the same way, those that work number by number join what meets, means and pooling keep what is
alike. All others, attention for instance, may mix what they get: its channels must stay.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from experiment.channels.labels import CONSTANT, FIXED, Labels, own_copy
from experiment.nets.running import storage_of

RESHAPING = {"view", "_unsafe_view", "_reshape_alias"}
MOVING = {
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
# number by number, but not tagged so by torch:
POINTWISE = {"hardswish", "hardswish_", "_to_copy", "_prelu_kernel", "log_sigmoid_forward"}
OVERWRITING = {"copy_", "fill_", "zero_"}
# views whose labels are not the same view of the labels:
UNRELATED = {"as_strided", "view_as_real", "view_as_complex"}
# along the dimensions `dim`:
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
# and what else mixes the positions of each channel, with their number of dimensions:
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
    """While the block runs, the tensors that operations yield get labels; see `of` and `label`.

    `elsewhere` collects the parameters that some operation uses outside of `aside`.
    """

    def __init__(self, net: nn.Module, labels: Labels):
        super().__init__()
        self.labels = labels
        self.elsewhere: set[str] = set()
        self.aside = 0  # above 0 while a layer runs, whose labels are known as a whole
        self._of = WeakTensorKeyDictionary()
        self._parameters: dict[int, list[str]] = {}
        for name, parameter in net.named_parameters(remove_duplicate=False):
            self._parameters.setdefault(storage_of(parameter), []).append(name)

    def of(self, tensor: Tensor) -> Tensor | None:
        """The labels of a tensor; None for one that is known to hold constants only."""
        if tensor in self._of:
            return self._of[tensor]
        if self._names(tensor):
            return torch.tensor(FIXED).expand(tensor.shape)
        return None

    def of_all(self, tensor: Tensor) -> Tensor:
        """The labels of a tensor, also of one that holds constants only."""
        labels = self.of(tensor)
        return torch.tensor(CONSTANT).expand(tensor.shape) if labels is None else labels

    def label(self, tensor: Tensor, labels: Tensor) -> None:
        """The labels of a tensor, in memory of its own: they change when it is written to."""
        self._of[tensor] = own_copy(labels).expand(tensor.shape)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if not self.aside:
            self._follow(function, args, kwargs, _tensors(result))
        return result

    def _names(self, tensor: Tensor) -> list[str]:
        """The parameters in whose memory a tensor lies."""
        if tensor.layout != torch.strided or not tensor.numel():
            return []
        return self._parameters.get(storage_of(tensor), [])

    def _follow(self, function: Any, args: tuple, kwargs: dict, outputs: list[Tensor]) -> None:
        """Give the outputs of an operation their labels."""
        operands, name = _tensors((args, kwargs)), function.overloadpacket.__name__
        for operand in operands:
            self.elsewhere.update(self._names(operand))
        if name.endswith("_like") or name.startswith("new_"):
            return  # only the shape is used
        if function.is_view and name not in UNRELATED and self.of(args[0]) is None:
            # what will be written to the view counts for it
            self.label(args[0], torch.full(args[0].shape, CONSTANT))
        if all(self.of(operand) is None for operand in operands):
            return
        found = self._labels_after(function, name, args, kwargs, outputs)
        if found is None or any(
            part.dtype != torch.int64 or not _fits(part, output)
            for part, output in zip(found, outputs)
        ):
            found = self._unknown(operands, outputs)
        for output, part in zip(outputs, found):
            in_place = any(output is operand for operand in operands)
            self._keep(output, part, function.is_view, in_place)

    def _keep(self, output: Tensor, labels: Tensor, is_view: bool, in_place: bool) -> None:
        if is_view:
            self._of[output] = labels.expand(output.shape)
        elif not in_place or self.of(output) is None or self.of(output).shape != output.shape:
            self.label(output, labels)
        else:
            self.labels.write(self.of(output), labels)

    def _labels_after(
        self, function: Any, name: str, args: tuple, kwargs: dict, outputs: list[Tensor]
    ) -> list[Tensor] | None:
        """The labels of the outputs; None for an operation of another kind."""
        if name in OVERWRITING:
            return [self._joined(_tensors((args[1:], kwargs)))[0].expand(args[0].shape)]
        if name in RESHAPING:
            return [self.of_all(args[0]).reshape(outputs[0].shape)]
        if name == "as_strided_" and self.of_all(args[0]).shape == outputs[0].shape:
            return [self.of_all(args[0])]  # the same in another order of memory
        if torch.Tag.inplace_view in function.tags and name not in UNRELATED:
            return [function(self.of_all(args[0]).clone(), *args[1:], **kwargs)]
        if name in MOVING or (function.is_view and name not in UNRELATED):
            return self._moved(function, args, kwargs)
        if name == "constant_pad_nd":
            return [function(self.of_all(args[0]), args[1], CONSTANT)]
        if torch.Tag.pointwise in function.tags or name in POINTWISE:
            return self._joined(_tensors((args, kwargs))) * len(outputs)
        if name in REDUCING:
            return self._reduced(function, args, kwargs, outputs)
        if name in POOLING:
            labels = self.of_all(args[0])
            positions = list(range(labels.dim() - POOLING[name], labels.dim()))
            return [self.labels.single(labels, positions)] * len(outputs)
        return None

    def _moved(self, function: Any, args: tuple, kwargs: dict) -> list[Tensor] | None:
        """The operation done with the labels of the first argument; the others say where."""
        if any(self.of(where) is not None for where in _tensors((args[1:], kwargs))):
            return None
        where, options = tree_map_only(Tensor, Tensor.cpu, (args[1:], kwargs))
        return _tensors(function(tree_map_only(Tensor, self.of_all, args[0]), *where, **options))

    def _joined(self, operands: list[Tensor]) -> list[Tensor]:
        labels = torch.tensor(CONSTANT)
        for operand in operands:
            labels = self.labels.join(labels, self.of_all(operand))
        return [labels]

    def _reduced(
        self, function: Any, args: tuple, kwargs: dict, outputs: list[Tensor]
    ) -> list[Tensor] | None:
        """What is left along the dimensions `dim`, or, without any, of everything."""
        named = dict(zip((one.name for one in function._schema.arguments), args)) | kwargs
        if len(_tensors(named)) > 1:
            return None  # the maximum of two tensors, for instance
        labels, dims = self.of_all(args[0]), named.get("dim")
        every = dims is None or dims == []
        dims = range(labels.dim()) if every else [dims] if isinstance(dims, int) else dims
        dims = sorted(dim % labels.dim() for dim in dims)
        single = self.labels.single(labels, dims)
        return [
            single if output.dim() == labels.dim() else single.squeeze(dims) for output in outputs
        ]

    def _unknown(self, operands: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
        """Everything that goes into the operation must stay, and what comes out of it."""
        some = False
        for operand in operands:
            labels = self.of_all(operand)
            self.labels.fix(labels)
            some = some or bool((labels >= 0).any())
        label = torch.tensor(FIXED if some else CONSTANT)
        return [label.expand(output.shape) for output in outputs]


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _fits(labels: Tensor, output: Tensor) -> bool:
    """Whether labels can be those of an output: of its shape, or 1 where they repeat themselves."""
    return labels.dim() == output.dim() and all(
        one in (1, other) for one, other in zip(labels.shape, output.shape)
    )
