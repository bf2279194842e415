"""Batches in any of the usual forms, made into pairs `(inputs, targets)`.

A batch is one of

- `(inputs, targets)`, as DataLoaders yield it, with `None` for no targets;
- a dict of the net's keyword arguments, whose entry `labels`, `label`, `targets` or `target` holds
  the targets. It stays among the inputs only if the forward pass has a parameter of that name;
- inputs alone: one tensor.

Inputs are a tensor, a dict of keyword arguments, or a tuple of positional ones. Numpy arrays become
tensors; those of float64, numpy's default, take the net's own precision. Tensors are never
converted.
"""

import inspect
import itertools
import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from experiment.core.errors import UserError
from experiment.nets.running import dtype_of, split_batch
from experiment.nets.tensors import described, map_tensors, tensors

Batch = tuple[Any, Any]  # inputs, targets
ARRAYS = Tensor | numpy.ndarray
TARGETS = ("labels", "label", "targets", "target")


def as_batches(net: nn.Module, given: Iterable[Any], name: str = "batches") -> Iterator[Batch]:
    """The batches in order. The first is read and checked at once, the others when asked for.

    `name` is what messages call them. Raises UserError unless `given` is an iterable of batches.
    """
    _require_iterable(given, name)
    batches = _one_by_one(net, given, name)
    first = next(batches, None)
    if first is None:
        raise UserError(f"{name} is empty: at least one batch of samples is needed")
    return itertools.chain([first], batches)


def as_batch(net: nn.Module, batch: Any, name: str = "batch") -> Batch:
    """A single batch. Raises UserError for anything else."""
    inputs, targets = _split(net, batch, name)
    inputs = _without_numpy(net, inputs, name)
    targets = _without_numpy(net, targets, name)
    _check_inputs(inputs, name)
    _check_targets(targets, name)
    return inputs, targets


def _require_iterable(given: Any, name: str) -> None:
    """Raise UserError for a single batch, single samples, and what cannot be iterated over."""
    if isinstance(given, ARRAYS):
        raise UserError(
            f"{name} is one tensor, which would be taken apart into samples: write "
            "[tensor] for a single batch"
        )
    if isinstance(given, Mapping):
        raise UserError(f"{name} is one dict: write [dict] for a single batch")
    if isinstance(given, Dataset):
        raise UserError(
            f"{name} is a Dataset, which gives single samples: wrap it in "
            f"torch.utils.data.DataLoader(dataset, batch_size=...)"
        )
    if isinstance(given, tuple) and [isinstance(part, ARRAYS) for part in given] == [True, True]:
        raise UserError(
            f"{name} is a tuple of two tensors: write [(inputs, targets)] for one "
            "batch with targets, or [first, second] for two batches of inputs"
        )
    if isinstance(given, str | bytes | type) or not hasattr(given, "__iter__"):
        raise UserError(
            f"{name} must be a list, a DataLoader or another iterable of batches, such "
            f"as [(inputs, targets)], not {described(given)}"
        )


def _one_by_one(net: nn.Module, given: Iterable[Any], name: str) -> Iterator[Batch]:
    """Each batch, as long as all have one form: `[x, y]` is rarely meant as two batches."""
    forms = set()
    for index, batch in enumerate(given):
        forms.add(_form(batch))
        if len(forms) > 1:
            raise UserError(
                f"the entries of {name} are not all alike: number {index + 1} is "
                f"{described(batch)}; "
                "write [(inputs, targets)] for a single batch with targets"
            )
        checked = as_batch(net, batch, f"{name}[{index}]")
        if any(tensor.is_meta for tensor in tensors(checked)):
            raise UserError(f"{name}[{index}] is on the meta device and has no values")
        yield checked


def _form(batch: Any) -> Any:
    """A value that batches of the same form have in common."""
    if isinstance(batch, ARRAYS):
        return batch.ndim
    return next((form for form in (Mapping, list | tuple) if isinstance(batch, form)), type(batch))


def _split(net: nn.Module, batch: Any, name: str) -> Batch:
    """Inputs and targets of a batch in any form."""
    if isinstance(batch, Mapping):
        key = next((key for key in TARGETS if key in batch), None)
        if key is None:
            return dict(batch), None
        inputs = {other: value for other, value in batch.items() if other != key}
        if _accepts(net, key):
            inputs = dict(batch)
        return inputs, batch[key]
    if isinstance(batch, list | tuple) and len(batch) not in (1, 2):
        raise UserError(
            f"{name} has {len(batch)} parts: a batch is inputs alone or (inputs, "
            "targets); several inputs are written ((first, second), targets), or "
            "(..., None) without targets"
        )
    if isinstance(batch, list | tuple) and len(batch) == 1:
        return _split(net, batch[0], name)
    return split_batch(batch)


def _accepts(net: nn.Module, keyword: str) -> bool:
    """Whether the forward pass of a net, compiled or not, has a parameter of that name."""
    original = getattr(net, "_orig_mod", net)
    return keyword in inspect.signature(original.forward).parameters


def _without_numpy(net: nn.Module, value: Any, name: str) -> Any:
    """The value with numpy arrays, however nested, as tensors."""

    def converted(array: numpy.ndarray) -> Tensor:
        try:
            native = numpy.array(array, array.dtype.newbyteorder("="), order="C")
            tensor = torch.from_numpy(native)
        except (TypeError, ValueError):
            raise UserError(
                f"{name} holds a numpy array of {array.dtype}: it must hold numbers"
            ) from None
        return tensor.to(dtype_of(net)) if tensor.dtype == torch.float64 else tensor

    return map_tensors(converted, value, numpy.ndarray)


def _check_inputs(inputs: Any, name: str) -> None:
    """Raise UserError for inputs without tensors, samples or values."""
    found = tensors(inputs)
    if not found:
        raise UserError(
            f"{name} holds no tensors, its inputs are {described(inputs)}: inputs must "
            "be a tensor, a dict of keyword arguments or a tuple of positional ones"
        )
    if not any(tensor.numel() for tensor in found if tensor.dim()):
        raise UserError(f"{name} holds no samples: its inputs are {described(inputs)}")
    if any(
        tensor.is_floating_point() and not tensor.is_meta and tensor.isnan().any()
        for tensor in found
    ):
        raise UserError(f"{name} holds inputs that are not numbers (NaN): leave such samples out")


def _check_targets(targets: Any, name: str) -> None:
    """Raise UserError for the target of a single sample. The loss checks how many there are."""
    if isinstance(targets, numbers.Number) or (isinstance(targets, Tensor) and not targets.dim()):
        raise UserError(
            f"{name} is a single sample with a single target: samples need a first "
            "dimension, as torch.utils.data.DataLoader gives it"
        )
