"""What is written down about each epoch of a training."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch: accuracies are shares of images, losses mean cross entropies."""

    epoch: int  # from 1
    learning_rate: float  # at its first step
    train_loss: float  # over the varied images as they came, while the net was changing
    train_accuracy: float
    validation_loss: float  # after the epoch
    validation_accuracy: float
    seconds: float
