"""Small helpers for using any net: calling it, its inputs and outputs, its modes."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def split_batch(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch that is `(inputs, targets)`, or inputs alone (targets None)."""
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
    """All tensors in a tensor, or in nested lists, tuples, dicts and dataclass-like mappings of them."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [inner for item in value.values() for inner in tensors(item)]
    if isinstance(value, list | tuple):
        return [inner for item in value for inner in tensors(item)]
    return []


def batch_length(inputs: Any) -> int:
    """The number of samples in a batch of inputs."""
    return len(tensors(inputs)[0])


def first_sample(inputs: Any) -> Any:
    """The inputs of a batch cut to its first sample."""
    if isinstance(inputs, Tensor):
        return inputs[:1]
    if isinstance(inputs, dict):
        return {key: first_sample(value) for key, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return type(inputs)(first_sample(value) for value in inputs)
    return inputs


def device_of(net: nn.Module) -> torch.device:
    """The device of a net's first parameter."""
    parameter = next(net.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def moved(value: Any, device: torch.device) -> Any:
    """Tensors in nested lists, tuples and dicts, moved to a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: moved(inner, device) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved(inner, device) for inner in value)
    return value


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
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, mode in modes:
            module.training = mode
