"""The outputs of a net on labelled images, for tests of nets against each other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError
from experiment.nets.running import run_in_eval_mode, split_batch


def labelled_outputs(
    net: nn.Module, batches: Sequence[Any], name: str, num_classes: int | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [images, classes] and labels [images], on the CPU.

    `num_classes` is that of the net with which this one is compared. Raises UserError, which calls
    the batches by their `name`, where there are no logits or labels, where labels are not among the
    classes, and where outputs are not numbers.
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
        if num_classes not in (None, found.shape[1]):
            raise UserError(
                f"the two nets must have equally many outputs, not {num_classes} and "
                f"{found.shape[1]}"
            )
        _require_classes(found, targets, name)
        outputs.append(found.detach().cpu())
        labels.append(targets.cpu())
    return torch.cat(outputs), torch.cat(labels)


def _require_classes(outputs: Tensor, labels: Tensor, name: str) -> None:
    """Raise UserError unless each row of logits tells which class an image has."""
    num_images, num_classes = outputs.shape
    if num_classes < 2:
        raise UserError(
            "the net has one output, from which no class can be told: it must return at least two "
            "logits for each image"
        )
    if num_images != len(labels):
        raise UserError(
            f"{name} must have one label for each row of logits, not {len(labels)} labels for "
            f"{num_images} rows"
        )
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise UserError(
            f"{name} has the label {int(wrong[0])}: with {num_classes} outputs of the net, labels "
            f"are from 0 to {num_classes - 1}"
        )
    if outputs.isnan().any():
        raise UserError(f"a net gives outputs that are not numbers (NaN) on images of {name}")
