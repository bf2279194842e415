"""Compiling nets by torch.compile: each once in a process, for all of its trainings."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from experiment.core.errors import UserError, first_line

Forward = Callable[..., Any]
RECOMPILE_LIMIT = 256  # one for each architecture, and spare ones; torch's own limit is 8


_compiled: weakref.WeakKeyDictionary[nn.Module, Forward] = weakref.WeakKeyDictionary()


def compiled(net: nn.Module) -> Forward:
    """The net's forward pass, compiled when it is first called, with its backward pass.

    Calling it raises UserError if the net cannot be compiled here.
    """
    if net not in _compiled:
        torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
        forward = torch.compile(net, dynamic=False)
        _compiled[net] = lambda images: _called(forward, images)
    return _compiled[net]


def _called(compiled: Forward, images: torch.Tensor) -> Any:
    with _clear_errors():
        return compiled(images)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        cause = getattr(error, "inner_exception", error)
        raise UserError(
            f"training.compile: torch.compile cannot compile this net here: {first_line(cause)}; "
            f"use off"
        ) from error
