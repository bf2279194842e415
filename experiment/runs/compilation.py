"""Whether a run compiles its training steps, if its configuration leaves that open."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiment.config.schema import Config, Training
from experiment.core.errors import UserError
from experiment.core.files import write_whole
from experiment.runs.tasks import Retrain, Task, Train, tasks
from experiment.runs.workplace import Workplace
from experiment.training.step_times import pays_to_compile

PARTS = ("training", "retraining")


def with_compilation_decided(config: Config, workplace: Workplace, directory: Path) -> Config:
    """The configuration with `on` or `off` in place of `compile: auto`.

    What is decided from measurements is kept in `directory`, so that a run that is resumed goes on
    with the same numbers. A net that cannot be compiled is not.
    """
    if all(_settings(config, part).compile != "auto" for part in PARTS):
        return config
    path = directory / "compilation.json"
    try:
        decided = json.loads(path.read_text())
    except (OSError, ValueError):
        decided = {part: _decision(config, part, workplace) for part in PARTS}
        write_whole(path, json.dumps(decided, indent=1) + "\n")
    changed = {
        part: _settings(config, part).model_copy(update={"compile": decided[part]["compile"]})
        for part in PARTS
    }
    return config.model_copy(update=changed)


def _settings(config: Config, part: str) -> Training:
    return getattr(config, part)


def _decision(config: Config, part: str, workplace: Workplace) -> dict[str, Any]:
    """`compile`, and the seconds that were measured."""
    settings = _settings(config, part)
    if settings.compile != "auto":
        return {"compile": settings.compile}
    num_steps = planned_steps(tasks(config), settings, workplace)
    net = workplace.net(config.network)
    try:
        pays, measured = pays_to_compile(workplace.trainer, net, settings, num_steps)
    except UserError as error:
        return {"compile": "off", "reason": str(error)}
    return {"compile": "on" if pays else "off", "steps": num_steps, **measured}


def planned_steps(planned: Sequence[Task], settings: Training, workplace: Workplace) -> int:
    """The steps of all trainings that would use the same compiled step as these settings."""
    steps_per_epoch = workplace.data.train.num_batches(settings.batch_size)
    epochs = 0
    for task in planned:
        if isinstance(task, Train | Retrain) and _same_step(task.settings, settings):
            epochs += task.num_epochs if isinstance(task, Retrain) else task.until
    return epochs * steps_per_epoch


def _same_step(one: Training, other: Training) -> bool:
    return (one.batch_size, one.precision) == (other.batch_size, other.precision)
