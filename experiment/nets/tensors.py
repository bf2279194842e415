"""Values that hold tensors: one tensor, or nested lists, tuples, dicts and dataclasses of them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


def tensors(value: Any) -> list[Tensor]:
    """All tensors in a value, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in _items(value) for tensor in tensors(item)]


def _items(value: Any) -> Iterable[Any]:
    """What a list, tuple, dict or dataclass holds; nothing for other values."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple):
        return value
    return ()


def map_tensors(function: Callable[[Any], Any], value: Any, kind: type = Tensor) -> Any:
    """The value with the function applied to each tensor, or to each instance of another `kind`.

    Lists, tuples and dataclasses keep their type; other mappings become dicts.
    """
    if isinstance(value, kind):
        return function(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # some are dicts as well
        names = [field.name for field in dataclasses.fields(value) if field.init]
        changed = {name: map_tensors(function, getattr(value, name), kind) for name in names}
        return dataclasses.replace(value, **changed)
    if isinstance(value, Mapping):
        return {key: map_tensors(function, item, kind) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [map_tensors(function, item, kind) for item in value]
        is_named_tuple = hasattr(value, "_fields")
        return type(value)(*items) if is_named_tuple else type(value)(items)
    return value


def moved(value: Any, device: torch.device) -> Any:
    """The value with its tensors on a device."""
    return map_tensors(lambda tensor: tensor.to(device), value)


def divided(value: Any, divisor: float) -> Any:
    """The value with its floating-point tensors divided by a number."""
    return map_tensors(
        lambda tensor: tensor / divisor if tensor.is_floating_point() else tensor, value
    )


def refilled(value: Any, numbers: Callable[[torch.Size], Tensor]) -> Any:
    """The value, on the CPU, with its floating-point tensors replaced by `numbers(shape)`."""
    return map_tensors(
        lambda tensor: numbers(tensor.shape) if tensor.is_floating_point() else tensor.cpu(), value
    )


def ones_like(value: Any) -> Any:
    """The value, on the CPU, with its floating-point tensors replaced by ones of type float64."""
    return refilled(value, lambda shape: torch.ones(shape, dtype=torch.float64))


def described(value: Any) -> str:
    """Types and shapes of the tensors in a value, for messages: `(float32 [6, 8], int64 [6])`."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{type_name(value.dtype)} {list(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {described(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(described, value)) + ")"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    return "None" if value is None else f"a value of type {type(value).__qualname__}"


def type_name(dtype: Any) -> str:
    """A type of numbers as messages write it: `float32`."""
    return str(dtype).removeprefix("torch.")


def content_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, whatever its type and device; not copied where that is possible."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def storage_of(tensor: Tensor) -> int:
    """A key that tensors have in common if they share memory, on the meta device too."""
    return tensor.untyped_storage()._cdata
