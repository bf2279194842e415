"""The schema of an experiment: what a YAML file may say, and the defaults."""

import hashlib
import itertools
import json
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from experiment.core.registry import DATASETS
from experiment.core.text import shown
from experiment.sensitivity.constants import DEFAULT_DELTA

KeepRatio = Annotated[float, Field(gt=0, le=1)]


class Section(pydantic.BaseModel):
    """A mapping of the file. Unknown keys and values of the wrong type are errors."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class Part(pydantic.BaseModel):
    """A method, network or data set by name; the other keys are its own options."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True, frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are the part's own."""
        return dict(self.__pydantic_extra__ or {})


class DatasetPart(Part):
    """A data set, and the share of its training images set aside for validation and for S."""

    validation_fraction: float = Field(0.1, gt=0, lt=1)

    def affecting_numbers(self) -> dict[str, Any]:
        """The settings without those that say where the same data lie, or how they are read."""
        ignored = getattr(DATASETS.get(self.name), "not_affecting_numbers", ())
        return {key: value for key, value in self.model_dump().items() if key not in ignored}


class SGD(Section):
    name: Literal["SGD"] = "SGD"
    lr: float = Field(0.1, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    nesterov: bool = False

    @pydantic.model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Section):
    name: Literal["Adam", "AdamW"]
    lr: float = Field(1e-3, ge=0)
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.9, 0.999], min_length=2, max_length=2
    )
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)


class LrDrops(Section):
    """After each of these numbers of epochs the learning rate is multiplied by `factor`."""

    epochs: list[Annotated[int, Field(ge=0)]] = []
    factor: float = Field(0.1, gt=0)


class Training(Section):
    """One training of a net."""

    epochs: int = Field(30, ge=0)
    batch_size: int = Field(128, ge=1)
    optimizer: Annotated[SGD | Adam, Field(discriminator="name")] = SGD()
    warmup_epochs: int = Field(0, ge=0)
    lr_drops: LrDrops = LrDrops()
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: Literal["auto", "on", "off"] = "off"
    sync_batchnorm: bool = False

    @pydantic.field_validator("optimizer", mode="before")
    @classmethod
    def _is_sgd_unless_named(cls, optimizer: Any) -> Any:
        return {"name": "SGD", **optimizer} if isinstance(optimizer, dict) else optimizer

    @pydantic.field_validator("compile", mode="before")
    @classmethod
    def _switches_are_words(cls, value: Any) -> Any:
        """YAML reads `on` and `off` as booleans."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @pydantic.model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if 0 < self.epochs <= self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs}) must be less than epochs ({self.epochs}): "
                f"the learning rate would never be reached"
            )
        return self

    def affecting_numbers(self) -> dict[str, Any]:
        """The settings; one that was added later is left out unless it is used.

        So what was computed before is found again.
        """
        values = self.model_dump()
        if not self.sync_batchnorm:
            del values["sync_batchnorm"]
        return values


class Spaced(Section):
    """`count` keep ratios from `first` to `last`, both included."""

    spacing: Literal["geometric", "linear", "cubic", "harmonic"]
    first: KeepRatio
    last: KeepRatio
    count: int = Field(ge=1)

    @pydantic.model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.count == 1 and self.first != self.last:
            raise ValueError("with count 1, first and last must be equal")
        return self


class Manual(Section):
    """Keep ratios one by one."""

    spacing: Literal["manual"]
    values: list[KeepRatio] = Field(min_length=1)


KeepRatios = Annotated[Spaced | Manual, Field(discriminator="spacing")]


class Pruning(Section):
    """How far a net is pruned, in which steps and by which methods."""

    schedule: Literal["oneshot", "cascade", "rewind", "random", "train"] = "cascade"
    # For schedule rewind: the number of epochs after which its checkpoint is taken.
    rewind_epoch: int = Field(1, ge=0)
    methods: list[Part] = Field([Part(name="SiPP")], min_length=1)
    keep_ratios: list[KeepRatios] = Field(
        [Spaced(spacing="geometric", first=0.8, last=0.1, count=5)], min_length=1
    )
    retrain_count: int | None = Field(None, ge=0)
    delta: float = Field(DEFAULT_DELTA, gt=0)
    sample_size: int | None = Field(None, ge=1)
    min_kept_per_layer: int = Field(0, ge=0)
    commensurate_margin: float = Field(0.005, ge=0, lt=1)

    @pydantic.field_validator("methods", mode="before")
    @classmethod
    def _names_are_methods(cls, methods: Any) -> Any:
        if isinstance(methods, str):
            methods = [methods]
        if not isinstance(methods, list):
            return methods
        return [{"name": method} if isinstance(method, str) else method for method in methods]

    @pydantic.field_validator("keep_ratios", mode="before")
    @classmethod
    def _numbers_are_manual(cls, specs: Any) -> Any:
        if not isinstance(specs, list):
            return specs
        return [
            {"spacing": "manual", "values": [spec]} if isinstance(spec, int | float) else spec
            for spec in specs
        ]

    @pydantic.field_validator("keep_ratios", mode="after")
    @classmethod
    def _fall(cls, specs: list[KeepRatios]) -> list[KeepRatios]:
        ratios: list[float] = []
        for spec in specs:
            ratios += spec.values if isinstance(spec, Manual) else [spec.first, spec.last]
        for before, after in itertools.pairwise(ratios):
            if after > before:
                raise ValueError(f"keep ratios must decrease: {after} comes after {before}")
        return specs


class Config(Section):
    """A whole experiment."""

    network: Part
    dataset: DatasetPart = DatasetPart(name="digits")
    training: Training = Training()
    retraining: Training = Training()
    pruning: Pruning = Pruning()
    num_nets: int = Field(1, ge=1)
    num_repetitions: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)
    checkpoints: Literal["last", "all"] = "last"
    checkpoint_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = 5
    nets_at_once: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"

    @pydantic.field_validator("nets_at_once", mode="before")
    @classmethod
    def _is_auto_or_a_count(cls, value: Any) -> Any:
        """One message for both kinds of values."""
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if value != "auto" and not is_count:
            raise ValueError(f"must be auto or a whole number of at least 1, not {shown(value)}")
        return value

    @pydantic.model_validator(mode="after")
    def _rewinds_into_training(self) -> Self:
        if self.pruning.schedule == "rewind":
            epochs = min(self.training.epochs, self.retraining.epochs)
            if self.pruning.rewind_epoch >= max(epochs, 1):
                raise ValueError(
                    f"pruning.rewind_epoch ({self.pruning.rewind_epoch}) must be less than the "
                    f"epochs of training and retraining ({epochs})"
                )
        return self

    @property
    def num_at_once(self) -> int:
        """How many nets are trained at once."""
        return 1 if self.nets_at_once == "auto" else self.nets_at_once

    @property
    def checkpoint_seconds(self) -> float | None:
        """The time between two checkpoints of a training; None if there are none."""
        return None if self.checkpoint_minutes is None else 60 * self.checkpoint_minutes

    def run_id(self) -> str:
        """A hash of everything that affects the numbers; the same on every machine."""
        values = self.model_dump()
        del values["pruning"]["commensurate_margin"]
        del values["checkpoints"]
        del values["checkpoint_minutes"]
        del values["nets_at_once"]
        values["dataset"] = self.dataset.affecting_numbers()
        values["training"] = self.training.affecting_numbers()
        values["retraining"] = self.retraining.affecting_numbers()
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]
