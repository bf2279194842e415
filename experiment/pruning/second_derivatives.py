"""Second derivatives of functions for which torch has only the first."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from experiment.core.errors import UserError, one_line

MISSING = "derivative for", "differentiate twice", "double backward"  # what torch's complaints say


def hardsigmoid(inputs: Tensor, inplace: bool = False) -> Tensor:
    """torch's function of that name, in operations that can be differentiated twice."""
    return functional.relu6(inputs + 3) / 6


TWICE_DIFFERENTIABLE = {functional.hardsigmoid: hardsigmoid}


class _TwiceDifferentiable(TorchFunctionMode):
    """Within the block, functions without a second derivative are computed in another way."""

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return TWICE_DIFFERENTIABLE.get(function, function)(*args, **(kwargs or {}))


@contextlib.contextmanager
def second_derivatives(method: str) -> Iterator[None]:
    """Within the block nets can be differentiated twice.

    Raises UserError, in the name of the method, where torch has no second derivative.
    """
    try:
        with _TwiceDifferentiable():
            yield
    except RuntimeError as error:
        if any(words in str(error) for words in MISSING):
            raise UserError(
                f"{method} needs second derivatives, which torch does not have for a "
                f"part of this net or its loss ({one_line(error)})"
            ) from error
        raise
