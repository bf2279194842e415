"""Trainer: fits a net to data and evaluates it; knows nothing of pruning."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from experiment.config.schema import Training
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.data.loading import Data
from experiment.data.split import Split
from experiment.nets.running import device_of, evaluating

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Evaluation:
    """Cross entropy, and the share of samples whose class is the first, or among the first five, predicted."""

    loss: float
    accuracy: float
    top5: float


class DivergedError(RuntimeError):
    """Training reached a loss that is not finite."""


class Trainer:
    """Trains and evaluates nets on one set of data.

    `progress(total, label)` opens a progress display: its `update(sums)` takes a tensor of the summed loss, the
    number of correct answers and the number of images of the epoch so far, and it is ended by `close()`.
    """

    def __init__(self, data: Data, progress: Callable):
        self.data = data
        self.progress = progress

    def fit(
        self,
        net: nn.Module,
        settings: Training,
        stream: Stream,
        *,
        label: str = "training",
        after_step: Callable[[], None] | None = None,
        before_epoch: Callable[[int], None] | None = None,
        start_epoch: int = 0,
    ) -> list[dict]:
        """Train a net in place from `start_epoch` to the last; return one record an epoch.

        Every epoch draws its order and variations from a stream of its own. `after_step` is called after each
        step of the optimiser, for instance to keep masked weights at zero, `before_epoch` with the number of epochs
        done before each. Raises DivergedError.
        """
        batches = self.data.train.num_batches(settings.batch_size)
        first_step = start_epoch * batches
        optimizer = make_optimizer(net, settings)
        scheduler = LambdaLR(
            optimizer, lambda step: learning_rate_factor(settings, first_step + step, batches)
        )
        records = []
        bar = self.progress((settings.epochs - start_epoch) * batches, label)
        try:
            with stream.child("dropout").as_global():
                for epoch in range(start_epoch, settings.epochs):
                    if before_epoch is not None:
                        before_epoch(epoch)
                    start, rate = time.perf_counter(), scheduler.get_last_lr()[0]
                    loss, accuracy = self._epoch(
                        net,
                        optimizer,
                        scheduler,
                        settings.batch_size,
                        stream.child("epoch", epoch),
                        after_step,
                        bar,
                    )
                    validation = self.evaluate(net, self.data.validation)
                    if not math.isfinite(loss):
                        raise DivergedError(
                            f"the training loss is not finite after epoch {epoch + 1}; "
                            f"a smaller training.optimizer.lr or a longer warm-up may help"
                        )
                    records.append(
                        {
                            "epoch": epoch + 1,
                            "learning_rate": rate,
                            "train_loss": loss,
                            "train_accuracy": accuracy,
                            "validation_loss": validation.loss,
                            "validation_accuracy": validation.accuracy,
                            "seconds": time.perf_counter() - start,
                        }
                    )
        finally:
            bar.close()
        return records

    def _epoch(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: LambdaLR,
        batch_size: int,
        stream: Stream,
        after_step: Callable | None,
        bar,
    ) -> tuple[float, float]:
        """One pass over the training images; mean loss and accuracy on the varied images as they came."""
        net.train()
        sums = torch.zeros(3, device=device_of(net))  # of losses, of correct answers, of images
        for inputs, targets in self.data.train.training_batches(batch_size, stream.generator()):
            outputs = net(inputs)
            _check_outputs(outputs, self.data.num_classes)
            loss = cross_entropy(outputs, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            if after_step is not None:
                after_step()
            correct = (outputs.detach().argmax(1) == targets).sum()
            sums += torch.stack(
                [loss.detach() * len(targets), correct, torch.full_like(correct, len(targets))]
            )
            bar.update(sums)
        return _means(sums)

    @torch.no_grad()
    def evaluate(self, net: nn.Module, split: Split) -> Evaluation:
        """Loss and accuracies of a net, in eval mode, on all images of a split."""
        loss, first, five = 0.0, 0, 0
        with evaluating(net):
            for inputs, targets in split.batches(EVALUATION_BATCH):
                outputs = net(inputs)
                _check_outputs(outputs, self.data.num_classes)
                loss += float(cross_entropy(outputs, targets, reduction="sum"))
                ranked = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == targets[:, None]
                first += int(ranked[:, 0].sum())
                five += int(ranked.any(1).sum())
        return Evaluation(loss / len(split), first / len(split), five / len(split))


def make_optimizer(net: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """torch's optimiser of that name with the configured options."""
    options = settings.optimizer.model_dump()
    kind = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[
        options.pop("name")
    ]
    return kind(net.parameters(), **options)


def learning_rate_factor(settings: Training, step: int, batches: int) -> float:
    """What the learning rate is multiplied with at a step: a linear warm-up from 0, and the drops at epochs."""
    drops = sum(1 for epoch in settings.lr_drops.epochs if step >= epoch * batches)
    warmup = settings.warmup_epochs * batches
    return settings.lr_drops.factor**drops * (min(1.0, (step + 1) / warmup) if warmup else 1.0)


def _means(sums: Tensor) -> tuple[float, float]:
    loss, correct, count = sums.tolist()
    return loss / count, correct / count


def _check_outputs(outputs: Tensor, num_classes: int) -> None:
    if not isinstance(outputs, Tensor):
        raise UserError(
            f"the network's output must be a tensor [batch, {num_classes}], not a {type(outputs).__name__}"
        )
    if outputs.dim() != 2 or outputs.shape[1] != num_classes:
        raise UserError(
            f"the network's output has shape {list(outputs.shape)}; it must be [batch, {num_classes}]"
        )
