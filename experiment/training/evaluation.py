"""Evaluating a net on all images of a split, in float32, whatever it was trained in."""

import contextlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiment.core.errors import UserError
from experiment.data.split import Split
from experiment.nets.layout import as_laid_out, has_channels_last
from experiment.nets.running import device_of, evaluating, run_in_eval_mode
from experiment.nets.tensors import tensors
from experiment.training.team import ALONE, Team

LARGEST_BATCH = 512
SMALLEST_BATCH = 32
# How much of a layer's inputs and outputs stays in the caches of a processor's core.
CACHED_BYTES_PER_THREAD = 4 * 2**20


class DivergedError(RuntimeError):
    """A loss is not finite: a training has diverged, or a net has been damaged by pruning."""


@dataclass(frozen=True)
class Evaluation:
    """Cross entropy, and the share of samples whose class is the first, or among the first five."""

    loss: float
    accuracy: float
    top5: float


@torch.no_grad()
def evaluate(net: nn.Module, split: Split, num_classes: int, team: Team = ALONE) -> Evaluation:
    """Loss and accuracies of a net, in eval mode, on all images of a split.

    The processes of a team divide the images, and find the same.

    Raises:
        DivergedError: if the loss is not finite, so that the accuracies mean nothing.
    """
    channels_last = has_channels_last(net)
    found = []
    own = split if team.is_alone else split.subset(torch.arange(len(split))[team.part(len(split))])
    with evaluating(net):
        for inputs, targets in own.batches(evaluation_batch(net, split)) if len(own) else []:
            outputs = net(as_laid_out(inputs, channels_last))
            check_outputs(outputs, num_classes)
            found.append(_sums(outputs, targets))
    # The numbers are fetched at the end, so that a GPU does not wait after each batch.
    of_batches = [sums.tolist() for sums in found] or [[0.0, 0.0, 0.0]]
    loss, first, among_five = team.total([sum(of_kind) for of_kind in zip(*of_batches)])
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss on {len(split)} images is not finite: the net gives infinite outputs or NaN"
        )
    return Evaluation(loss / len(split), first / len(split), among_five / len(split))


@torch.no_grad()
def outputs(net: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
    """The logits of a net in eval mode, and the labels, of all images; on the CPU.

    A process of a team finds all of them by itself.
    """
    channels_last = has_channels_last(net)
    logits = []
    labels = []
    with evaluating(net):
        for inputs, targets in split.batches(evaluation_batch(net, split)):
            logits.append(net(as_laid_out(inputs, channels_last)))
            labels.append(targets)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()


def _sums(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sums over a batch: losses, first guesses that are right, and right ones among five."""
    loss = cross_entropy(outputs, targets, reduction="sum")
    predicted = outputs.topk(min(5, outputs.shape[1]), dim=1).indices
    correct = predicted == targets[:, None]
    return torch.stack([loss, correct[:, 0].sum().to(loss), correct.any(1).sum().to(loss)])


def evaluation_batch(net: nn.Module, split: Split) -> int:
    """How many images to evaluate at a time.

    On a CPU as many as leave the inputs and outputs of the largest layer in the caches, which
    makes evaluation up to five times as fast. It depends on the net and the number of threads, not
    on measurements, so that a run finds the same numbers each time.
    """
    device = device_of(net)
    if device.type != "cpu":
        return LARGEST_BATCH
    example = next(split.subset(torch.arange(1)).batches(1))
    budget = CACHED_BYTES_PER_THREAD * torch.get_num_threads()
    fitting = budget // max(1, largest_layer_bytes(net, example))
    batch = SMALLEST_BATCH
    while 2 * batch <= min(fitting, LARGEST_BATCH):
        batch *= 2
    return batch


def largest_layer_bytes(net: nn.Module, example: tuple[Tensor, Tensor]) -> int:
    """The most memory that the inputs and outputs of one module without children take."""
    largest = 0

    def measure(module: nn.Module, inputs: object, outputs: object) -> None:
        nonlocal largest
        values = [*tensors(inputs), *tensors(outputs)]
        largest = max(largest, sum(value.numel() * value.element_size() for value in values))

    with contextlib.ExitStack() as stack:
        for module in net.modules():
            if next(module.children(), None) is None:
                stack.enter_context(module.register_forward_hook(measure))
        run_in_eval_mode(net, example)
    return largest


def check_outputs(outputs: Tensor, num_classes: int) -> None:
    """Raise UserError unless the outputs are a tensor [batch, num_classes]."""
    if not isinstance(outputs, Tensor):
        raise UserError(
            f"the network's output must be a tensor [batch, {num_classes}], "
            f"not a {type(outputs).__name__}"
        )
    if outputs.dim() != 2 or outputs.shape[1] != num_classes:
        raise UserError(
            f"the network's output has shape {list(outputs.shape)}; "
            f"it must be [batch, {num_classes}]"
        )
