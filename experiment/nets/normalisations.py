"""Torch's normalisations, recognised by the functions that every module calls for them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

CHANNELS_SECOND = {"batch_norm", "instance_norm", "group_norm"}  # parameters along dimension 1
CHANNELS_LAST = {"layer_norm", "rms_norm"}  # parameters along the last dimensions


@dataclass(frozen=True)
class Normalisation:
    """The arguments of a normalisation, its parameters shaped to broadcast to the input."""

    input: Tensor
    weight: Tensor | None
    bias: Tensor | None
    variance: Tensor | None  # stored by BatchNorm
    epsilon: float
    last_dims: int  # how many last dimensions LayerNorm and RMSNorm average over; 0 for others
    groups: int | None  # the number of groups of GroupNorm


def normalisation(function: Callable, args: tuple, kwargs: dict[str, Any]) -> Normalisation | None:
    """A call of one of torch's normalisations, or None for another function."""
    name = getattr(function, "__name__", "")
    if name not in CHANNELS_SECOND | CHANNELS_LAST:
        return None
    if function.__module__ != "torch.nn.functional":
        return None
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    rank = given["input"].dim()

    def broadcast(key: str) -> Tensor | None:
        vector = given.get(key)
        if vector is None or name in CHANNELS_LAST:
            return vector
        return vector.reshape(-1, *[1] * (rank - 2))

    return Normalisation(
        input=given["input"],
        weight=broadcast("weight"),
        bias=broadcast("bias"),
        variance=broadcast("running_var"),
        epsilon=given.get("eps") or 0.0,
        last_dims=len(given.get("normalized_shape", ())),
        groups=given.get("num_groups"),
    )
