"""The numbers with which a net is trained; weights, masks and the optimiser are always float32."""

import contextlib
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager:
    """A block in which a net computes in a precision; torch chooses which operations take part.

    Casts are not kept from one forward pass to the next, which a recorded step would not renew.
    """
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
