"""What is written down about each epoch of a training."""

from dataclasses import dataclass

from experiment.core.columns import column


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch of a training."""

    epoch: int = column("number of the epoch, from 1")
    learning_rate: float = column("at the first step of the epoch")
    train_loss: float = column(
        "mean cross entropy on the augmented training images, while the net was changing"
    )
    train_accuracy: float = column("accuracy on the same images, at the same time")
    validation_loss: float = column("mean cross entropy on the validation images after the epoch")
    validation_accuracy: float = column("accuracy on the validation images after the epoch")
    seconds: float = column("time that the epoch took, with that of other nets trained at once")
