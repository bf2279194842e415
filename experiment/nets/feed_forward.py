"""Nets that are one chain of layers with ReLUs between them: found by tracing, and followed.

The theorem about the output of a whole net (`allocation/network_error.py`) needs that relative
errors of single entries pass from one layer to the next. What does this for errors of at most r,
where r is at most 1, so that no entry changes its sign:

- ReLU: entries that are at most 0 stay so and give 0 in both nets; for the others, ReLU changes no
  distance by more than 1 times, and their value is the entry itself.
- Maximum pooling: an entry within (1 +- r) of a positive largest entry remains, the others are
  below (1 + r) times it; a negative largest entry -m remains within -(1 +- r) m in the same way.
- Average pooling of entries that are not negative: a sum of such entries, each within 1 +- r, is
  within 1 +- r. With entries of both signs the sum may cancel, so it must follow a ReLU.
- Flattening and other rearrangements: entries keep their values.
- BatchNorm in eval mode, directly after a layer: it multiplies each filter by a number and adds
  one, so it is part of the layer, whose additive term is then the one of both together.

Sums and concatenations of several activations, as residual connections have them, are not a chain.
A sum can cancel like a neuron, but the share of the error that each branch may have does not follow
from the published theorem, so such nets are refused.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from experiment.core.errors import UserError, first_line
from experiment.nets.layers import LinearOrConvolution
from experiment.nets.running import copy_of, device_of, evaluating, split_batch
from experiment.nets.tensors import moved

Kind = Literal["layer", "normalisation", "relu", "maximum", "average", "rearranged", "unchanged"]

MODULES: dict[type[nn.Module], Kind] = {
    nn.Linear: "layer",
    nn.Conv1d: "layer",
    nn.Conv2d: "layer",
    nn.Conv3d: "layer",
    nn.BatchNorm1d: "normalisation",
    nn.BatchNorm2d: "normalisation",
    nn.BatchNorm3d: "normalisation",
    nn.SyncBatchNorm: "normalisation",
    nn.ReLU: "relu",
    nn.MaxPool1d: "maximum",
    nn.MaxPool2d: "maximum",
    nn.MaxPool3d: "maximum",
    nn.AdaptiveMaxPool1d: "maximum",
    nn.AdaptiveMaxPool2d: "maximum",
    nn.AdaptiveMaxPool3d: "maximum",
    nn.AvgPool1d: "average",
    nn.AvgPool2d: "average",
    nn.AvgPool3d: "average",
    nn.AdaptiveAvgPool1d: "average",
    nn.AdaptiveAvgPool2d: "average",
    nn.AdaptiveAvgPool3d: "average",
    nn.Flatten: "rearranged",
    nn.Unflatten: "rearranged",
    nn.Identity: "unchanged",
    nn.Dropout: "unchanged",  # in eval mode, as all of these
    nn.Dropout1d: "unchanged",
    nn.Dropout2d: "unchanged",
    nn.Dropout3d: "unchanged",
}
FUNCTIONS: dict[Callable, Kind] = {
    torch.relu: "relu",
    torch.relu_: "relu",
    F.relu: "relu",
    F.relu_: "relu",
    torch.max_pool1d: "maximum",
    torch.max_pool2d: "maximum",
    torch.max_pool3d: "maximum",
    F.max_pool1d: "maximum",
    F.max_pool2d: "maximum",
    F.max_pool3d: "maximum",
    F.adaptive_max_pool1d: "maximum",
    F.adaptive_max_pool2d: "maximum",
    F.adaptive_max_pool3d: "maximum",
    F.avg_pool1d: "average",
    F.avg_pool2d: "average",
    F.avg_pool3d: "average",
    F.adaptive_avg_pool1d: "average",
    F.adaptive_avg_pool2d: "average",
    F.adaptive_avg_pool3d: "average",
    torch.mean: "average",
    torch.flatten: "rearranged",
    torch.reshape: "rearranged",
    torch.squeeze: "rearranged",
    torch.unsqueeze: "rearranged",
    torch.permute: "rearranged",
    torch.transpose: "rearranged",
}
METHODS: dict[str, Kind] = {
    "relu": "relu",
    "relu_": "relu",
    "mean": "average",
    "flatten": "rearranged",
    "view": "rearranged",
    "reshape": "rearranged",
    "squeeze": "rearranged",
    "unsqueeze": "rearranged",
    "permute": "rearranged",
    "transpose": "rearranged",
    "contiguous": "unchanged",
}
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
CONCATENATIONS = (torch.cat, torch.concat, torch.stack)
NOT_COVERED = "the certified error of a whole net covers chains of linear and convolutional layers"


@dataclass(frozen=True)
class Link:
    """One operation of the chain."""

    node: fx.Node
    kind: Kind
    name: str = ""  # of a layer or normalisation

    @property
    def extends_layer(self) -> bool:
        """Whether what the operation gives still belongs to the layer before it."""
        return self.kind in ("normalisation", "unchanged")


@dataclass(frozen=True)
class Sums:
    """What a layer, with the BatchNorm after it, makes of some samples."""

    layer: str
    absolute: Tensor  # of each output, the sum of the absolute values of its terms w_j a_j
    outputs: Tensor  # the sum of the terms themselves and of the additive term


class FeedForward:
    """A net that is a chain of layers, in double precision, since terms may nearly cancel."""

    def __init__(self, net: nn.Module, graph: fx.Graph, links: list[Link]):
        self.net = net
        self.graph = graph
        self.links = {link.node: link for link in links}
        self._ends = _ends_of_layers(links)

    @property
    def layers(self) -> list[str]:
        """The names of the layers, from the input to the output."""
        return [link.name for link in self.links.values() if link.kind == "layer"]

    @torch.no_grad()
    def run(self, batch: Any, visit: Callable[[Sums], None]) -> Tensor:
        """The net's output for a batch, in eval mode; `visit` is called for each layer in order."""
        inputs = moved(_single_input(batch), device_of(self.net)).double()
        with evaluating(self.net):
            return _Run(self, visit).run(inputs)


def _ends_of_layers(links: list[Link]) -> dict[fx.Node, str]:
    """The layer whose result is complete with a node, by this node."""
    ends = {}
    for index, link in enumerate(links):
        if link.kind == "layer":
            last = index
            while last + 1 < len(links) and links[last + 1].extends_layer:
                last += 1
            ends[links[last].node] = link.name
    return ends


class _Run(fx.Interpreter):
    """Runs a chain on a batch, with the absolute values of each layer's terms beside it."""

    def __init__(self, chain: FeedForward, visit: Callable[[Sums], None]):
        super().__init__(chain.net, graph=chain.graph)
        self.chain = chain
        self.visit = visit
        self.absolute = torch.empty(0)  # of the layer at hand

    def run_node(self, node: fx.Node) -> Any:
        link = self.chain.links.get(node)
        if link is not None and link.kind == "layer":
            inputs = self.env[node.all_input_nodes[0]]
            self.absolute = _absolute_sums(self.fetch_attr(link.name), inputs)
        elif link is not None and link.kind == "normalisation":
            self.absolute = self.absolute * _scale(self.fetch_attr(link.name), self.absolute)
        result = super().run_node(node)
        layer = self.chain._ends.get(node)
        if layer is not None:
            # A copy, since an operation in place may follow.
            self.visit(Sums(layer, self.absolute, result.clone()))
        return result


def feed_forward(net: nn.Module) -> FeedForward:
    """A copy of the net as a chain of layers.

    Raises:
        UserError: if it is none, with the operation that keeps it from being one.
    """
    net = copy_of(net).double()
    try:
        with evaluating(net):
            graph = fx.Tracer().trace(net)
    except Exception as error:  # a net may do anything, also what cannot be traced
        raise UserError(
            f"{NOT_COVERED}, and following this net failed: {first_line(error)}"
        ) from None
    return FeedForward(net, graph, _links(net, graph))


def _links(net: nn.Module, graph: fx.Graph) -> list[Link]:
    """The operations of the chain, each of which works on the result of the one before."""
    links: list[Link] = []
    current: fx.Node | None = None
    shapes: set[fx.Node] = set()  # results that are sizes, not activations
    for node in graph.nodes:
        activations = [one for one in node.all_input_nodes if one not in shapes]
        if node.op == "placeholder":
            if not node.users:
                continue
            if current is not None:
                raise _refused("it has several inputs")
            current = node
        elif node.op == "output":
            if activations != [current]:
                raise _refused("it has several outputs")
        elif not activations or _is_size(node):
            shapes.add(node)
        else:
            if len(activations) > 1 or activations != [current]:
                raise _refused(_joining(node))
            links.append(_link(net, node, links))
            current = node
    _require_distinct([link.name for link in links if link.kind == "layer"])
    return links


def _require_distinct(layers: list[str]) -> None:
    """Raises UserError unless there are layers, each of which is used once."""
    if not layers:
        raise _refused("it has no such layer")
    for name in layers:
        if layers.count(name) > 1:
            raise _refused(f"layer {name} is used more than once")


def _is_size(node: fx.Node) -> bool:
    """Whether a node gives the size of an activation."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.target is getattr and str(node.args[1]) == "shape"


def _link(net: nn.Module, node: fx.Node, before: list[Link]) -> Link:
    """The operation of a node. Raises UserError unless errors pass through it."""
    kind, shown = _kind_of(net, node)
    if kind is None:
        raise _refused(f"it computes {shown}, through which relative errors need not pass")
    is_after_layer = any(link.kind == "layer" for link in before)
    if kind == "average" and is_after_layer and not _is_nonnegative(before):
        raise _refused(f"{shown} averages entries of both signs: it must follow a ReLU")
    if kind == "normalisation" and is_after_layer and not _belongs_to_layer(before):
        raise _refused(f"{shown} does not directly follow a layer")
    if kind == "normalisation" and net.get_submodule(str(node.target)).running_var is None:
        raise _refused(f"{shown} normalises by the batch")
    named = kind == "layer" or (kind == "normalisation" and is_after_layer)
    if kind == "normalisation" and not is_after_layer:
        kind = "unchanged"  # of the input, which is the same in both nets
    return Link(node, kind, str(node.target) if named else "")


def _kind_of(net: nn.Module, node: fx.Node) -> tuple[Kind | None, str]:
    """What kind of operation a node is, None for any other, and what to call it."""
    if node.op == "call_module":
        module = net.get_submodule(str(node.target))
        return MODULES.get(type(module)), f"{node.target} ({type(module).__name__})"
    if node.op == "call_function":
        name = getattr(node.target, "__name__", str(node.target))
        if node.target is F.dropout and node.kwargs.get("training") is False:
            return "unchanged", name
        return FUNCTIONS.get(node.target), name  # type: ignore[arg-type]
    return METHODS.get(str(node.target)), str(node.target)


def _is_nonnegative(links: list[Link]) -> bool:
    """Whether what the last operation gives has no negative entry, whatever the input."""
    for link in reversed(links):
        if link.kind == "relu":
            return True
        if link.kind in ("layer", "normalisation"):
            return False
    return False


def _belongs_to_layer(links: list[Link]) -> bool:
    """Whether the result of the last operation is that of a layer, perhaps normalised already."""
    for link in reversed(links):
        if not link.extends_layer:
            return link.kind == "layer"
    return False


def _joining(node: fx.Node) -> str:
    """What is wrong with an operation that reads several activations, or an earlier one."""
    if node.target in ADDITIONS:
        return "it adds activations, as residual connections do, and the sum may cancel"
    if node.target in CONCATENATIONS:
        return "it joins several activations, as densely connected nets do"
    return f"{node.name} reads several activations, or one that another operation reads as well"


def _refused(reason: str) -> UserError:
    return UserError(f"{NOT_COVERED} with ReLUs between them, and this net is none: {reason}")


def _single_input(batch: Any) -> Tensor:
    """The input of a batch. Raises UserError unless it is one tensor."""
    inputs, _ = split_batch(batch)
    if not isinstance(inputs, Tensor):
        raise _refused("its input is not a single tensor")
    return inputs


def _absolute_sums(layer: LinearOrConvolution, inputs: Tensor) -> Tensor:
    """The sum of |w_j a_j| of each output of a layer."""
    weight = layer.weight.abs()
    if isinstance(layer, nn.Linear):
        return F.linear(inputs.abs(), weight)
    return layer._conv_forward(inputs.abs(), weight, None)


def _scale(norm: nn.Module, outputs: Tensor) -> Tensor:
    """The absolute value of what BatchNorm multiplies each filter with, for outputs [n, f, ...]."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.abs()
    return scale.reshape(-1, *[1] * (outputs.dim() - 2))
