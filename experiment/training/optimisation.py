"""Optimisers and learning rates, and how an optimiser's state is kept."""

import inspect

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from experiment.config.schema import Training
from experiment.nets.running import device_of
from experiment.nets.state import copied


def _without_compiler(kind: type[Optimizer]) -> type[Optimizer]:
    """An optimiser whose methods do not import torch's compiler, which takes a second or two.

    torch wraps them to keep them out of compiled code. Only forward passes are compiled here.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), methods)


OPTIMIZERS = {
    kind.__name__: _without_compiler(kind)
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
}


def make_optimizer(net: nn.Module, settings: Training, *, recorded: bool = False) -> Optimizer:
    """torch's optimiser of that name with the configured options; on a CPU its fused version.

    If its steps are to be `recorded` as CUDA graphs, it is fused too, and the learning rate is a
    tensor, which can be changed between replays.
    """
    options = settings.optimizer.model_dump()
    kind = OPTIMIZERS[options.pop("name")]
    parameters = list(net.parameters())
    if recorded:
        options["lr"] = torch.tensor(options["lr"], device=device_of(net))
        if not issubclass(kind, torch.optim.SGD):  # which always can be captured
            options["capturable"] = True
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if (recorded or device_of(net).type == "cpu") and all(map(torch.is_floating_point, trained)):
        options["fused"] = True
    return kind(parameters, **options)


def make_scheduler(
    optimizer: Optimizer, settings: Training, epoch: int, steps_per_epoch: int
) -> LambdaLR:
    """The learning rate of every step from the beginning of an epoch on."""
    first_step = epoch * steps_per_epoch

    def factor(step: int) -> float:
        return learning_rate_factor(settings, first_step + step, steps_per_epoch)

    return LambdaLR(optimizer, factor)


def learning_rate_factor(settings: Training, step: int, steps_per_epoch: int) -> float:
    """What the learning rate is multiplied by: a linear warm-up from 0, and drops at epochs."""
    drops = sum(1 for epoch in settings.lr_drops.epochs if step >= epoch * steps_per_epoch)
    factor = settings.lr_drops.factor**drops
    warmup_steps = settings.warmup_epochs * steps_per_epoch
    if warmup_steps:
        factor *= min(1.0, (step + 1) / warmup_steps)
    return factor


def optimizer_tensors(net: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Copies of what the optimiser keeps for each parameter: `<parameter name>:<its name>`."""
    result = {}
    for name, parameter in net.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                result[f"{name}:{key}"] = copied(value)
    return result


def load_optimizer(net: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`, for an optimiser that has made no step yet."""
    parameters = dict(net.named_parameters())
    names = list(parameters)
    state: dict[int, dict[str, Tensor]] = {}
    for joint_name, tensor in tensors.items():
        name, _, key = joint_name.rpartition(":")
        state.setdefault(names.index(name), {})[key] = _laid_out_like(parameters[name], tensor)
    fresh = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": fresh["param_groups"]})
    if isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["momentum"]:
        for parameter in parameters.values():  # the fused version fails where only some have one
            momentum = optimizer.state[parameter]
            momentum.setdefault("momentum_buffer", torch.zeros_like(parameter.detach()))


def _laid_out_like(parameter: nn.Parameter, tensor: Tensor) -> Tensor:
    """A copy of what an optimiser keeps, in the layout that fused optimisers take for granted."""
    if tensor.shape != parameter.shape:
        return tensor.clone()
    return torch.empty_like(parameter.detach(), dtype=tensor.dtype).copy_(tensor)
