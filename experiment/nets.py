"""Using any net: calling it, its inputs and outputs, its modes."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


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


def tensors(value: Any) -> list[Tensor]:
    """All tensors in a tensor, or in nested lists, tuples, dicts and dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = vars(value)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [inner for item in items for inner in tensors(item)]


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A tensor, or nested lists, tuples and dicts, with the function applied to every tensor."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(function, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        items = [map_tensors(function, inner) for inner in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def batch_length(inputs: Any) -> int:
    """The number of samples in a batch of inputs."""
    return len(tensors(inputs)[0])


def first_sample(inputs: Any) -> Any:
    """The inputs of a batch cut to its first sample."""
    return map_tensors(lambda tensor: tensor[:1], inputs)


def device_of(net: nn.Module) -> torch.device:
    """The device of a net's first parameter."""
    parameter = next(net.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def moved(value: Any, device: torch.device) -> Any:
    """Tensors, however nested, moved to a device."""
    return map_tensors(lambda tensor: tensor.to(device), value)


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
    # In eval mode torch's transformer layers would by-pass their own linear layers.
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
