"""Trainer: fits a net to data and evaluates it; knows nothing of pruning."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from experiment.config.schema import Training
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.data.loading import Data
from experiment.data.split import Split
from experiment.nets.masks import Masks, enforcer
from experiment.nets.running import device_of, evaluating
from experiment.nets.state import NetState
from experiment.training.optimisation import (
    load_optimizer,
    make_optimizer,
    make_scheduler,
    optimizer_tensors,
)
from experiment.training.records import EpochRecord

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Evaluation:
    """Cross entropy, and the share of samples whose class is the first, or among the first five."""

    loss: float
    accuracy: float
    top5: float


class DivergedError(RuntimeError):
    """Training reached a loss that is not finite."""


class Progress(Protocol):
    """A display of how far a training is."""

    def update(self, sums: Tensor) -> None:
        """One step further; `sums`: losses, correct answers and images of the epoch so far."""

    def close(self) -> None:
        """The training has ended."""


class Silent:
    """No display at all."""

    def __init__(self, total: int, label: str):
        pass

    def update(self, sums: Tensor) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Session:
    """A net in training, and what changes it."""

    net: nn.Module
    masks: Masks
    enforce_masks: Callable[[], None]
    optimizer: Optimizer
    scheduler: LambdaLR

    @classmethod
    def start(
        cls, net: nn.Module, state: NetState, settings: Training, steps_per_epoch: int
    ) -> "Session":
        """Begin or go on where the state has stopped; the net takes all that the state says."""
        masks = state.load_into(net)
        enforce_masks = enforcer(net, masks)
        enforce_masks()
        optimizer = make_optimizer(net, settings)
        load_optimizer(net, optimizer, state.optimizer)
        scheduler = make_scheduler(optimizer, settings, state.epoch, steps_per_epoch)
        return cls(net, masks, enforce_masks, optimizer, scheduler)

    def step(self, loss: Tensor) -> None:
        """One step of the optimiser and of the learning rate; masked parameters stay zero."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.enforce_masks()

    def state(self, epoch: int) -> NetState:
        """What training can go on from after that many epochs."""
        return replace(
            NetState.of(self.net, self.masks),
            optimizer=optimizer_tensors(self.net, self.optimizer),
            epoch=epoch,
        )


class Trainer:
    """Trains and evaluates nets on one set of data; `progress(total, label)` opens a display."""

    def __init__(self, data: Data, progress: Callable[[int, str], Progress] = Silent):
        self.data = data
        self.progress = progress

    def fit(
        self,
        net: nn.Module,
        state: NetState,
        settings: Training,
        stream: Stream,
        *,
        until: int | None = None,
        label: str = "training",
        on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    ) -> tuple[NetState, list[EpochRecord]]:
        """Train a net from a state to the epoch `until`, or to the last one.

        Every epoch takes its order, variations and dropout from a stream of its own, so that it
        does not matter where a training was stopped and continued. Masked parameters stay zero.

        Args:
            net: trained in place; what it holds before is replaced by the state.
            state: a net, its masks, how many epochs are done, and the optimiser after them.
            stream: that of the whole training.
            on_epoch: called with the record of each epoch as it ends.

        Returns:
            The state after the last epoch, from which training can go on, and the epochs' records.

        Raises:
            DivergedError: when the loss is no longer finite.
        """
        until = settings.epochs if until is None else until
        steps_per_epoch = self.data.train.num_batches(settings.batch_size)
        session = Session.start(net, state, settings, steps_per_epoch)
        num_steps = max(0, until - state.epoch) * steps_per_epoch
        records = []
        progress = self.progress if num_steps else Silent
        with contextlib.closing(progress(num_steps, label)) as display:
            for epoch in range(state.epoch, until):
                record = self.epoch(session, settings, stream, epoch, display)
                records.append(record)
                on_epoch(record)
        return session.state(max(state.epoch, until)), records

    def epoch(
        self, session: Session, settings: Training, stream: Stream, epoch: int, display: Progress
    ) -> EpochRecord:
        """One pass over the training images, and the validation images after it.

        `epoch` is the number of epochs done before. Raises DivergedError.
        """
        start = time.perf_counter()
        learning_rate = float(session.scheduler.get_last_lr()[0])
        of_epoch = stream.child("epoch", epoch)
        batches = self.data.train.training_batches(settings.batch_size, of_epoch.generator())
        sums = torch.zeros(3, device=device_of(session.net))  # losses, correct answers, images
        session.net.train()
        with of_epoch.child("dropout").as_global():
            for inputs, targets in batches:
                outputs = session.net(inputs)
                check_outputs(outputs, self.data.num_classes)
                loss = cross_entropy(outputs, targets)
                session.step(loss)
                correct = (outputs.detach().argmax(1) == targets).sum()
                count = torch.full_like(correct, len(targets))
                sums += torch.stack([loss.detach() * len(targets), correct, count])
                display.update(sums)
        total_loss, total_correct, num_images = sums.tolist()
        validation = self.evaluate(session.net, self.data.validation)
        if not math.isfinite(total_loss):
            raise DivergedError(
                f"the training loss is not finite after epoch {epoch + 1}; "
                f"a smaller learning rate or a longer warm-up may help"
            )
        return EpochRecord(
            epoch=epoch + 1,
            learning_rate=learning_rate,
            train_loss=total_loss / num_images,
            train_accuracy=total_correct / num_images,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            seconds=time.perf_counter() - start,
        )

    @torch.no_grad()
    def evaluate(self, net: nn.Module, split: Split) -> Evaluation:
        """Loss and accuracies of a net, in eval mode, on all images of a split."""
        loss = 0.0
        first = 0
        among_five = 0
        with evaluating(net):
            for inputs, targets in split.batches(EVALUATION_BATCH):
                outputs = net(inputs)
                check_outputs(outputs, self.data.num_classes)
                loss += float(cross_entropy(outputs, targets, reduction="sum"))
                predicted = outputs.topk(min(5, outputs.shape[1]), dim=1).indices
                correct = predicted == targets[:, None]
                first += int(correct[:, 0].sum())
                among_five += int(correct.any(1).sum())
        return Evaluation(loss / len(split), first / len(split), among_five / len(split))


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
