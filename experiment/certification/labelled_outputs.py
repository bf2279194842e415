"""The outputs of a net on labelled images, for tests of nets against each other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError
from experiment.nets.running import run_in_eval_mode, split_batch


def labelled_outputs(net: nn.Module, batches: Sequence[Any], name: str) -> tuple[Tensor, Tensor]:
    """Logits [images, classes] and labels [images], on the CPU.

    Raises UserError, which calls the batches by their `name`, where there are none of them.
    """
    outputs = []
    labels = []
    for batch in batches:
        _, targets = split_batch(batch)
        if not isinstance(targets, Tensor) or targets.dim() != 1 or targets.is_floating_point():
            raise UserError(f"{name} must be batches of (inputs, labels), with integers as labels")
        found = run_in_eval_mode(net, batch)
        if not isinstance(found, Tensor) or found.dim() != 2:
            raise UserError("the net must return one row of logits for each image")
        outputs.append(found.detach().cpu())
        labels.append(targets.cpu())
    return torch.cat(outputs), torch.cat(labels)
