"""Settings that are allowed but probably not meant."""

from experiment.config.schema import SGD, Config, Part, Training
from experiment.core.registry import METHODS

LARGEST_VALIDATION = 0.5  # share of the training images
FEWEST_VALIDATION = 20  # images
LARGEST_MARGIN = 0.5  # of accuracy
MOST_LISTED = 5  # of many numbers
LARGEST_RATE = 10.0
LARGEST_DECAY = 0.5  # of a weight, in one step


def doubts(config: Config, num_train: int, num_validation: int) -> list[str]:
    """One line for each setting that may be a mistake.

    `num_train` images are trained with, `num_validation` are set aside.
    """
    training, retraining = config.training, config.retraining
    lines = _of_drops("training", training) + _of_training("training", training, num_train)
    if config.pruning.schedule != "train":
        if retraining.lr_drops != training.lr_drops:  # a shorter retraining may have them all
            lines += _of_drops("retraining", retraining)
        lines += [
            line
            for line in _of_training("retraining", retraining, num_train)
            if line.replace("retraining", "training", 1) not in lines  # inherited
        ]
        lines += _of_pruning(config)
    fraction = config.dataset.validation_fraction
    if fraction > LARGEST_VALIDATION:
        lines.append(
            f"dataset.validation_fraction: {fraction:g} leaves {num_train:,} images to train with"
        )
    if num_validation < FEWEST_VALIDATION:
        lines.append(
            f"dataset.validation_fraction: {fraction:g} leaves {num_validation} images for "
            f"validation and for S"
        )
    return lines


def _of_drops(name: str, training: Training) -> list[str]:
    drops = training.lr_drops
    if not training.epochs:
        return []
    lines = []
    late = [epoch for epoch in drops.epochs if epoch >= training.epochs]
    if late:
        more = ["..."] if len(late) > MOST_LISTED else []
        lines.append(
            f"{name}.lr_drops.epochs: of {training.epochs} epochs, none is trained after "
            f"{', '.join([*map(str, late[:MOST_LISTED]), *more])}: there the learning rate is not "
            f"lowered"
        )
    if drops.epochs and drops.epochs[0] == 0:
        lines.append(f"{name}.lr_drops.epochs: a drop after 0 epochs changes lr from the start")
    if drops.epochs and drops.factor >= 1:
        lines.append(f"{name}.lr_drops.factor: {drops.factor:g} does not lower the learning rate")
    return lines


def _of_training(name: str, training: Training, num_train: int) -> list[str]:
    lines = []
    if training.epochs and training.batch_size > num_train:
        lines.append(
            f"{name}.batch_size: {training.batch_size:,} is more than the {num_train:,} training "
            f"images: an epoch is one step"
        )
    return lines + _of_optimizer(name, training)


def _of_optimizer(name: str, training: Training) -> list[str]:
    optimizer = training.optimizer
    rate, decay = optimizer.lr, optimizer.weight_decay
    lines = []
    if rate > LARGEST_RATE:
        lines.append(f"{name}.optimizer.lr: {rate:g} is very large")
    if rate == 0 and training.epochs:
        lines.append(f"{name}.optimizer.lr: with 0 nothing is learnt")
    is_coupled = isinstance(optimizer, SGD) or optimizer.name == "AdamW"
    if is_coupled and rate * decay > LARGEST_DECAY:
        lines.append(
            f"{name}.optimizer.weight_decay: {decay:g} times the learning rate is "
            f"{rate * decay:g}: weights vanish within a few steps"
        )
    return lines


def _of_pruning(config: Config) -> list[str]:
    pruning = config.pruning
    lines = []
    if pruning.retrain_count is not None and pruning.retrain_count > pruning.num_ratios:
        lines.append(
            f"pruning.retrain_count: {pruning.retrain_count} is more than the "
            f"{pruning.num_ratios} keep ratios: the net is retrained at each of them"
        )
    if pruning.round_channels > 1 and not any(map(_removes_filters, pruning.methods)):
        lines.append(
            "pruning.round_channels: makes no difference, since none of the methods removes filters"
        )
    if pruning.commensurate_margin > LARGEST_MARGIN:
        lines.append(
            f"pruning.commensurate_margin: {pruning.commensurate_margin:g} accepts a loss of "
            f"{100 * pruning.commensurate_margin:g} points of accuracy"
        )
    return lines


def _removes_filters(method: Part) -> bool:
    return getattr(METHODS.get(method.name), "granularity", None) == "filters"
