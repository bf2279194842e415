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
    """A tensor, or nested lists, tuples, dicts, dataclasses, with the function applied to each."""
    if isinstance(value, Tensor):
        return function(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # some are dicts as well
        names = [field.name for field in dataclasses.fields(value) if field.init]
        items = {name: map_tensors(function, getattr(value, name)) for name in names}
        return dataclasses.replace(value, **items)
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


def divided(value: Any, divisor: float) -> Any:
    """Floating-point tensors, however nested, divided by a number; everything else as it is."""
    return map_tensors(lambda tensor: tensor / divisor if tensor.is_floating_point() else tensor,
                       value)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked to, so that clocks tell the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def watching_inputs(modules: dict[str, nn.Module],
                    visit: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """Within the block, call `visit(name, module, input)` whenever one of the modules is about to run."""
    def hook_for(name: str):
        def before_forward(module: nn.Module, args: tuple, kwargs: dict) -> None:
            visit(name, module, args[0] if args else kwargs["input"])
        return before_forward

    handles = [module.register_forward_pre_hook(hook_for(name), with_kwargs=True)
               for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Run a block with a net in eval mode, then put every module's own mode back."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    # In eval mode torch's transformer layers would by-pass their own linear layers.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):  # compiled code would not call the hooks of its layers
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, mode in modes:
            module.training = mode
