"""Settings that are allowed but probably not meant."""

from experiment.config.schema import SGD, Config, Training

LARGEST_VALIDATION = 0.5  # share of the training images
LARGEST_RATE = 10.0
LARGEST_DECAY = 0.5  # of a weight, in one step


def doubts(config: Config, num_train: int) -> list[str]:
    """One line for each setting that may be a mistake; `num_train` images are trained with."""
    training, retraining = config.training, config.retraining
    lines = _late_drops("training", training) + _of_training("training", training, num_train)
    if config.pruning.schedule != "train":
        if retraining.lr_drops != training.lr_drops:  # a shorter retraining may have them all
            lines += _late_drops("retraining", retraining)
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
    return lines


def _late_drops(name: str, training: Training) -> list[str]:
    late = [epoch for epoch in training.lr_drops.epochs if epoch >= training.epochs]
    if not late or not training.epochs:
        return []
    return [
        f"{name}.lr_drops.epochs: of {training.epochs} epochs, none is trained after "
        f"{', '.join(map(str, late))}: there the learning rate is not lowered"
    ]


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
    if pruning.retrain_count is None or pruning.retrain_count <= pruning.num_ratios:
        return []
    return [
        f"pruning.retrain_count: {pruning.retrain_count} is more than the {pruning.num_ratios} "
        f"keep ratios: the net is retrained at each of them"
    ]
