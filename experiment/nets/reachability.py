"""Which kept parameters still matter: those from which a kept path leads to the output.

This depends on the masks and the net's structure, never on data. It is read off a positive
surrogate of the net: every kept weight is positive, every normalisation a positive scale, every
activation function the identity, so that a gradient is zero exactly if there is no path.
"""

import functools
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError, first_line
from experiment.core.memory import return_free_memory
from experiment.nets.layers import PrunableLayer
from experiment.nets.masks import Masks
from experiment.nets.running import copy_of, device_of, dtype_of, first_sample
from experiment.nets.surrogates import Positive, run_in_precision
from experiment.nets.tensors import moved, refilled, storage_of, tensors

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
GRAPH_NUMBERS = 2**25  # of intermediate values that get memory at a time; most is never touched


def remove_dead(
    net: nn.Module, layers: dict[str, PrunableLayer], masks: Masks, example: Any, connected: Masks
) -> Masks:
    """The masks without the dead parameters of prunable layers and normalisations.

    If no kept path leads from a filter or neuron to the output, the weights into it are dead, and
    so are its bias and its normalisation's parameters. A filter that has lost its inputs but passes
    a bias on is not dead.

    Args:
        example: one batch for the net; only its shape matters.
        connected: what `reached` returns for the whole net. A parameter that seems to have no path
            even there is never removed.
    """
    alive = reached(net, layers, masks, example)
    followed = alive.keys() & connected.keys()
    return {
        name: mask & (alive[name] | ~connected[name]) if name in followed else mask.clone()
        for name, mask in masks.items()
    }


def reached(net: nn.Module, layers: dict[str, PrunableLayer], masks: Masks, example: Any) -> Masks:
    """The parameters of layers and normalisations from which kept weights lead on to the output.

    The weights of one output are either all reached or none is. Raises UserError if the net's
    output does not depend on its parameters.
    """
    vectors = _vectors(net, layers)
    outputs_of = {layer.parameter: layer for layer in layers.values()}
    result: Masks = {}

    def record(name: str, parameter: Tensor) -> None:
        """Note where a gradient is not zero, and forget it: together they would fill a net."""
        assert parameter.grad is not None
        nonzero = torch.ne(parameter.grad, 0).to(masks[name].device)
        parameter.grad = None
        if name in outputs_of:  # an output's own mask does not enter its gradients
            result[name] = _whole_outputs(outputs_of[name], nonzero)
        elif name in vectors:
            result[name] = nonzero

    return_free_memory(sum(mask.numel() for mask in masks.values()))
    surrogate = _surrogate(net, masks)
    for name, parameter in surrogate.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(functools.partial(record, name))
    _differentiate(surrogate, example)
    return result


def _whole_outputs(layer: PrunableLayer, nonzero: Tensor) -> Tensor:
    """All weights of those outputs of a layer that have a gradient somewhere: a view."""
    outputs = layer.oriented(nonzero).flatten(1).any(1)
    return layer.oriented(outputs.reshape(-1, *[1] * (len(layer.shape) - 1)).expand(layer.shape))


def _differentiate(surrogate: nn.Module, example: Any) -> None:
    """Differentiate all outputs with respect to the parameters that they depend on."""
    dtype = dtype_of(surrogate)
    inputs = moved(_positive(first_sample(example), dtype), device_of(surrogate))
    with torch.enable_grad(), _compact_graph(surrogate):
        output = run_in_precision(surrogate, inputs, Positive(dtype))
        outputs = [tensor for tensor in tensors(output) if tensor.requires_grad]
        if not outputs:
            raise UserError(
                "the net's output has no gradient with respect to its parameters: is its forward "
                "pass run without gradients, or does it end in an argmax?"
            )
        try:
            _weighted_sum(outputs).backward()
        except Exception as error:  # of checkpointing, for instance
            raise UserError(
                "the net's output cannot be differentiated, which finding dead parameters "
                f"requires: {first_line(error)}"
            ) from error


def _compact_graph(surrogate: nn.Module) -> AbstractContextManager:
    """Within the block, the graph holds intermediate values of CPUs in half of their memory.

    The type has the exponents of single precision: what is not zero stays so. They lie together,
    so that the system gets all of their memory back at once.
    """
    own = {storage_of(tensor) for tensor in [*surrogate.parameters(), *surrogate.buffers()]}
    free = torch.empty(0, dtype=torch.bfloat16)

    def pack(tensor: Tensor) -> Tensor:
        nonlocal free
        if tensor.dtype != torch.float32 or tensor.is_cuda or storage_of(tensor) in own:
            return tensor
        if len(free) < tensor.numel():
            free = torch.empty(max(tensor.numel(), GRAPH_NUMBERS), dtype=torch.bfloat16)
        packed, free = free.split([tensor.numel(), len(free) - tensor.numel()])
        return packed.view(tensor.shape).copy_(tensor)

    def unpack(tensor: Tensor) -> Tensor:
        return tensor.float() if tensor.dtype == torch.bfloat16 else tensor

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _weighted_sum(outputs: list[Tensor]) -> Tensor:
    """One number that depends on every element of the outputs, with positive random weights."""
    generator = torch.Generator().manual_seed(0)
    terms = [
        (output * (1 - torch.rand(output.shape, generator=generator)).to(output)).sum()
        for output in outputs
    ]
    return sum(terms, start=outputs[0].new_zeros(()))


def _vectors(net: nn.Module, layers: dict[str, PrunableLayer]) -> set[str]:
    """The one-dimensional parameters of normalisations and of modules that own a layer's weight."""
    weights = {layer.parameter for layer in layers.values()}
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    result = set()
    for module in net.modules():
        own = {names[id(one)]: one for one in module._parameters.values() if one is not None}
        if isinstance(module, NORMALISATIONS) or weights & own.keys():
            result |= {name for name, parameter in own.items() if parameter.dim() == 1}
    return result


def _surrogate(net: nn.Module, masks: Masks) -> nn.Module:
    """A copy in single precision, or double as the net is, whose kept weights average inputs.

    Its numbers stay near 1, so single precision will do.
    """
    dtype = torch.promote_types(dtype_of(net), torch.float32)
    weighted = {
        name: parameter
        for name, parameter in net.named_parameters()
        if parameter.is_floating_point() and name in masks
    }
    pieces = _empty_pieces(weighted.values(), dtype)
    averaging = {
        name: nn.Parameter(_fill_averaging(piece, masks[name]))
        for name, piece in zip(weighted, pieces)
    }
    surrogate = copy_of(net, averaging).to(dtype)
    for parameter in surrogate.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return surrogate


def _empty_pieces(parameters: Collection[Tensor], dtype: torch.dtype) -> Iterator[Tensor]:
    """Memory for each parameter; together, so that the system gets all of it back at once."""
    device = next(iter(parameters)).device
    lengths = [parameter.numel() for parameter in parameters]
    pieces = torch.empty(sum(lengths), dtype=dtype, device=device).split(lengths)
    return map(Tensor.view_as, pieces, parameters)


def _fill_averaging(numbers: Tensor, kept: Tensor) -> Tensor:
    """Set numbers to a mask, of which the kept weights of each row sum to 1."""
    numbers.copy_(kept)
    if kept.dim() >= 2:
        num_kept = numbers.flatten(1).sum(1).clamp_(min=1)
        numbers /= num_kept.reshape(-1, *[1] * (kept.dim() - 1))
    return numbers


def _positive(example: Any, dtype: torch.dtype) -> Any:
    """The example, on the CPU, with positive random numbers in its floating-point tensors."""
    generator = torch.Generator().manual_seed(0)
    return refilled(
        example,
        lambda shape: 0.5 + 0.5 * torch.rand(shape, generator=generator, dtype=dtype),
    )
