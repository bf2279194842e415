"""Whether a run compiles its training steps, if its configuration leaves that open."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiment.config.schema import Config, Training
from experiment.core.errors import UserError
from experiment.core.files import read_file, write_whole
from experiment.runs.cost import epochs_of
from experiment.runs.tasks import Task, tasks
from experiment.runs.timing import TrainingSpeed, measure_evaluation, measure_training
from experiment.runs.workplace import Workplace

PARTS = ("training", "retraining")
SHORTEST_WARM_UP = 10.0  # seconds; compiling has never taken less
LARGEST_SAVING = 0.5  # share of a step's time; compiling a net has never saved more


def with_compilation_decided(
    config: Config, workplace: Workplace, directory: Path, device: str
) -> Config:
    """The configuration with `on` or `off` in place of `compile: auto`.

    What is decided from measurements is kept in `directory`, so that a run that is resumed goes on
    with the same numbers. A net that cannot be compiled is not; nor is any if the tasks are for
    another kind of `device` than that of the workplace, where nothing can be measured for them.
    """
    if all(_settings(config, part).compile != "auto" for part in PARTS):
        return config
    path = directory / "compilation.json"
    words = _stored_decisions(path)
    if words is None:
        decided = _decisions(config, workplace, torch.device(device).type)
        write_whole(path, json.dumps(decided, indent=1) + "\n")
        words = {part: decided[part]["compile"] for part in PARTS}
    changed = {
        part: _settings(config, part).model_copy(update={"compile": words[part]}) for part in PARTS
    }
    return config.model_copy(update=changed)


def for_a_team(config: Config) -> Config:
    """The configuration for a team: it trains one net at a time, and `compile: auto` means off.

    Raises UserError for `compile: on`.
    """
    for part in PARTS:
        if _settings(config, part).compile == "on":
            raise UserError(
                f"{part}.compile: processes of torchrun cannot train a compiled net; use off"
            )
    off = {"compile": "off"}
    changed = {part: _settings(config, part).model_copy(update=off) for part in PARTS}
    return config.model_copy(update={**changed, "nets_at_once": 1})


def _stored_decisions(path: Path) -> dict[str, str] | None:
    """`on` or `off` for each part, if the file is there and whole."""
    try:
        stored = json.loads(read_file(path))
        words = {part: stored[part]["compile"] for part in PARTS}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return words if set(words.values()) <= {"on", "off"} else None


def _settings(config: Config, part: str) -> Training:
    return getattr(config, part)


def _decisions(config: Config, workplace: Workplace, device_type: str) -> dict[str, dict[str, Any]]:
    """For each part `compile`, and what was measured; steps that are alike are measured once."""
    decided: dict[str, dict[str, Any]] = {}
    of_kind: dict[tuple, dict[str, Any]] = {}
    for part in PARTS:
        settings = _settings(config, part)
        if settings.compile != "auto":
            decided[part] = {"compile": settings.compile}
            continue
        if workplace.device.type != device_type:
            decided[part] = {"compile": "off", "failure": f"no {device_type} device to measure on"}
            continue
        kind = _kind_of_step(settings)
        if kind not in of_kind:
            num_steps = planned_steps(tasks(config), settings, workplace)
            pays, measured = pays_to_compile(workplace, config, settings, num_steps)
            of_kind[kind] = {"compile": "on" if pays else "off", "steps": num_steps, **measured}
        decided[part] = of_kind[kind]
    return decided


def pays_to_compile(
    workplace: Workplace, config: Config, settings: Training, num_steps: int
) -> tuple[bool, dict[str, Any]]:
    """Whether compiling saves more time in that many steps than it takes; and what was measured.

    Nothing is compiled if the steps are too few anyway, or no batch is whole.
    """
    num_images = num_steps * settings.batch_size
    if len(workplace.data.train) < settings.batch_size:
        return False, {}
    plain, compiled = (settings.model_copy(update={"compile": word}) for word in ("off", "on"))
    evaluation = measure_evaluation(workplace, config.network)

    def measure(version: Training) -> TrainingSpeed:
        nets = config.num_at_once
        [speed] = measure_training(workplace, config.network, [version], nets, evaluation)
        return speed

    before = measure(plain)
    if before.seconds_per_image is None:
        return False, {"failure": before.failure}
    measured = {"seconds_per_image": before.seconds_per_image}
    if num_images * before.seconds_per_image * LARGEST_SAVING < SHORTEST_WARM_UP:
        return False, measured
    after = measure(compiled)
    if after.seconds_per_image is None:
        return False, {**measured, "failure": after.failure}
    measured["seconds_per_image_compiled"] = after.seconds_per_image
    measured["warm_up_seconds"] = after.warm_up_seconds
    saving = num_images * (before.seconds_per_image - after.seconds_per_image)
    return saving > after.warm_up_seconds, measured


def planned_steps(planned: Sequence[Task], settings: Training, workplace: Workplace) -> int:
    """The steps of all trainings that would use the same compiled step as these settings."""
    steps_per_epoch = workplace.data.train.num_batches(settings.batch_size)
    kind = _kind_of_step(settings)
    epochs = (epochs for other, epochs in epochs_of(planned) if _kind_of_step(other) == kind)
    return sum(epochs) * steps_per_epoch


def _kind_of_step(settings: Training) -> tuple:
    """What settings of the same compiled step have in common."""
    return settings.compile, settings.batch_size, settings.precision, settings.optimizer.name
