"""What a method must leave as it found it, since other methods use it too."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from experiment.core.errors import UserError
from experiment.nets.tensors import content_of, tensors
from experiment.pruning.analysis import Analysis

MOST_NAMED = 3  # of what was changed


@contextlib.contextmanager
def unchanged(analysis: Analysis, method: str) -> Iterator[None]:
    """A block that may not change the net, its masks or the sample S.

    Raises:
        UserError: in the name of the method, if it has.
    """
    before = inventory(analysis)
    yield
    after = inventory(analysis)
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        named = ", ".join(changed[:MOST_NAMED])
        more = f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
        raise UserError(
            f"method {method} changes what it was given: {named}{more}; it must compute with copies"
        )


def inventory(analysis: Analysis) -> dict[str, Any]:
    """Digests of all that a method is given, by what it is."""
    net = analysis.net
    found: dict[str, Any] = {
        f"parameter {name}": (_digest(parameter), parameter.requires_grad)
        for name, parameter in net.named_parameters()
    }
    found |= {f"buffer {name}": _digest(buffer) for name, buffer in net.named_buffers()}
    found |= {f"module {name or '(all)'}": _manner(module) for name, module in net.named_modules()}
    found["the masks"] = _digest(analysis.masks)
    found["the sample S"] = _digest(analysis.batches)
    return found


def _digest(value: Any) -> str:
    """A hash of all tensors in a value."""
    content = hashlib.sha256()
    for tensor in tensors(value):
        content.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        content.update(content_of(tensor))
    return content.hexdigest()


def _manner(module: nn.Module) -> tuple:
    """How a module computes, apart from its parameters and buffers."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return (type(module), module.training, *(len(of_kind) for of_kind in hooks))
