"""Trainer: fits nets to data and evaluates them; knows nothing of pruning."""

import contextlib
import functools
import math
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from experiment.config.schema import Training
from experiment.core.own_code import exits_as_errors
from experiment.core.seeding import Stream
from experiment.data.loading import Data
from experiment.data.split import Split
from experiment.nets.running import device_of
from experiment.nets.state import NetState
from experiment.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from experiment.training.compilation import compiled
from experiment.training.evaluation import DivergedError, Evaluation, evaluate
from experiment.training.lane import Lane
from experiment.training.records import EpochRecord
from experiment.training.session import Session
from experiment.training.team import ALONE, Team


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


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One training: a net from a state to the epoch `until`, or to the last one."""

    net: nn.Module  # trained in place; what it holds before is replaced by the state
    state: NetState  # a net, its masks, how many epochs are done, and the optimiser after them
    settings: Training  # of which `compile: auto`, which a run decides when it starts, means off
    stream: Stream  # that of the whole training
    until: int | None = None
    label: str = "training"
    on_epoch: Callable[[EpochRecord], None] = lambda record: None  # called as each epoch ends
    checkpoints: Checkpoints = NO_CHECKPOINTS

    @property
    def last_epoch(self) -> int:
        return self.settings.epochs if self.until is None else self.until


# The state after the last epoch, from which training can go on, and the epochs' records.
Fitted = tuple[NetState, list[EpochRecord]]


class Trainer:
    """Trains and evaluates nets on one set of data; `progress(total, label)` opens a display.

    All processes of a team must do the same trainings and evaluations in the same order.
    """

    def __init__(
        self,
        data: Data,
        progress: Callable[[int, str], Progress] = Silent,
        team: Team = ALONE,
    ):
        self.data = data
        self.progress = progress
        self.team = team

    def fit(self, fit: Fit) -> Fitted:
        """Do one training.

        Every epoch takes its order, variations and dropout from a stream of its own, so that it
        does not matter where a training was stopped and continued. Masked parameters stay zero.

        Raises:
            DivergedError: when the loss is no longer finite.
        """
        [outcome] = self.fit_together([fit])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def fit_together(self, fits: Sequence[Fit]) -> list[Fitted | Exception]:
        """Do several trainings, of different nets, step by step in turn.

        On a GPU each has a stream of its own, so that small nets fill it together. The results are
        those of one training after the other, to the bit. A training that fails leaves its
        exception, and the others go on.
        """
        if not fits:
            return []
        outcomes: dict[int, Fitted | Exception] = {}
        with contextlib.closing(self._display(fits)) as display:
            trainings = {number: self._training(fit, display) for number, fit in enumerate(fits)}
            lanes = [
                Lane(
                    device_of(fit.net),
                    own_stream=len(fits) > 1 or fit.settings.compile == "on",
                )
                for fit in fits
            ]
            while trainings:
                for number, training in list(trainings.items()):
                    try:
                        with lanes[number].turn(), exits_as_errors():
                            next(training)
                    except StopIteration as end:
                        outcomes[number] = end.value
                    except Exception as error:
                        traceback.clear_frames(error.__traceback__)  # they hold the net's memory
                        outcomes[number] = error
                    if number in outcomes:
                        lanes[number].close()
                        del trainings[number]
        return [outcomes[number] for number in range(len(fits))]

    def _display(self, fits: Sequence[Fit]) -> Progress:
        num_steps = sum(
            max(0, fit.last_epoch - fit.state.epoch)
            * self.data.train.num_batches(fit.settings.batch_size)
            for fit in fits
        )
        label = fits[0].label if len(fits) == 1 else f"{fits[0].label} and {len(fits) - 1} more"
        return (self.progress if num_steps else Silent)(num_steps, label)

    def _training(self, fit: Fit, display: Progress) -> Generator[None, None, Fitted]:
        """A training that pauses after each step."""
        forward = compiled(fit.net) if fit.settings.compile == "on" else None
        session = Session(fit.net, fit.state, fit.settings, self.data, forward, self.team)
        records = []
        for epoch in range(fit.state.epoch, fit.last_epoch):
            record = yield from self._epoch(session, fit, epoch, display)
            records.append(record)
            fit.on_epoch(record)
            if epoch + 1 < fit.last_epoch and fit.checkpoints.is_due:
                fit.checkpoints.take(functools.partial(session.state, epoch + 1), records)
        return session.state(max(fit.state.epoch, fit.last_epoch)), records

    def _epoch(
        self, session: Session, fit: Fit, epoch: int, display: Progress
    ) -> Generator[None, None, EpochRecord]:
        """One pass over the training images, and the validation images after it.

        `epoch` is the number of epochs done before. Raises DivergedError.
        """
        start = time.perf_counter()
        learning_rate = float(session.scheduler.get_last_lr()[0])
        of_epoch = fit.stream.child("epoch", epoch)
        torch.manual_seed(self.team.stream(of_epoch.child("dropout")).integer())
        session.sums.zero_()
        session.net.train()
        batch_size = fit.settings.batch_size
        generator = of_epoch.generator()
        for count, draws in self.data.train.shared_draws(batch_size, generator, self.team.share):
            session.step(count, *draws)
            display.update(session.sums)
            yield
        total_loss, total_correct, num_images = self.team.total(session.sums.tolist())
        self.team.adopt_buffers(session.net)
        if not math.isfinite(total_loss):
            raise DivergedError(
                f"the training loss is not finite after epoch {epoch + 1}; "
                f"a smaller learning rate or a longer warm-up may help"
            )
        validation = self.evaluate(session.net, self.data.validation)
        return EpochRecord(
            epoch=epoch + 1,
            learning_rate=learning_rate,
            train_loss=total_loss / num_images,
            train_accuracy=total_correct / num_images,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            seconds=time.perf_counter() - start,
        )

    def evaluate(self, net: nn.Module, split: Split) -> Evaluation:
        """Loss and accuracies of a net, in eval mode, on all images of a split.

        Raises DivergedError if the loss is not finite.
        """
        return evaluate(net, split, self.data.num_classes, self.team)
