"""A net in training, and what changes it."""

import contextlib
import functools
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiment.config.schema import Training
from experiment.data.loading import Data
from experiment.nets.layout import as_laid_out, has_channels_last
from experiment.nets.masks import enforcer, set_removed_to_zero
from experiment.nets.running import device_of
from experiment.nets.state import NetState
from experiment.training.compilation import Forward
from experiment.training.evaluation import check_outputs
from experiment.training.optimisation import (
    load_optimizer,
    make_optimizer,
    make_scheduler,
    optimizer_tensors,
)
from experiment.training.precision import autocast
from experiment.training.recording import RecordedStep, can_record
from experiment.training.synced_batch_norm import SyncedBatchNorm
from experiment.training.team import ALONE, Team

_plainly = contextlib.nullcontext()


class Session:
    """Begins or goes on where a state has stopped; the net takes all that the state says.

    `compiled`, if there is one, is the net's forward pass for batches of the configured size. On a
    GPU, a session of a compiled net records its steps. In a team, all processes have a session of
    the same net and make the same steps, each with its share of the batch; nothing is compiled.
    """

    def __init__(
        self,
        net: nn.Module,
        state: NetState,
        settings: Training,
        data: Data,
        compiled: Forward | None = None,
        team: Team = ALONE,
    ):
        self.net = net
        self.settings = settings
        self.data = data
        self.team = team
        self.device = device_of(net)
        self.compiled = compiled
        self.channels_last = has_channels_last(net)
        recorded = compiled is not None and can_record(self.device)
        self.masks = state.load_into(net)
        set_removed_to_zero(net, self.masks)
        self.enforce_masks = enforcer(net, self.masks)
        self.joined = net if team.is_alone else team.joined(net)
        self.optimizer = make_optimizer(net, settings, recorded=recorded)
        load_optimizer(net, self.optimizer, state.optimizer)
        steps_per_epoch = data.train.num_batches(settings.batch_size)
        self.scheduler = make_scheduler(self.optimizer, settings, state.epoch, steps_per_epoch)
        self.sums = torch.zeros(3, device=self.device)
        self.recorded = RecordedStep() if recorded else None

    def step(self, count: int, *draws: Tensor) -> None:
        """One step of the optimiser and of the learning rate, with a batch of `count` images.

        `draws` are what `Split.varied` takes for this process's share of it.
        """
        update = functools.partial(self.update, count)
        if self.recorded is None:
            update(*draws)
        else:
            self.recorded(update, *draws)
        self.scheduler.step()

    def update(self, count: int, *draws: Tensor) -> None:
        """Batch, forward, backward, optimiser and masks; masked parameters stay zero.

        `sums` counts losses, correct answers and images.
        """
        images, labels = self.data.train.varied(*draws)
        weight = self.team.weight(len(labels), count)
        is_shared = len(labels) < count
        with SyncedBatchNorm() if is_shared and self.settings.sync_batchnorm else _plainly:
            outputs = self.outputs(as_laid_out(images, self.channels_last))
        loss = cross_entropy(outputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        (loss if weight == 1 else loss * weight).backward()
        self.optimizer.step()
        self.enforce_masks()
        if self.team.counts(len(labels), count):
            correct = (outputs.detach().argmax(1) == labels).sum()
            num_own = torch.full_like(correct, len(labels))
            self.sums += torch.stack([loss.detach() * len(labels), correct, num_own])

    def outputs(self, images: Tensor) -> Tensor:
        """The net's outputs, computed in the precision that is configured."""
        is_whole_batch = len(images) == self.settings.batch_size
        forward = self.compiled if self.compiled is not None and is_whole_batch else self.joined
        with autocast(self.device, self.settings.precision):
            outputs = forward(images)
        check_outputs(outputs, self.data.num_classes)
        return outputs if self.settings.precision == "float32" else outputs.float()

    def state(self, epoch: int) -> NetState:
        """What training can go on from after that many epochs."""
        set_removed_to_zero(self.net, self.masks)  # not to -0, as multiplying negative ones gives
        return replace(
            NetState.of(self.net, self.masks),
            optimizer=optimizer_tensors(self.net, self.optimizer),
            epoch=epoch,
        )
