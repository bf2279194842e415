"""What a method may ask about a net and its sample S; each answer is computed once for all methods."""

import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from experiment.channels.channels import Channels
from experiment.channels.graph import find_channels
from experiment.errors import UserError
from experiment.flat import FlatWeights
from experiment.masks import Masks, keep_all, prunable_layers
from experiment.metrics import outputs_per_sample
from experiment.nets import device_of, wait_for
from experiment.reachability import reached
from experiment.registry import nearest
from experiment.sensitivity.empirical import Reduction, measure


class Statistics:
    """A net, the masks it was pruned with so far, the batches of S, and what has been computed from them.

    `delta` is the failure probability of the certificates; `loss(outputs, targets)` is only needed by methods that
    use gradients. `seconds` says how long each statistic took and `accessed` which were asked for, so that a method's
    time can include what it shares with others.
    """

    def __init__(self, net: nn.Module, batches: Iterable[Any], *, masks: Masks | None = None,
                 loss: Callable | None = None, delta: float = 1e-16):
        self.net = net
        self.batches = list(batches)
        if not self.batches:
            raise UserError("batches is empty: pruning needs at least one batch of samples")
        if not delta > 0:
            raise UserError(f"delta must be above 0, not {delta}")
        self.masks = _complete(masks or {}, net)
        self.loss = loss
        self.delta = delta
        self.seconds: dict[str, float] = {}
        self.accessed: set[str] = set()
        self._computed: dict[str, Any] = {}

    @cached_property
    def layers(self) -> list[str]:
        """Names of the prunable layers that run; what never runs is not pruned."""
        return list(self.patches)

    @cached_property
    def patches(self) -> dict[str, int]:
        """P, the number of output positions of a sample, by layer; 1 for linear layers, whose tokens are samples."""
        outputs = outputs_per_sample(self.net, self.batches[0])
        if not outputs:
            raise UserError("the net runs no linear or convolutional layer: there is nothing to prune")
        return {name: 1 if isinstance(layer, nn.Linear) else round(outputs[name] / layer.out_channels)
                for name, layer in prunable_layers(self.net).items() if name in outputs}

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weight [outputs, inputs of a group, *kernel] of each of `layers`, without a graph."""
        layers = prunable_layers(self.net)
        return {name: layers[name].weight.detach() for name in self.layers}

    @cached_property
    def flat(self) -> FlatWeights:
        return FlatWeights.of(self.net, self.layers)

    @cached_property
    def candidates(self) -> Tensor:
        """The prunable weights that are still there, as a mask over the flat vector."""
        return self.flat.join_masks(self.masks)

    @cached_property
    def connected(self) -> Masks:
        """From which parameters of the whole net a path leads to the output."""
        return reached(self.net, keep_all(self.net), self.batches[0])

    @property
    def channels(self) -> Channels:
        """The channels that can be removed as a whole. Raises UserError where the net cannot be traced."""
        return self.once("channels", lambda: find_channels(self.net, self.batches[0]))

    def sensitivities(self, reduction: Reduction) -> dict[str, Tensor]:
        return self.once(f"sensitivities {reduction}",
                         lambda: measure(self.net, self.batches, (reduction,))[reduction])

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """The value of that name, computed and timed when first asked for."""
        self.accessed.add(name)
        if name not in self._computed:
            start = time.perf_counter()
            self._computed[name] = compute()
            wait_for(device_of(self.net))
            self.seconds[name] = time.perf_counter() - start
        return self._computed[name]


def _complete(masks: Masks, net: nn.Module) -> Masks:
    """The masks, on the net's devices, and whole ones for the parameters they do not name.

    Raises UserError for masks that do not fit the net.
    """
    complete = keep_all(net)
    for name, mask in masks.items():
        if name not in complete:
            raise UserError(f"masks: the net has no parameter '{name}'{nearest(name, complete)}")
        if mask.shape != complete[name].shape or mask.dtype != torch.bool:
            raise UserError(f"masks: '{name}' must be a bool tensor of shape {list(complete[name].shape)}, not "
                            f"{mask.dtype} of {list(mask.shape)}")
        complete[name] = mask.to(complete[name].device)
    return complete
