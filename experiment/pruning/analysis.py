"""What a method may ask about a net and its sample S, each answer computed once for all methods."""

import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from experiment.channels.channels import Channels
from experiment.channels.graph import find_channels
from experiment.core.errors import UserError
from experiment.core.memory import return_free_memory
from experiment.core.spelling import nearest
from experiment.nets.batches import as_batches
from experiment.nets.checks import loss_function, mask_tensors, positive, usable_net, whole_number
from experiment.nets.collapse import has_constant_output
from experiment.nets.flat import FlatWeights
from experiment.nets.layers import Layers, PrunableLayer, find_layers, require_layers
from experiment.nets.masks import Masks, constant_masks
from experiment.nets.reachability import reached
from experiment.nets.running import device_of, wait_for
from experiment.sensitivity.constants import DEFAULT_DELTA
from experiment.sensitivity.empirical import Reduction, measure


class Analysis:
    """A net, the masks it was pruned with so far, the batches of S, and what follows from them.

    `delta` is the failure probability of the certificates; `loss(outputs, targets)` is only needed
    by methods that use gradients. Methods that remove filters keep a multiple of `round_channels`
    in each group of channels, or all.
    """

    def __init__(
        self,
        net: nn.Module,
        batches: Iterable[Any],
        *,
        masks: Masks | None = None,
        loss: Callable | None = None,
        delta: float = DEFAULT_DELTA,
        round_channels: int = 1,
    ):
        self.net = usable_net(net)
        self.batches = list(as_batches(net, batches))
        self.masks = _complete(mask_tensors(masks), net)
        self.loss = loss_function(loss)
        self.delta = positive("delta", delta)
        self.round_channels = whole_number("round_channels", round_channels, least=1)
        self._computed: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}  # how long each of these took
        self._accessed: set[str] = set()  # which of them were asked for, since the last stopwatch

    @cached_property
    def found(self) -> Layers:
        """What of the net can be pruned, and what not. Raises UserError if there is nothing."""
        return require_layers(find_layers(self.net, self.batches))

    @property
    def layers(self) -> dict[str, PrunableLayer]:
        """The prunable layers by name."""
        return self.found.prunable

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The weight of each layer, [outputs, inputs of a group, *kernel]; not to be changed."""
        return {name: layer.weight(self.net).detach() for name, layer in self.layers.items()}

    @cached_property
    def flat(self) -> FlatWeights:
        return FlatWeights(self.layers)

    @cached_property
    def candidates(self) -> Tensor:
        """The prunable weights that are still there, as a mask over the flat vector.

        Not to be written to.
        """
        return self.flat.join_masks(self.masks)

    @cached_property
    def connected(self) -> Masks:
        """From which parameters of the whole net a path leads to the output."""
        return reached(self.net, self.layers, constant_masks(self.net), self.batches[0])

    @cached_property
    def constant_output(self) -> bool:
        """Whether the net's output does not depend on its input."""
        return has_constant_output(self.net, self.batches)

    @property
    def channels(self) -> Channels:
        """The channels that can be removed as a whole.

        Raises UserError where the net cannot be traced.
        """
        return self.once("channels", lambda: find_channels(self.net, self.batches[0], self.layers))

    def sensitivities(self, reduction: Reduction) -> dict[str, Tensor]:
        """Oriented sensitivities of each layer: pieces of one flat vector."""

        def measured() -> dict[str, Tensor]:
            by_layer = measure(self.net, self.layers, self.batches, (reduction,))[reduction]
            return self.flat.split(self.flat.join(by_layer))

        return self.once(f"sensitivities {reduction}", measured)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """The value of that name, computed and timed when first asked for."""
        self._accessed.add(name)
        if name not in self._computed:
            start = time.perf_counter()
            self._computed[name] = compute()
            return_free_memory(sum(mask.numel() for mask in self.masks.values()))
            wait_for(device_of(self.net))
            self._seconds[name] = time.perf_counter() - start
        return self._computed[name]

    def stopwatch(self) -> "Stopwatch":
        """A stopwatch that starts now. Only the last one counts what is computed."""
        self._accessed = set()
        return Stopwatch(device_of(self.net), dict(self._seconds), self._accessed)


class Stopwatch:
    """The time that a method takes, whether or not another one computed what they share."""

    def __init__(self, device: torch.device, known: dict[str, float], accessed: set[str]):
        self.device = device
        self.known = known  # seconds of what was computed before the start
        self.accessed = accessed  # what has been asked for since then
        self.start = time.perf_counter()

    def seconds(self) -> float:
        """Seconds since the start, and those of what was used and known already."""
        wait_for(self.device)
        shared = sum(seconds for name, seconds in self.known.items() if name in self.accessed)
        return time.perf_counter() - self.start + shared


def _complete(masks: Masks, net: nn.Module) -> Masks:
    """The masks on the net's devices; parameters that they do not name are kept whole.

    Raises UserError for masks that do not fit the net.
    """
    complete = constant_masks(net)
    for name, mask in masks.items():
        if name not in complete:
            raise UserError(f"masks: the net has no parameter '{name}'{nearest(name, complete)}")
        if mask.shape != complete[name].shape or mask.dtype != torch.bool:
            raise UserError(
                f"masks: '{name}' must be a bool tensor of shape {list(complete[name].shape)}, not "
                f"{mask.dtype} of {list(mask.shape)}"
            )
        complete[name] = mask.to(complete[name].device)
    return complete
