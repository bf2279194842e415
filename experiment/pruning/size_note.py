"""Why a pruned net does not have the size that was asked for, in one sentence."""

from dataclasses import dataclass
from typing import Literal

from experiment.nets.masks import Masks

NAMED = 3  # how many of several parameters a note names


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of parameters of one pruning."""

    original: int  # of the net before any pruning
    before: int  # of the net before this pruning
    smallest: int  # with as few as the method can keep
    target: int  # asked for
    achieved: int


def size_note(
    sizes: Sizes,
    granularity: Literal["weights", "filters"],
    *,
    min_kept_per_layer: int,
    round_channels: int,
    not_prunable: str,
) -> str:
    """Why the size is not what was asked for; `not_prunable` says which parameters are not."""
    asked = f"{sizes.target} were asked for"
    if sizes.before < sizes.target:
        return f"the net had only {sizes.before} parameters left, {asked}"
    if granularity == "filters":
        return _note_on_filters(sizes, round_channels, asked)
    if min_kept_per_layer and sizes.achieved > sizes.target:
        return (
            f"with at least {min_kept_per_layer} weights in each layer {sizes.achieved} "
            f"parameters came closest, {asked}"
        )
    if sizes.target < sizes.smallest:
        return (
            f"{sizes.smallest} of the {sizes.original} parameters are not prunable "
            f"({not_prunable}) and go only where they are dead, {asked}"
        )
    return (
        f"no budget of weights leaves {sizes.target} parameters alive; "
        f"{sizes.achieved} came closest"
    )


def _note_on_filters(sizes: Sizes, round_channels: int, asked: str) -> str:
    if sizes.target < sizes.smallest:
        always_kept = "one" if round_channels == 1 else f"{round_channels}"
        return (
            f"{sizes.smallest} of the {sizes.original} parameters stay, {asked}: they belong to "
            f"no filter that can be removed as a whole, or to the {always_kept} of each layer that "
            f"{'is' if round_channels == 1 else 'are'} always kept"
        )
    removed = "whole filters" if round_channels == 1 else f"filters in blocks of {round_channels}"
    return (
        f"{removed} were removed: of the possible sizes {sizes.achieved} parameters came "
        f"closest, {asked}"
    )


def described_as_not_prunable(left_out: dict[str, str], masks: Masks) -> str:
    """The parameters that are not prunable, the largest by name; `left_out` says why, by name."""
    largest = sorted(left_out, key=lambda name: -masks[name].numel())
    named = [f"{name}: {left_out[name]}" for name in largest[:NAMED]]
    if len(largest) > NAMED:
        named.append(f"{len(largest) - NAMED} more")
    return ", ".join([*named, "biases and normalisations"])
