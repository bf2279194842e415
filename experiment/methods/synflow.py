"""SynFlow: pruning without data that never disconnects a layer before it must."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from experiment.core.errors import UserError
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.nets.layers import PrunableLayer
from experiment.nets.masks import largest
from experiment.nets.normalisations import normalisation
from experiment.nets.running import copy_of, first_sample
from experiment.nets.surrogates import InPrecision, run_in_precision
from experiment.nets.tensors import divided, ones_like, tensors
from experiment.pruning.analysis import Analysis
from experiment.pruning.decision import Choice, Prepared
from experiment.pruning.method import Method

SATURATING = {"relu6", "hardtanh", "clamp", "clip", "clamp_max"}
BIASES = "bias", "in_proj_bias", "bias_k", "bias_v"
SCALES = 1.0, 2.0**-830, 2.0**830
"""What the net is fed with: not ones, where their flow overflows or underflows float64."""


@METHODS.register
class SynFlow(Method):
    """Keep the weights with the largest |w dR/dw|.

    R is the output of the net of absolute weights fed with ones. Tanaka et al. 2020,
    arXiv:2006.05467, Algorithm 1: after round k of n (`rounds`) the share (budget / weights)^(k/n)
    of the weights is left, and the scores are computed anew. Every budget has its own schedule,
    run as a whole: to reuse the rounds of a budget 1% away changes a tenth of a small mask.

    Departures: normalisations are the positive scales |weight| / deviation, without mean and shift,
    and biases are left out, so that no flow is cancelled; where they are zero, as in a new net,
    this is the flow through the net of absolute values. ReLU6 and the like are ReLU: the largest
    value that they have would cut the flow; a log-softmax is left out. In a cascade the schedule
    starts from the weights that are left.
    """

    def __init__(self, *, rounds: Annotated[int, Field(ge=1, le=100_000)] = 100):
        self.rounds = rounds

    def prepare(self, analysis: Analysis, stream: Stream) -> "PruningInRounds":
        return PruningInRounds(analysis, self.rounds)


class PruningInRounds(Prepared):
    """Keeps the largest scores in rounds, each with the scores of what the one before has left."""

    def __init__(self, analysis: Analysis, rounds: int):
        self.rounds = rounds
        self.flat = analysis.flat
        self.device = analysis.candidates.device
        self.candidates = analysis.candidates.cpu()
        self.net = PositiveNet(
            positive_copy(analysis.net),
            analysis.layers,
            ones_like(first_sample(analysis.batches[0])),
        )

    def choose(self, budget: int) -> Choice:
        kept = self.candidates.clone()  # which nothing may be removed from
        num_weights = num_left = int(kept.sum())
        share = budget / max(num_weights, 1)
        for k in range(1, self.rounds + 1):
            num_kept = round(num_weights * share ** (k / self.rounds))
            if num_kept < num_left:
                scores = self.flat.join(self.net.scores(self.flat.split(kept)))
                kept = largest(scores, num_kept, kept)
                num_left = num_kept
        return Choice(kept=kept.to(self.device))


@dataclass(frozen=True)
class PositiveNet:
    """A net of positive parameters, its prunable layers, and inputs of ones."""

    net: nn.Module
    layers: dict[str, PrunableLayer]
    inputs: Any

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        return [self.net.get_parameter(layer.parameter) for layer in self.layers.values()]

    @cached_property
    def unpruned(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]

    def scores(self, masks: dict[str, Tensor]) -> dict[str, Tensor]:
        """w dR/dw of each weight, float64, oriented, if only the masks (by layer) are kept.

        All are divided by one number, as `gradients` are.
        """
        layers = self.layers.values()
        for layer, parameter, whole in zip(layers, self.parameters, self.unpruned):
            parameter.detach().copy_(whole * layer.oriented(masks[layer.name]))
        return {
            layer.name: layer.oriented(parameter.detach() * gradient)
            for layer, parameter, gradient in zip(layers, self.parameters, self.gradients())
        }

    def gradients(self) -> list[Tensor]:
        """dR/dw of each weight, divided by the power of 2 next to R: no rounding, no other order.

        Zeros if no path leads to the output.
        """
        weights = [parameter.requires_grad_(True) for parameter in self.parameters]
        with torch.enable_grad():
            for scale in SCALES:
                flow = self.flow(scale)
                size = float(flow.detach())
                if 1e-250 < size < 1e250:
                    unit = torch.full_like(flow, 2.0 ** -math.frexp(size)[1])
                    return list(torch.autograd.grad(flow, weights, unit, materialize_grads=True))
        if size != 0:
            raise UserError(
                "SynFlow: what flows through this net of absolute weights is not a "
                "positive number that double precision can hold"
            )
        return [torch.zeros_like(weight) for weight in weights]

    def flow(self, scale: float) -> Tensor:
        """R, with inputs of this size instead of 1."""
        inputs = divided(self.inputs, 1 / scale)
        output = run_in_precision(self.net, inputs, _Scales())
        outputs = [one for one in tensors(output) if one.requires_grad]
        return sum((output.sum() for output in outputs), torch.zeros((), dtype=torch.float64))


def positive_copy(net: nn.Module) -> nn.Module:
    """A copy on the CPU, in double precision, of absolute parameters, without biases and shifts."""
    positive = copy_of(net).cpu().double()
    for parameter in positive.parameters():
        parameter.data.abs_()
    for module in positive.modules():
        for name in BIASES:
            if isinstance(getattr(module, name, None), nn.Parameter):
                getattr(module, name).data.zero_()
    return positive


class _Scales(InPrecision):
    """Within the block normalisations are positive scales and bounded functions are the identity.

    The scales are |weight| / deviation with BatchNorm's running deviation, and |weight| for other
    normalisations, which store no deviation.
    """

    def replaced(self, name: str, function: Callable, args: tuple, kwargs: dict) -> Any:
        first = args[0] if args else kwargs.get("input")
        bounded = name.rstrip("_") in (*SATURATING, "log_softmax")
        if bounded and isinstance(first, Tensor) and first.is_floating_point():
            return first
        call = normalisation(function, args, kwargs)
        if call is None:
            return function(*args, **kwargs)
        scaled = call.input if call.weight is None else call.input * call.weight
        return scaled if call.variance is None else scaled / (call.variance + call.epsilon).sqrt()
