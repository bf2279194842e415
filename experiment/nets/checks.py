"""Checks of the arguments of public functions.

Each returns its argument as the framework uses it, or raises UserError saying what would be right.
"""

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.prune import BasePruningMethod

from experiment.core.errors import UserError
from experiment.core.spelling import nearest
from experiment.nets.tensors import described, storage_of


def usable_net(net: Any, *, shapes_alone: bool = False) -> nn.Module:
    """A module with at least one parameter, whose parameters have values and share no memory.

    With `shapes_alone` it may be on the meta device.
    """
    _refuse_class("net", net)
    if not isinstance(net, nn.Module):
        raise UserError(f"net must be a torch.nn.Module, not {_shown(net)}")
    if isinstance(net, torch.jit.ScriptModule):
        raise UserError("net is compiled by torch.jit: pass the module that it was compiled from")
    for name, module in net.named_modules():
        _check_module(f"layer '{name}'" if name else "the net", module)
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        _check_values(name, tensor, shapes_alone)
    _refuse_shared_memory(net)
    if next(net.parameters(), None) is None:
        raise UserError("the net has no parameters: there is nothing to prune")
    return net


def _refuse_shared_memory(net: nn.Module) -> None:
    """Raise UserError for two Parameters in the same memory, which a copy would separate."""
    names: dict[tuple[int, int], str] = {}
    for name, parameter in net.named_parameters():
        if not parameter.numel():
            continue
        address = (storage_of(parameter), int(parameter.storage_offset()))
        if address in names:
            raise UserError(
                f"'{name}' of the net shares its memory with '{names[address]}': tie "
                "them as one Parameter, module.weight = other.weight"
            )
        names[address] = name


def _check_module(name: str, module: nn.Module) -> None:
    """Raise UserError for a quantised module, or one that torch.nn.utils.prune has pruned."""
    if "quantized" in type(module).__module__:
        raise UserError(
            f"{name} is quantised ({type(module).__name__}): prune the net before quantising it"
        )
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            raise UserError(
                f"{name} is pruned by torch.nn.utils.prune: make that permanent first, "
                f"with torch.nn.utils.prune.remove(module, '{hook._tensor_name}') for "
                "each such layer"
            )


def _check_values(name: str, tensor: Tensor, shapes_alone: bool) -> None:
    """Raise UserError for a parameter or buffer without values, or a weight of integers."""
    if is_lazy(tensor):
        raise UserError(f"'{name}' of the net has no shape yet: run the net once on a batch first")
    if tensor.is_inference():
        raise UserError(
            f"'{name}' of the net was created in torch.inference_mode: create the net outside of it"
        )
    if tensor.is_meta and not shapes_alone:
        raise UserError(
            f"'{name}' of the net is on the meta device and has no values: call "
            f"net.to_empty(device=...) and load weights first"
        )
    if name.rpartition(".")[2] == "weight" and not tensor.is_floating_point():
        raise UserError(
            f"'{name}' of the net holds {described(tensor)}, not floating-point "
            "numbers: prune a net before quantising it"
        )


def valid_keep_ratio(value: Any) -> float:
    """A number in (0, 1]."""
    if not (_is_real(value) and 0 < value <= 1):
        raise UserError(f"keep_ratio must be a number above 0 and at most 1, not {_shown(value)}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    if not (_is_real(value) and 0 < value < math.inf):
        raise UserError(f"{name} must be a number above 0, not {_shown(value)}")
    return float(value)


def share(name: str, value: Any) -> float:
    """A number between 0 and 1, without these two."""
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise UserError(f"{name} must be a number between 0 and 1, not {value!r}")
    return value


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """An integer of at least `least`."""
    bound = "" if least is None else f" of at least {least}"
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or (least is not None and value < least):
        raise UserError(f"{name} must be a whole number{bound}, not {_shown(value)}")
    return int(value)


def loss_function(loss: Any) -> Callable | None:
    """A function, or None."""
    _refuse_class("loss", loss)
    if loss is not None and not callable(loss):
        raise UserError(
            f"loss must be a function of outputs and targets, such as "
            f"torch.nn.functional.cross_entropy, not {_shown(loss)}"
        )
    return loss


def one_of(name: str, value: Any, names: tuple[str, ...]) -> Any:
    """One of the given names."""
    if not (isinstance(value, str) and value in names):
        hint = nearest(value, names) if isinstance(value, str) else ""
        choices = " or ".join(f"'{choice}'" for choice in names)
        raise UserError(f"{name} must be {choices}, not {_shown(value)}{hint}")
    return value


def mask_tensors(masks: Any) -> dict[str, Tensor]:
    """Masks by parameter name, numpy arrays as tensors; an empty dict for None."""
    if masks is None:
        return {}
    if not isinstance(masks, Mapping):
        raise UserError(
            "masks must be a dict from parameter names to bool tensors, such as "
            f"pruned.masks, not {_shown(masks)}"
        )
    for name, mask in masks.items():
        if not isinstance(mask, Tensor | numpy.ndarray):
            raise UserError(f"masks: '{name}' must be a bool tensor, not {_shown(mask)}")
    return {name: torch.as_tensor(mask) for name, mask in masks.items()}


def image_shape(value: Any) -> tuple[int, int, int]:
    """Channels, height and width."""
    sizes = list(value) if isinstance(value, list | tuple) else []
    are_whole = all(isinstance(size, numbers.Integral) for size in sizes)
    if len(sizes) != 3 or not are_whole or min(sizes) <= 0:
        raise UserError(
            f"input_shape must be (channels, height, width), such as (3, 32, 32), not "
            f"{_shown(value)}"
        )
    channels, height, width = sizes
    return int(channels), int(height), int(width)


def _is_real(value: Any) -> bool:
    """Whether a value is a number, or a tensor without dimensions, but not a bool."""
    if isinstance(value, Tensor | numpy.ndarray) and value.ndim == 0:
        value = value.item()
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _refuse_class(name: str, value: Any) -> None:
    """Raise UserError for a class in place of an instance."""
    if isinstance(value, type):
        raise UserError(
            f"{name} is the class {value.__name__}: pass an instance, {value.__name__}(...)"
        )


def _shown(value: Any) -> str:
    """A value in a message: its repr if that is short, otherwise its type."""
    if isinstance(value, Tensor | numpy.ndarray) and value.ndim:
        return described(value)
    text = repr(value)
    is_short = len(text) <= 60 and "\n" not in text
    return text if is_short else f"a value of type {type(value).__name__}"
