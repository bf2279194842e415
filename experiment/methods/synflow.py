"""SynFlow: pruning without data that never disconnects a layer before it must."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from experiment.masks import largest
from experiment.methods.method import Method, Selection
from experiment.nets import call, evaluating, first_sample, split_batch, tensors
from experiment.reachability import NORMALISATIONS, ones_like
from experiment.registry import METHODS
from experiment.seeding import Stream
from experiment.statistics import Statistics


@METHODS.register
class SynFlow(Method):
    """Keep the weights with the largest |w dR/dw|, R the output of the net of absolute weights fed with ones.

    Tanaka et al. 2020, Algorithm 1: the budget is approached in geometric steps, scores computed anew at each;
    `rounds` of them lead to a hundredth of the weights. Normalisations act as the positive scales |weight| /
    deviation, and biases are left out, so that no flow is cancelled.
    """

    def __init__(self, *, rounds: int = 100):
        self.rounds = rounds

    def prepare(self, statistics: Statistics, stream: Stream) -> Callable[[int], Selection]:
        inputs = ones_like(first_sample(split_batch(statistics.batches[0])[0]))
        net, sizes = positive_net(statistics.net), [int(statistics.candidates.sum())]
        masks = [statistics.candidates]  # after each round; shared by all budgets

        def pruned_once(kept: Tensor, count: int) -> Tensor:
            return largest(statistics.flat.join(flow(net, statistics, kept, inputs)), count, kept)

        def select(budget: int) -> Selection:
            while (count := round(sizes[0] * 0.01 ** (len(masks) / self.rounds))) > max(budget, 1):
                masks.append(pruned_once(masks[-1], count))
                sizes.append(count)
            start = max(index for index, size in enumerate(sizes) if size >= budget or index == 0)
            return Selection(pruned_once(masks[start], budget))

        return select


def positive_net(net: nn.Module) -> nn.Module:
    """A copy in double precision with absolute parameters, without biases and shifts."""
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


def flow(net: nn.Module, statistics: Statistics, kept: Tensor, inputs: object) -> dict[str, Tensor]:
    """log |w dR/dw| of each prunable weight of the positive net with only the kept weights, on the masks' device."""
    originals = {}
    weights = {name: net.get_parameter(layer.parameter) for name, layer in statistics.layers.items()}
    for name, mask in statistics.flat.split(kept).items():
        originals[name] = weights[name].data
        weights[name].data = originals[name] * mask.cpu()
        weights[name].requires_grad_(True)
    with evaluating(net), torch.enable_grad():
        total = sum(output.sum() for output in tensors(call(net, inputs)))
        gradients = torch.autograd.grad(total, list(weights.values()))
    # Logarithms keep the order of numbers that single precision could not hold.
    scores = {name: (weights[name].detach() * gradient).log().float().to(kept.device)
              for name, gradient in zip(weights, gradients)}
    for name, original in originals.items():
        weights[name].data = original
    return scores
