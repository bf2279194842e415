"""Torch's normalisations, recognised as the functions through which every module calls them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

CHANNELS_SECOND = {"batch_norm", "instance_norm", "group_norm"}  # parameters belong to dimension 1
CHANNELS_LAST = {"layer_norm", "rms_norm"}  # or to the last ones


@dataclass(frozen=True)
class Normalisation:
    """What a normalisation is called with; its parameters can be broadcast to the input."""

    input: Tensor
    weight: Tensor | None
    bias: Tensor | None
    variance: Tensor | None  # stored by BatchNorm
    epsilon: float
    last_dims: int  # over so many of the last dimensions LayerNorm and RMSNorm average, others 0
    groups: int | None  # of channels over which GroupNorm averages


def normalisation(function: Callable, args: tuple, kwargs: dict[str, Any]) -> Normalisation | None:
    """A call of one of torch's normalisations, or None for another function."""
    name = getattr(function, "__name__", "")
    if name not in CHANNELS_SECOND | CHANNELS_LAST or function.__module__ != "torch.nn.functional":
        return None
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    rank = given["input"].dim()

    def broadcast(key: str) -> Tensor | None:
        vector = given.get(key)
        if vector is None or name in CHANNELS_LAST:
            return vector
        return vector.reshape(-1, *[1] * (rank - 2))

    return Normalisation(
        given["input"],
        broadcast("weight"),
        broadcast("bias"),
        broadcast("running_var"),
        given.get("eps") or 0.0,
        len(given.get("normalized_shape", ())),
        given.get("num_groups"),
    )
