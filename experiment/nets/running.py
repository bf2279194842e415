"""Running any net: its inputs and outputs, its copies, its modes."""

import contextlib
import copy
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError, first_line
from experiment.nets.tensors import described, map_tensors, moved, tensors, type_name

PLAIN_TYPES = None | bool | int | float | str | list | tuple | dict


def call(net: nn.Module, inputs: Any) -> Any:
    """The net's output; a dict is passed as keyword arguments, a list as positional ones."""
    if isinstance(inputs, dict):
        return net(**inputs)
    if isinstance(inputs, list | tuple):
        return net(*inputs)
    return net(inputs)


def run(net: nn.Module, batch: Any) -> Any:
    """The net's output for a batch, computed on the net's device.

    Raises UserError, with the shapes of the inputs, if the net fails or returns no tensor.
    """
    inputs, _ = split_batch(batch)
    inputs = moved(inputs, device_of(net))
    try:
        output = call(net, inputs)
    except UserError:
        raise
    except Exception as error:  # the net is the user's code
        raise UserError(
            f"the net cannot run on the batch: {first_line(error)}; inputs are "
            f"{described(inputs)}, the net's parameters {type_name(dtype_of(net))}"
            f"{_hint(inputs)}"
        ) from error
    if isinstance(output, PLAIN_TYPES) and not tensors(output):
        raise UserError(
            f"the net returns {described(output)}: its forward pass must return a "
            f"tensor, or a dict, tuple or dataclass of tensors"
        )
    return output


def run_in_eval_mode(
    net: nn.Module, batch: Any, *observers: contextlib.AbstractContextManager
) -> Any:
    """The net's output for a batch in eval mode, without gradients, while observers are active.

    `observers` are handles of hooks, which are removed afterwards, and torch's dispatch and
    function modes.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(evaluating(net))
        stack.enter_context(torch.no_grad())
        for observer in observers:
            stack.enter_context(observer)
        return run(net, batch)


def _hint(inputs: Any) -> str:
    if any(tensor.dtype == torch.uint8 for tensor in tensors(inputs)):
        return "; convert images of bytes to float and normalise them, as for training"
    return ""


def split_batch(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch that is `(inputs, targets)`, or inputs alone (targets None).

    Several inputs without targets are therefore written `((first, second), None)`.
    """
    if isinstance(batch, list | tuple) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, list | tuple) and len(batch) == 1:
        return batch[0], None
    return batch, None


def batch_length(inputs: Any) -> int:
    """The number of samples in a batch of inputs: the length of the first tensor that has one."""
    return next(len(tensor) for tensor in tensors(inputs) if tensor.dim())


def first_sample(batch: Any) -> Any:
    """The inputs of a batch, cut to its first sample."""
    inputs, _ = split_batch(batch)
    return map_tensors(lambda tensor: tensor[:1] if tensor.dim() else tensor, inputs)


def copy_of(net: nn.Module, parameters: dict[str, nn.Parameter] | None = None) -> nn.Module:
    """A deep copy of a net, with other parameters (by name) in place of some of its own.

    Raises UserError if Python cannot make one.
    """
    others = {id(net.get_parameter(name)): other for name, other in (parameters or {}).items()}
    computed: dict[int, Tensor] = {  # tensors with a graph, which deepcopy refuses to copy
        id(value): value.detach().clone()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(net, computed | others)
    except Exception as error:  # a module may hold anything
        raise UserError(
            f"the net cannot be copied by copy.deepcopy: {first_line(error)}"
        ) from error


def device_of(net: nn.Module) -> torch.device:
    """The device of a net's first parameter."""
    parameter = next(net.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def dtype_of(net: nn.Module) -> torch.dtype:
    """The type of a net's first floating-point parameter."""
    dtypes = (parameter.dtype for parameter in net.parameters() if parameter.is_floating_point())
    return next(dtypes, torch.float32)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished its work, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def without_compilation() -> contextlib.AbstractContextManager:
    """A block in which compiled nets run as they were written.

    Nothing is compiled as long as nobody has imported torch's compiler, which takes a second.
    """
    if "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """A block in which mixed precision that was switched on outside does not apply."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Run a block with a net in eval mode, then restore the mode of every module."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    # In eval mode torch's transformer layers would bypass their own linear layers.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # Compiled code and autocast would compute other products than those with the parameters.
        with without_compilation(), without_autocast(device_of(net)):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, mode in modes:
            module.training = mode
