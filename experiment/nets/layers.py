"""The prunable layers of a net: the weights that it multiplies inputs by, and how it uses them."""

import functools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from experiment.core.errors import UserError
from experiment.nets.products import ObservedProducts, Product
from experiment.nets.running import batch_length, run_in_eval_mode, split_batch

LinearOrConvolution = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
NEVER_RAN = "its module never ran on the sample"
COMPUTED = "the weight is computed or cast from it"
UNEXPECTED = (NEVER_RAN, COMPUTED)
LEFT_OUT = {  # kinds of modules whose parameters are never prunable, with the note on them
    (nn.RNNBase, nn.RNNCellBase): "recurrent layers are not pruned",
    (nn.modules.conv._ConvTransposeNd,): "transposed convolutions are not pruned",
}


@dataclass(frozen=True)
class PrunableLayer:
    """A weight that the net multiplies inputs by, and what one pass over a sample does with it.

    Everything about the weights of a layer is in the orientation [outputs, inputs, *kernel], the
    inputs being those of a group. `transposed` parameters are stored as [inputs, outputs].
    """

    name: str  # the module's, or the parameter's own if it is not called `weight`
    parameter: str
    kind: str  # the type of the module that owns the parameter
    shape: torch.Size  # oriented
    transposed: bool
    num_patches: int  # P: output positions of a sample; 1 for a matrix, whose tokens are samples
    num_outputs: float  # elements per sample
    flops: float  # per sample: two for each multiplication and addition

    def weight(self, net: nn.Module) -> Tensor:
        """The oriented weight: a view of the net's parameter."""
        return self.oriented(net.get_parameter(self.parameter))

    def oriented(self, tensor: Tensor) -> Tensor:
        """A tensor of the parameter's shape in the orientation of the layer, or the inverse."""
        return tensor.t() if self.transposed else tensor


@dataclass(frozen=True)
class Layers:
    """Which parameters of a net can be pruned, and which cannot."""

    prunable: dict[str, PrunableLayer]  # by name, in the order of the net's modules
    left_out: dict[str, str]  # parameters of two dimensions or more: why they are not pruned


def find_layers(net: nn.Module, batches: Iterable[Any]) -> Layers:
    """Run a net in eval mode to find which of its weights it multiplies inputs by, and how.

    Stops after the first batch by which all linear and convolutional modules have run; anything
    else that runs on later batches only is not found. The numbers per sample are those of the first
    batch on which a layer runs.
    """
    uses: dict[str, _Use] = {}
    ran: set[nn.Module] = set()
    for batch in batches:
        uses = _uses(net, batch, ran) | uses
        if _all_ran(net, ran, uses):
            break
    prunable = {}
    left_out = {}
    for parameter, (name, module) in _owners(net).items():
        if parameter in uses and not _excluded(parameter, module):
            prunable[name] = _layer(net, parameter, name, module, uses[parameter])
        else:
            left_out[parameter] = _note(parameter, module, module in ran)
    return Layers(prunable, left_out)


@dataclass
class _Use:
    """What a batch does with a parameter: totals over the products in one orientation."""

    transposed: bool
    is_matrix: bool
    num_outputs: float = 0  # per sample
    flops: float = 0

    def add(self, product: Product, num_samples: int) -> None:
        self.num_outputs += product.num_outputs / num_samples
        self.flops += 2 * product.num_columns * product.num_outputs / num_samples


def require_layers(layers: Layers) -> Layers:
    """The layers. Warns of linear and convolutional ones that are left out.

    Raises UserError if there is nothing to prune.
    """
    if not layers.prunable:
        notes = "; ".join(f"{name}: {note}" for name, note in layers.left_out.items())
        raise UserError(
            "none of the net's parameters is multiplied by inputs: there is nothing to prune"
            + (f" ({notes})" if notes else "")
        )
    unexpected = [
        f"{name} ({note})" for name, note in layers.left_out.items() if note in UNEXPECTED
    ]
    if unexpected:
        warnings.warn(f"not pruned: {', '.join(unexpected)}", stacklevel=3)
    return layers


def watch(
    net: nn.Module,
    layers: dict[str, PrunableLayer],
    batches: Iterable[Any],
    visit: Callable[[str, Product, int], None],
) -> None:
    """Run a net on batches in eval mode; call `visit(layer name, product, number of samples)`.

    It is called for each product of one of the layers, in the layer's own orientation.
    """
    names = {layer.parameter: name for name, layer in layers.items()}

    def visit_layer(num_samples: int, product: Product) -> None:
        name = names.get(product.parameter)
        if name is not None and product.transposed == layers[name].transposed:
            visit(name, product, num_samples)

    for batch in batches:
        visit_product = functools.partial(visit_layer, _num_samples(batch))
        run_in_eval_mode(net, batch, ObservedProducts(net, visit_product))


def joint_name(module: str, parameter: str) -> str:
    """The qualified name of a module's own parameter; the net itself is the module ''."""
    return f"{module}.{parameter}" if module else parameter


def _num_samples(batch: Any) -> int:
    inputs, _ = split_batch(batch)
    return batch_length(inputs)


def _uses(net: nn.Module, batch: Any, ran: set[nn.Module]) -> dict[str, _Use]:
    """What a batch does with each parameter; of two orientations, the untransposed one counts.

    The linear and convolutional modules that run are added to `ran`.
    """
    num_samples = _num_samples(batch)
    uses: dict[tuple[str, bool], _Use] = {}

    def add(product: Product) -> None:
        key = (product.parameter, product.transposed)
        use = uses.setdefault(key, _Use(product.transposed, product.convolution is None))
        use.add(product, num_samples)

    hooks = [
        module.register_forward_hook(lambda module, inputs, output: ran.add(module))
        for module in net.modules()
        if isinstance(module, LinearOrConvolution)
    ]
    run_in_eval_mode(net, batch, *hooks, ObservedProducts(net, add))
    return {
        name: use
        for (name, transposed), use in uses.items()
        if not transposed or (name, False) not in uses
    }


def _all_ran(net: nn.Module, ran: set[nn.Module], uses: dict[str, _Use]) -> bool:
    """Whether all linear and convolutional modules have run, or others have used their weights."""
    used = {id(net.get_parameter(name)) for name in uses}
    return all(
        module in ran or id(module._parameters.get("weight")) in used
        for module in net.modules()
        if isinstance(module, LinearOrConvolution)
    )


def _owners(net: nn.Module) -> dict[str, tuple[str, nn.Module]]:
    """For each parameter of two dimensions or more, the name of its layer and the owning module.

    In the order of the modules. If several modules own a parameter, the first linear or
    convolutional one counts.
    """
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    owners: dict[str, tuple[str, nn.Module]] = {}
    for path, module in net.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is None or parameter.dim() < 2:
                continue
            name = names[id(parameter)]
            if name in owners and not _is_better_owner(module, owners[name][1]):
                continue
            owners.pop(name, None)  # so that it takes the new owner's position in the order
            layer = path if attribute == "weight" else joint_name(path, attribute)
            owners[name] = (layer, module)
    return owners


def _is_better_owner(module: nn.Module, known: nn.Module) -> bool:
    is_layer = isinstance(module, LinearOrConvolution)
    return is_layer and not isinstance(known, LinearOrConvolution)


def _layer(
    net: nn.Module, parameter: str, name: str, module: nn.Module, use: _Use
) -> PrunableLayer:
    stored = net.get_parameter(parameter)
    shape = stored.t().shape if use.transposed else stored.shape
    return PrunableLayer(
        name=name,
        parameter=parameter,
        kind=type(module).__name__,
        shape=shape,
        transposed=use.transposed,
        num_patches=1 if use.is_matrix else round(use.num_outputs / shape[0]),
        num_outputs=use.num_outputs,
        flops=use.flops,
    )


def _excluded(parameter: str, module: nn.Module) -> str | None:
    """A note if a parameter of a module is not prunable, whatever it multiplies; else None."""
    attribute = parameter.rpartition(".")[2]
    computed, _, suffix = attribute.rpartition("_")
    # `weight` is computed from `weight_orig`, for instance.
    is_source = bool(suffix) and isinstance(vars(module).get(computed), Tensor)
    if isinstance(module, ParametrizationList) or is_source:
        return COMPUTED
    return next((note for kinds, note in LEFT_OUT.items() if isinstance(module, kinds)), None)


def _note(parameter: str, module: nn.Module, ran: bool) -> str:
    """Why a parameter of a module, which ran or not, is not prunable."""
    excluded = _excluded(parameter, module)
    if excluded:
        return excluded
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embeddings are not pruned"
    if isinstance(module, LinearOrConvolution):
        return COMPUTED if ran else NEVER_RAN
    return "it is not used as one matrix or convolution"
