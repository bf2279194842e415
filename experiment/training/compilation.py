"""Compiling nets by torch.compile: each once in a process, for all of its trainings."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError, first_line

Forward = Callable[[Tensor], Any]
RECOMPILE_LIMIT = 256  # one for each architecture, and spare ones; torch's own limit is 8


def compiled(net: nn.Module) -> Forward:
    """The net's forward pass, which is compiled when it is first called, with its backward pass.

    torch finds what it has compiled for a net before. Calling it raises UserError if the net cannot
    be compiled here.
    """
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    # It warns, on a CPU too, of a CUDA toolkit without a GPU; nothing here builds an extension.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    compiled_net = torch.compile(net, dynamic=False)

    def forward(images: Tensor) -> Any:
        try:
            return compiled_net(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            cause = getattr(error, "inner_exception", error)
            raise UserError(
                f"training.compile: torch.compile cannot compile this net here: "
                f"{first_line(cause)}; use off"
            ) from error

    return forward
