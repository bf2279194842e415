"""Using any net: calling it, its inputs and outputs, its modes."""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError, first_line


def copy_of(net: nn.Module) -> nn.Module:
    """A deep copy of a net. Raises UserError where Python cannot make one."""
    memo = {
        id(value): value.detach().clone()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(net, memo)
    except Exception as error:  # what a module holds may be anything
        raise UserError(
            f"the net cannot be copied by copy.deepcopy: {first_line(error)}"
        ) from error


def split_batch(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch that is `(inputs, targets)`, or inputs alone (targets None).

    Several inputs without targets are therefore written `((first, second), None)`.
    """
    if isinstance(batch, list | tuple) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, list | tuple) and len(batch) == 1:
        return batch[0], None
    return batch, None


def call(net: nn.Module, inputs: Any) -> Any:
    """The net's output: a dict of inputs is passed as keywords, a list or tuple as positional arguments."""
    if isinstance(inputs, dict):
        return net(**inputs)
    if isinstance(inputs, list | tuple):
        return net(*inputs)
    return net(inputs)


def run(net: nn.Module, batch: Any) -> Any:
    """The net's output for a batch, computed on the net's device.

    Raises UserError, which says the shapes, where the net fails or returns nothing.
    """
    inputs = moved(split_batch(batch)[0], device_of(net))
    try:
        output = call(net, inputs)
    except UserError:
        raise
    except Exception as error:  # a net is code of the user's
        raise UserError(
            f"the net cannot run on the batch: {first_line(error)}; inputs are "
            f"{described(inputs)}, the net's parameters {_short(dtype_of(net))}"
            f"{_hint(inputs)}"
        ) from error
    plain = isinstance(output, None | bool | int | float | str | list | tuple | dict)
    if plain and not tensors(output):
        raise UserError(
            f"the net returns {described(output)}: its forward pass must return a "
            f"tensor, or a dict, tuple or dataclass of tensors"
        )
    return output


def _hint(inputs: Any) -> str:
    if any(tensor.dtype == torch.uint8 for tensor in tensors(inputs)):
        return "; convert images of bytes to float and normalise them, as for training"
    return ""


def _short(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def described(value: Any) -> str:
    """Types and shapes of all tensors in a value, for messages: `(float32 [6, 8], int64 [6])`."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{_short(value.dtype)} {list(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {described(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(described, value)) + ")"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    return "None" if value is None else f"a value of type {type(value).__qualname__}"


def tensors(value: Any) -> list[Tensor]:
    """All tensors in a tensor, or in nested lists, tuples, dicts and dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = vars(value)
    items = (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, list | tuple)
        else ()
    )
    return [inner for item in items for inner in tensors(item)]


def map_tensors(function: Callable[[Any], Any], value: Any, kind: type = Tensor) -> Any:
    """A tensor, or nested lists, tuples, dicts, dataclasses, with the function applied to each.

    Dataclasses keep their type, other mappings become dicts; `kind` may be another type than
    tensors.
    """
    if isinstance(value, kind):
        return function(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # some are dicts as well
        names = [field.name for field in dataclasses.fields(value) if field.init]
        items = {name: map_tensors(function, getattr(value, name), kind) for name in names}
        return dataclasses.replace(value, **items)
    if isinstance(value, Mapping):
        return {key: map_tensors(function, inner, kind) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        items = [map_tensors(function, inner, kind) for inner in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def batch_length(inputs: Any) -> int:
    """The number of samples in a batch of inputs: the length of the first tensor that has one."""
    return next(len(tensor) for tensor in tensors(inputs) if tensor.dim())


def first_sample(batch: Any) -> Any:
    """The inputs of a batch, cut to its first sample."""
    return map_tensors(lambda tensor: tensor[:1] if tensor.dim() else tensor, split_batch(batch)[0])


def device_of(net: nn.Module) -> torch.device:
    """The device of a net's first parameter."""
    parameter = next(net.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def dtype_of(net: nn.Module) -> torch.dtype:
    """The type of a net's first floating-point parameter."""
    dtypes = (parameter.dtype for parameter in net.parameters() if parameter.is_floating_point())
    return next(dtypes, torch.float32)


def joint_name(module: str, parameter: str) -> str:
    """The qualified name of a module's own parameter; the net itself is the module ''."""
    return f"{module}.{parameter}" if module else parameter


def storage_of(tensor: Tensor) -> int:
    """What tensors that share memory have in common, on the meta device too."""
    return tensor.untyped_storage()._cdata


def moved(value: Any, device: torch.device) -> Any:
    """Tensors, however nested, moved to a device."""
    return map_tensors(lambda tensor: tensor.to(device), value)


def divided(value: Any, divisor: float) -> Any:
    """Floating-point tensors, however nested, divided by a number; everything else as it is."""
    return map_tensors(
        lambda tensor: tensor / divisor if tensor.is_floating_point() else tensor, value
    )


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked to, so that clocks tell the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """A block in which no mixed precision set outside applies."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Run a block with a net in eval mode, then put every module's own mode back."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    # In eval mode torch's transformer layers would bypass their own linear layers.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # Compiled code and autocast would run other products than those of the parameters.
        with torch.compiler.set_stance("force_eager"), without_autocast(device_of(net)):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, mode in modes:
            module.training = mode
