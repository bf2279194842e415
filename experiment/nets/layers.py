"""The prunable layers of a net: the weights that it multiplies with inputs, and how it uses them."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from experiment.core.errors import UserError
from experiment.nets.products import ObservedProducts, Product
from experiment.nets.running import batch_length, evaluating, joint_name, run, split_batch

LINEAR_OR_CONVOLUTION = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NEVER_RAN = "its module never ran on the sample"
COMPUTED = "the weight is computed or cast from it"
UNEXPECTED = (NEVER_RAN, COMPUTED)
LEFT_OUT = {  # kinds of modules whose parameters are never prunable, and why
    (nn.RNNBase, nn.RNNCellBase): "recurrent layers are not pruned",
    (nn.modules.conv._ConvTransposeNd,): "transposed convolutions are not pruned",
}


@dataclass(frozen=True)
class PrunableLayer:
    """A weight that the net multiplies with inputs, and what one pass over a sample does with it.

    Whatever is said of the weights of a layer is in the orientation [outputs, inputs, *kernel], the
    inputs being those of a group. `transposed` parameters are stored as [inputs, outputs].
    """

    name: str  # the module's, or the parameter's own where it is not called `weight`
    parameter: str
    kind: str  # the type of the module that owns the parameter
    shape: torch.Size  # oriented
    transposed: bool
    patches: int  # P: output positions of a sample; 1 for a matrix, whose tokens are samples
    num_outputs: float  # elements of a sample
    flops: float  # of a sample: two for each multiplication and addition

    def weight(self, net: nn.Module) -> Tensor:
        """The oriented weight: a view of the net's parameter."""
        return self.oriented(net.get_parameter(self.parameter))

    def oriented(self, tensor: Tensor) -> Tensor:
        """A tensor of the parameter's shape in the orientation of the layer, or the inverse."""
        return tensor.t() if self.transposed else tensor


@dataclass(frozen=True)
class Layers:
    """What of a net can be pruned, and what not."""

    prunable: dict[str, PrunableLayer]  # by name, in the order of the net's modules
    left_out: dict[str, str]  # parameters of two dimensions or more: why they are not pruned


def find_layers(net: nn.Module, batches: Iterable[Any]) -> Layers:
    """Run a net in eval mode to see which of its weights it multiplies with inputs, and how.

    Stops after the first batch on which all linear and convolutional modules have run; what else
    runs on later batches only is not seen. The numbers for a sample are those of the first batch on
    which a layer runs.
    """
    uses: dict[str, _Use] = {}
    expected = {module for module in net.modules() if isinstance(module, LINEAR_OR_CONVOLUTION)}
    ran: set[nn.Module] = set()
    for batch in batches:
        uses = _uses(net, batch, ran) | uses
        used = {id(net.get_parameter(name)) for name in uses}
        if all(
            module in ran or id(module._parameters.get("weight")) in used for module in expected
        ):
            break
    owners = _owners(net)
    found = {
        parameter: _layer(net, parameter, *owner, uses[parameter])
        for parameter, owner in owners.items()
        if parameter in uses and not _excluded(parameter, owner[1])
    }
    left_out = {
        name: _why(name, owner[1], owner[1] in ran)
        for name, owner in owners.items()
        if name not in found
    }
    return Layers({layer.name: layer for layer in found.values()}, left_out)


@dataclass
class _Use:
    """What a batch does with a parameter: totals over the products in one orientation."""

    transposed: bool
    is_matrix: bool
    num_outputs: float = 0  # of a sample
    flops: float = 0

    def add(self, product: Product, samples: int) -> None:
        width = product.columns.stop - product.columns.start
        self.num_outputs += product.num_outputs / samples
        self.flops += 2 * width * product.num_outputs / samples


def require_layers(layers: Layers) -> Layers:
    """The layers. Warns of linear and convolutional ones that are left out; UserError if none is left."""
    if layers.prunable:
        unexpected = [name for name, why in layers.left_out.items() if why in UNEXPECTED]
        if unexpected:
            warnings.warn(
                "not pruned: "
                + ", ".join(f"{name} ({layers.left_out[name]})" for name in unexpected),
                stacklevel=3,
            )
        return layers
    reasons = "; ".join(f"{name}: {why}" for name, why in layers.left_out.items())
    raise UserError(
        "none of the net's parameters is multiplied by inputs: there is nothing to prune"
        + (f" ({reasons})" if reasons else "")
    )


def watch(
    net: nn.Module,
    layers: dict[str, PrunableLayer],
    batches: Iterable[Any],
    visit: Callable[[str, Product, int], None],
) -> None:
    """Run a net on batches in eval mode; call `visit(layer name, product, samples)` for each product.

    Only products of the given layers in their own orientation count; `samples` is the length of the
    batch.
    """
    names = {layer.parameter: name for name, layer in layers.items()}

    def visit_layer(product: Product) -> None:
        name = names.get(product.parameter)
        if name is not None and product.transposed == layers[name].transposed:
            visit(name, product, length)

    with evaluating(net), torch.no_grad(), ObservedProducts(net, visit_layer):
        for batch in batches:
            length = batch_length(split_batch(batch)[0])
            run(net, batch)


def _uses(net: nn.Module, batch: Any, ran: set[nn.Module]) -> dict[str, _Use]:
    """What a batch does with each parameter; of the two orientations of a weight the usual counts.

    The linear and convolutional modules that run are added to `ran`.
    """
    samples = batch_length(split_batch(batch)[0])
    uses: dict[tuple[str, bool], _Use] = {}

    def add(product: Product) -> None:
        key = product.parameter, product.transposed
        use = uses.setdefault(key, _Use(product.transposed, product.convolution is None))
        use.add(product, samples)

    handles = [
        module.register_forward_hook(lambda module, inputs, output: ran.add(module))
        for module in net.modules()
        if isinstance(module, LINEAR_OR_CONVOLUTION)
    ]
    try:
        with evaluating(net), torch.no_grad(), ObservedProducts(net, add):
            run(net, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: use
        for (name, transposed), use in uses.items()
        if not transposed or (name, False) not in uses
    }


def _owners(net: nn.Module) -> dict[str, tuple[str, nn.Module]]:
    """Of each parameter of two dimensions or more, the name of its layer and the owning module.

    In the order of the modules. Of several owners of a parameter the first linear or convolutional
    one counts.
    """
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    owners: dict[str, tuple[str, nn.Module]] = {}
    for path, module in net.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is None or parameter.dim() < 2:
                continue
            name = names[id(parameter)]
            known = name in owners and (
                isinstance(owners[name][1], LINEAR_OR_CONVOLUTION)
                or not isinstance(module, LINEAR_OR_CONVOLUTION)
            )
            if not known:
                owners.pop(name, None)  # the place in the order is the new owner's
                own = path if attribute == "weight" else joint_name(path, attribute)
                owners[name] = (own, module)
    return owners


def _layer(
    net: nn.Module, parameter: str, name: str, module: nn.Module, use: _Use
) -> PrunableLayer:
    stored = net.get_parameter(parameter)
    shape = stored.t().shape if use.transposed else stored.shape
    patches = 1 if use.is_matrix else round(use.num_outputs / shape[0])
    return PrunableLayer(
        name,
        parameter,
        type(module).__name__,
        shape,
        use.transposed,
        patches,
        use.num_outputs,
        use.flops,
    )


def _excluded(parameter: str, module: nn.Module) -> str | None:
    """Why a parameter of a module is not prunable whatever it is multiplied with, or None."""
    computed, _, suffix = parameter.rpartition(".")[2].rpartition("_")
    if isinstance(module, ParametrizationList) or (
        suffix and isinstance(vars(module).get(computed), Tensor)
    ):
        return COMPUTED  # `weight` from `weight_orig`, for instance
    return next((why for kinds, why in LEFT_OUT.items() if isinstance(module, kinds)), None)


def _why(parameter: str, module: nn.Module, ran: bool) -> str:
    """Why a parameter of a module, which ran or not, is not prunable."""
    excluded = _excluded(parameter, module)
    if excluded:
        return excluded
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embeddings are not pruned"
    if isinstance(module, LINEAR_OR_CONVOLUTION):
        return COMPUTED if ran else NEVER_RAN
    return "it is not used as one matrix or convolution"
