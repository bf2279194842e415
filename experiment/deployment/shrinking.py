"""Physically smaller nets: the channels that pruning has made superfluous are cut out.

A channel goes if no weight that reads it is left, or if what it makes is 0 for every input. It goes
from all layers that make, normalise or read it. The net then computes the same, which is checked,
in double precision: there the difference of outputs is a mistake and not rounding.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from experiment.channels.channels import Channels
from experiment.channels.graph import find_channels
from experiment.core.errors import UserError
from experiment.deployment.fidelity import SAME_NET, relative_difference, require_equal
from experiment.deployment.resizing import without_channels
from experiment.nets.checks import whole_number
from experiment.nets.layers import joint_name
from experiment.nets.running import copy_of
from experiment.nets.surrogates import InPrecision, run_in_precision
from experiment.nets.tensors import map_tensors


@dataclass(frozen=True)
class Shrunk:
    """A net without the channels that can go, and what became of its layers."""

    net: nn.Module
    widths: dict[str, tuple[int, int]]  # by layer whose width changed: before and after
    left: list[str]  # layers with channels that are superfluous, but could not be cut out
    difference: float  # of outputs, relative to the largest
    not_followed: str | None = None  # why nothing is known of the channels, if so

    @property
    def note(self) -> str | None:
        """What could not be cut out, in words."""
        if self.not_followed:
            return f"no channels were cut out: {self.not_followed}"
        if not self.left:
            return None
        named = ", ".join(self.left[:3])
        more = f" and {len(self.left) - 3} more layers" if len(self.left) > 3 else ""
        return (
            f"superfluous channels of {named}{more} stay, as zeros: the net's forward pass needs "
            f"their number"
        )


def shrink(net: nn.Module, images: Any, round_channels: int = 1) -> Shrunk:
    """A copy of a pruned net, whose removed weights are 0, without superfluous channels.

    Args:
        images: a batch on which the outputs of both must be the same, within 1e-5 of the largest,
            in double precision.
        round_channels: so many superfluous channels stay, as zeros, that the layers' widths are
            multiples of this, where they were.

    Returns:
        A Shrunk with the smaller copy `net`, the `widths` of its layers before and after, and a
        `note` if channels had to stay.

    Raises:
        UserError: if the outputs differ.

    Example:
        >>> pruned = experiment.prune(net, loader, method="PFP", keep_ratio=0.3)
        >>> small = experiment.shrink(pruned.net, next(iter(loader))[0]).net
    """
    shrinking = Shrinking(net, images, round_channels)
    groups = shrinking.fitting_groups()
    smaller = without_channels(net, shrinking.channels, shrinking.kept_with(groups))
    difference = require_equal(
        shrinking.outputs_of(smaller), shrinking.outputs, SAME_NET, "the smaller net"
    )
    return Shrunk(
        net=smaller,
        widths=changed_widths(net, smaller),
        left=shrinking.layers_of([one for one in shrinking.shrinkable if one not in groups]),
        difference=difference,
        not_followed=shrinking.not_followed,
    )


class Shrinking:
    """The search for channels that can go, in a copy of the net in double precision."""

    def __init__(self, net: nn.Module, images: Any, round_channels: int = 1):
        self.not_followed: str | None = None
        self.round_channels = whole_number("round_channels", round_channels, least=1)
        self.net = copy_of(net).cpu().double()
        self.images = map_tensors(lambda tensor: _in_double(tensor.cpu()), images)
        self.outputs = self._run(self.net)

    def fitting_groups(self) -> list[int]:
        """The groups of channels, of those that can be smaller, with which the net still runs."""
        groups = self.shrinkable
        return self._growing([], groups) if groups else []

    def kept_with(self, groups: list[int]) -> numpy.ndarray:
        """Which channels [channels] stay if only these groups get smaller."""
        return self.kept | ~numpy.isin(self.channels.group, groups)

    def layers_of(self, groups: list[int]) -> list[str]:
        """The layers that make channels of these groups."""
        chosen = numpy.isin(self.channels.group, groups)
        return [
            layer
            for layer, channel in self.channels.rows.items()
            if chosen[channel[channel >= 0]].any()
        ]

    def outputs_of(self, net: nn.Module) -> Tensor:
        """What a net returns for the images in double precision.

        Raises UserError if it cannot run, or does not return one tensor.
        """
        return self._run(copy_of(net).cpu().double())

    def _run(self, net: nn.Module) -> Tensor:
        """The same of a net that is in double precision already."""
        outputs = run_in_precision(net, self.images, InPrecision())
        if not isinstance(outputs, Tensor):
            raise UserError(f"the net returns a {type(outputs).__name__}, not one tensor")
        return outputs

    @cached_property
    def channels(self) -> Channels:
        """The channels that could be removed; none if that cannot be told of this net."""
        try:
            return find_channels(self.net, self.images)
        except UserError as error:
            if "no filter that could be removed" not in str(error):
                self.not_followed = str(error)
            return Channels(numpy.zeros(0, dtype=numpy.int64), {}, {}, {})

    @cached_property
    def shrinkable(self) -> list[int]:
        """The groups that have superfluous channels."""
        return sorted(set(self.channels.group[~self.kept].tolist()))

    @cached_property
    def kept(self) -> numpy.ndarray:
        """Those that are needed, and as many others as make their number a multiple."""
        kept = self.needed.copy()
        for group in self.channels.groups:
            others = group.start + numpy.flatnonzero(~kept[group])
            missing = -int(kept[group].sum()) % self.round_channels
            kept[others[:missing]] = True
        return kept

    @cached_property
    def needed(self) -> numpy.ndarray:
        """Which channels [channels] have to stay; at least one of each group."""
        read_only = self._needed(may_lack_inputs=False)
        needed = self._needed(may_lack_inputs=True)
        if (needed == read_only).all():
            return needed
        # An activation function may make something of 0, as sigmoid does: it is tried out.
        trial = self._with_readers_at_zero(~needed & read_only)
        same = relative_difference(self._run(trial), self.outputs) <= SAME_NET
        return needed if same else read_only

    def _needed(self, may_lack_inputs: bool) -> numpy.ndarray:
        """The channels that are read and, if so asked, are not 0 for lack of inputs.

        A channel that goes takes the weights that read it along, so others may follow.
        """
        masks = {name: self._nonzero(joint_name(name, "weight")) for name in self._layers}
        vectors = {name: self._nonzero(name) for name in self.channels.vectors}
        needed = numpy.ones(self.channels.num_channels, dtype=bool)
        while True:
            found = needed & self.channels.read(masks)
            if may_lack_inputs:
                found &= self.channels.made(masks, vectors)
            if (found == needed).all():
                break
            needed = found
            stay = self.channels.weight_masks(masks, needed)
            masks = {name: mask & stay[name] for name, mask in masks.items()}
            vectors = self.channels.vector_masks(vectors, needed)
        for group in self.channels.groups:
            if not needed[group].any():
                needed[group.start] = True
        return needed

    @property
    def _layers(self) -> dict[str, None]:
        return dict.fromkeys([*self.channels.rows, *self.channels.columns])

    def _nonzero(self, parameter: str) -> Tensor:
        return self.net.get_parameter(parameter).detach().ne(0).cpu()

    @torch.no_grad()
    def _with_readers_at_zero(self, hidden: numpy.ndarray) -> nn.Module:
        """A copy of the net in which nothing reads the hidden channels [channels]."""
        copy = copy_of(self.net)
        weights: dict[str, Tensor] = {
            name: copy.get_parameter(joint_name(name, "weight")) for name in self.channels.columns
        }
        for name, mask in self.channels.weight_masks(weights, ~hidden).items():
            weights[name].mul_(mask)
        return copy

    def _growing(self, accepted: list[int], groups: list[int]) -> list[int]:
        """The accepted groups, and those of the others with which the net still runs as it did."""
        together = [*accepted, *groups]
        if self._runs_without(together):
            return together
        middle = len(groups) // 2
        if not middle:
            return accepted
        return self._growing(self._growing(accepted, groups[:middle]), groups[middle:])

    def _runs_without(self, groups: list[int]) -> bool:
        """Whether the net without the superfluous channels of these groups has the same outputs."""
        smaller = without_channels(self.net, self.channels, self.kept_with(groups))
        try:
            outputs = self._run(smaller)
        except Exception:  # its forward pass counts on the number of channels
            return False
        return relative_difference(outputs, self.outputs) <= SAME_NET


def _in_double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def changed_widths(net: nn.Module, smaller: nn.Module) -> dict[str, tuple[int, int]]:
    """By layer whose number of outputs changed, that before and after."""
    before = {name: len(weight) for name, weight in net.named_parameters() if weight.dim() > 1}
    after = {name: len(weight) for name, weight in smaller.named_parameters() if weight.dim() > 1}
    return {
        name.removesuffix(".weight"): (before[name], after[name])
        for name in before
        if before[name] != after[name]
    }
