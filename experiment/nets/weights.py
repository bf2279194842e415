"""Weights that somebody has trained already, read from a file into a net."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from experiment.core.errors import UserError, first_line
from experiment.core.text import shown

WITHIN = ("state_dict", "model_state_dict", "model", "net")  # where checkpoints keep weights
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel, and of torch.compile
COUNTERS = "num_batches_tracked"  # of normalisations: older files lack them, and nothing needs them
MOST_NAMED = 3


def load_weights(net: nn.Module, path: str | Path, place: str = "") -> None:
    """Load the weights of a file into a net, in place.

    Args:
        path: a `.safetensors` file, or one that torch.save has written: a `state_dict`, or a
            checkpoint with one in it.
        place: what messages begin with.

    Raises:
        UserError: if the file cannot be read, or belongs to another net.
    """
    try:
        tensors = read_weights(path)
        _require_fit(net, tensors)
        net.load_state_dict(tensors, strict=False)
    except UserError as error:
        raise error.within(f"{place}{path}") from None


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name. Raises UserError if there are none."""
    path = Path(path)
    if not path.is_file():
        raise UserError("no such file")
    tensors = _read(path)
    for prefix in PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): one for name, one in tensors.items()}
    return tensors


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of whatever the file may hold
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error).upper():
            raise UserError(
                "holds Python objects, which could run any code when they are read, and are not: "
                "save the weights alone, torch.save(net.state_dict(), FILE)"
            ) from None
        raise UserError(f"cannot be read as weights: {first_line(error)}") from None
    found = _state_dict(content)
    if found is None:
        raise UserError(f"holds no weights by name, but {shown(type(content).__name__)}")
    return found


def _state_dict(content: Any) -> dict[str, Tensor] | None:
    """The tensors by name in what a file holds; None if there are none."""
    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(one, Tensor) for one in content.values()):
        return {str(name): one for name, one in content.items()}
    inner = [_state_dict(content[name]) for name in WITHIN if name in content]
    return next((one for one in inner if one is not None), None)


def _require_fit(net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raise UserError unless a file has the tensors of the net, of the same shapes."""
    own = net.state_dict()
    missing = [name for name in own if name not in tensors and not name.endswith(COUNTERS)]
    unexpected = [name for name in tensors if name not in own]
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"lacks {_named(missing)}")
        if unexpected:
            parts.append(f"has {_named(unexpected)}, which the network does not have")
        raise UserError(f"{', and '.join(parts)}: it belongs to another network")
    other = [name for name, one in tensors.items() if one.shape != own[name].shape]
    if other:
        name = other[-1]  # a head for other classes comes last
        hint = " (a net for other classes, or images of other channels?)" if len(other) <= 3 else ""
        raise UserError(
            f"{name} is {list(tensors[name].shape)}, but {list(own[name].shape)} in the "
            f"network{hint}"
        )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"
