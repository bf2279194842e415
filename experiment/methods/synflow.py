"""SynFlow: pruning without data that never disconnects a layer before it must."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from experiment.errors import UserError
from experiment.masks import largest, prunable_layers
from experiment.methods.method import Method, Selection
from experiment.nets import call, divided, evaluating, first_sample, split_batch, tensors
from experiment.reachability import NORMALISATIONS, ones_like
from experiment.registry import METHODS
from experiment.seeding import Stream
from experiment.statistics import Statistics

SCALES = 1.0, 2.0**-830, 2.0**830
"""What is fed in place of ones where the flow of ones is more, or less, than float64 can hold."""


@METHODS.register
class SynFlow(Method):
    """Keep the weights with the largest |w dR/dw|.

    R is the output of the net of absolute weights fed with ones. Tanaka et al. 2020,
    arXiv:2006.05467, Algorithm 1: after round k of n (`rounds`) the share (budget / weights)^(k/n)
    of the weights is left, and the scores are computed anew. Every budget has its own schedule,
    run as a whole: to reuse the rounds of a budget 1% away changes a tenth of a small mask.

    Departures: normalisations are the positive scales |weight| / deviation, without mean and shift,
    and biases are left out, so that no flow is cancelled; where they are zero, as in a new net,
    this is the flow through the net of absolute values. In a cascade the schedule starts from the
    weights that are left.
    """

    def __init__(self, *, rounds: int = 100):
        if rounds < 1:
            raise UserError(f"SynFlow: rounds must be at least 1, not {rounds}")
        self.rounds = rounds

    def prepare(self, statistics: Statistics, stream: Stream) -> Callable[[int], Selection]:
        flat, candidates = statistics.flat, statistics.candidates.cpu()
        net = PositiveNet(positive_copy(statistics.net), statistics.layers,
                          ones_like(first_sample(split_batch(statistics.batches[0])[0])))
        number = int(candidates.sum())

        def select(budget: int) -> Selection:
            kept, left = candidates, number
            for k in range(1, self.rounds + 1):
                count = round(number * (budget / max(number, 1)) ** (k / self.rounds))
                if count < left:
                    scores = flat.join(net.scores(flat.split(kept)))
                    kept, left = largest(scores, count, kept), count
            return Selection(kept.to(statistics.candidates.device))

        return select


@dataclass(frozen=True)
class PositiveNet:
    """A net of positive parameters, its prunable layers, and inputs of ones."""

    net: nn.Module
    layers: list[str]
    inputs: Any

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        layers = prunable_layers(self.net)
        return {name: layers[name].weight for name in self.layers}

    @cached_property
    def unpruned(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    def scores(self, masks: dict[str, Tensor]) -> dict[str, Tensor]:
        """w dR/dw, float64, of each weight if only those of the masks (by layer) are kept.

        As for `gradients`, all are divided by one number.
        """
        for name, whole in self.unpruned.items():
            self.weights[name].detach().copy_(whole * masks[name])
        gradients = self.gradients()
        return {name: weight.detach() * gradient
                for (name, weight), gradient in zip(self.weights.items(), gradients)}

    def gradients(self) -> list[Tensor]:
        """dR/dw of each weight, divided by the power of 2 next to R: no rounding, no other order.

        Zeros if no path leads to the output.
        """
        weights = [weight.requires_grad_(True) for weight in self.weights.values()]
        with evaluating(self.net), torch.enable_grad():
            for scale in SCALES:
                flow = self.flow(scale)
                size = float(flow.detach())
                if 1e-250 < size < 1e250:
                    unit = torch.full_like(flow, 2.0 ** -math.frexp(size)[1])
                    return torch.autograd.grad(flow, weights, unit, materialize_grads=True)
        if size != 0:
            raise UserError("SynFlow: what flows through this net of absolute weights is more than "
                            "double precision can hold, or not a number")
        return [torch.zeros_like(weight) for weight in weights]

    def flow(self, scale: float) -> Tensor:
        """R, with inputs of this size instead of 1."""
        inputs = divided(self.inputs, 1 / scale)
        outputs = [output for output in tensors(call(self.net, inputs)) if output.requires_grad]
        return sum((output.sum() for output in outputs), torch.zeros((), dtype=torch.float64))


def positive_copy(net: nn.Module) -> nn.Module:
    """A copy in double precision, on the CPU, with absolute parameters, without biases and
    shifts."""
    positive = copy.deepcopy(net).cpu().double()
    for parameter in positive.parameters():
        parameter.data.abs_()
    for module in positive.modules():
        if isinstance(module, NORMALISATIONS):
            module.register_forward_hook(_scale_alone)
        elif isinstance(getattr(module, "bias", None), nn.Parameter):
            module.bias.data.zero_()
    return positive


def _scale_alone(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """|weight| / deviation times the input, by the deviation that BatchNorm has stored; others have none."""
    scale = torch.ones((), dtype=inputs[0].dtype) if getattr(module, "weight", None) is None else module.weight
    if getattr(module, "running_var", None) is not None:
        scale = scale / (module.running_var + module.eps).sqrt()
    if scale.dim() and not isinstance(module, nn.LayerNorm):
        scale = scale.reshape(-1, *[1] * (inputs[0].dim() - 2))
    return inputs[0] * scale
