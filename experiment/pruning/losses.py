"""The loss of a batch, by the user's function or by the net itself."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from experiment.core.errors import UserError, first_line
from experiment.nets.tensors import described


def batch_loss(loss: Callable | None, outputs: Any, targets: Any) -> Tensor:
    """`loss(outputs, targets)`; without a function, the loss that the net computed.

    Raises UserError if there is neither.
    """
    value = _own_loss(outputs) if loss is None else _computed(loss, outputs, targets)
    if not (isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad):
        raise UserError(f"the loss must be one number with a gradient, not {described(value)}")
    return value.reshape(())


def _own_loss(outputs: Any) -> Tensor:
    own = outputs.get("loss") if isinstance(outputs, dict) else getattr(outputs, "loss", None)
    if own is None:
        raise UserError(
            "this method uses gradients: it needs loss=..., a function of outputs and "
            "targets, or a net whose output has a loss, from labels in its inputs"
        )
    return own


def _computed(loss: Callable, outputs: Any, targets: Any) -> Any:
    if targets is None:
        raise UserError(
            "this method uses gradients: batches must be (inputs, targets), and targets are missing"
        )
    try:
        return loss(outputs, targets)
    except Exception as error:  # the user's code
        raise UserError(
            f"loss cannot be computed: {first_line(error)}; outputs are "
            f"{described(outputs)}, targets {described(targets)}"
        ) from error
