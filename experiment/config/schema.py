"""The schema of an experiment: what a YAML file may say, and the defaults."""

import hashlib
import itertools
import json
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from experiment.core.dependencies import Dependencies, Kind
from experiment.core.registry import DATASETS, METHODS
from experiment.core.text import shown
from experiment.sensitivity.constants import DEFAULT_DELTA

# What is above these cannot be meant, or could not even be listed.
MOST_EPOCHS = 1_000_000
MOST_NETS = 10_000
MOST_RATIOS = 10_000
MOST_METHODS = 100
MOST_TRACKERS = 10
MOST_CHANNELS = 100_000  # in a block of a layer's
MOST_PRUNINGS = 100_000
MOST_CORRUPTED = 1_000_000  # evaluations on corrupted images
MOST = 1_000_000_000  # of anything else
LARGEST = 1e6  # of factors, weight decays and minutes
LARGEST_SEED = 2**63 - 1
SMALLEST_RATIO = 1e-9  # which keeps a parameter of a billion
SMALLEST_STEP = 1e-9  # from one keep ratio to the next, on average

WEIGHTS = "weights"  # the name of a network's dependency on a file
UNREADABLE = "unreadable"  # its digest if the file cannot be read

Measure = Literal["accuracy_drop", "disagreement"]  # the loss of a pruned net to the unpruned one
# The kinds of `experiment/data/corruptions/kinds.py`, which says what they do.
CorruptionName = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "uniform_noise",
    "gaussian_blur",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "fog",
    "spatter",
    "brightness",
    "contrast",
    "saturate",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
]
MOST_SEVERE = 5

KeepRatio = Annotated[float, Field(ge=SMALLEST_RATIO, le=1)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Epochs = Annotated[int, Field(ge=0, le=MOST_EPOCHS)]


class Section(pydantic.BaseModel):
    """A mapping of the file. Unknown keys and values of the wrong type are errors."""

    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class Part(pydantic.BaseModel):
    """A method, network or data set by name; the other keys are its own options."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True, frozen=True)
    name: str
    # Found when a configuration is loaded; travels with the part to other processes.
    _dependencies: Dependencies = pydantic.PrivateAttr(())

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are the part's own."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def dependencies(self) -> Dependencies:
        """What its numbers depend on besides its options: own code, and files of data."""
        return self._dependencies

    def depending_on(self, dependencies: Dependencies) -> Self:
        """The part with these dependencies."""
        part = self.model_copy()
        part._dependencies = dependencies
        return part

    def affecting_numbers(self) -> dict[str, Any]:
        """The settings that affect the numbers, and the dependencies if there are any."""
        values = self.model_dump()
        if self._dependencies:
            # No option has such a name.
            values[":depends on"] = [[one.kind, one.name, one.digest] for one in self._dependencies]
        return values


def _with_names_as_parts(parts: Any) -> Any:
    """A list of parts, of which those without options may be given by their name alone."""
    if isinstance(parts, str):
        parts = [parts]
    if not isinstance(parts, list):
        return parts
    return [{"name": part} if isinstance(part, str) else part for part in parts]


Parts = Annotated[list[Part], pydantic.BeforeValidator(_with_names_as_parts)]


class MethodPart(Part):
    """A pruning method; one with an option `error` may decide itself how much is kept."""

    @property
    def label(self) -> str:
        """What it is called in tables: its name with its options."""
        return METHODS.label(self.name, self.options)

    @property
    def decides_size(self) -> bool:
        """Whether its error decides how much is kept, so that keep ratios do not apply to it."""
        return self.options.get("error") is not None and self._is_sized_by_error

    def affecting_numbers(self) -> dict[str, Any]:
        """The same without an error of None: the option was added later."""
        values = super().affecting_numbers()
        if "error" in values and values["error"] is None and self._is_sized_by_error:
            del values["error"]
        return values

    @property
    def _is_sized_by_error(self) -> bool:
        return getattr(METHODS.get(self.name), "sized_by_error", False)


Methods = Annotated[list[MethodPart], pydantic.BeforeValidator(_with_names_as_parts)]


class NetworkPart(Part):
    """A network and, if it is trained already, the file with its weights."""

    weights: str | None = None

    @property
    def weights_digest(self) -> str | None:
        """Of the file when the configuration was loaded; None if it could not be read."""
        digests = {one.name: one.digest for one in self._dependencies if one.kind == Kind.FILES}
        found = digests.get(WEIGHTS)
        return None if found == UNREADABLE else found

    def affecting_numbers(self) -> dict[str, Any]:
        """The same without the path of the weights: what the file holds is a dependency."""
        values = super().affecting_numbers()
        del values["weights"]
        return values


class DatasetPart(Part):
    """A data set, and the share of its training images set aside for validation and for S."""

    validation_fraction: float = Field(0.1, gt=0, lt=1)

    def affecting_numbers(self) -> dict[str, Any]:
        """The same without settings that say where the same data lie, or how they are read."""
        kind = DATASETS.get(self.name)
        ignored = getattr(kind, "not_affecting_numbers", ())
        added_later = getattr(kind, "not_affecting_numbers_if_none", ())
        return {
            key: value
            for key, value in super().affecting_numbers().items()
            if key not in ignored and not (value is None and key in added_later)
        }


class SGD(Section):
    name: Literal["SGD"] = "SGD"
    lr: float = Field(0.1, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0, le=LARGEST)
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
    eps: float = Field(1e-8, gt=0, le=LARGEST)
    weight_decay: float = Field(0.0, ge=0, le=LARGEST)


class LrDrops(Section):
    """After each of these numbers of epochs the learning rate is multiplied by `factor`."""

    epochs: list[Epochs] = []
    factor: float = Field(0.1, gt=0, le=LARGEST)

    @pydantic.field_validator("epochs", mode="after")
    @classmethod
    def _rise(cls, epochs: list[int]) -> list[int]:
        for before, after in itertools.pairwise(epochs):
            if after <= before:
                raise ValueError(f"epochs must rise: {after} comes after {before}")
        return epochs


class Training(Section):
    """One training of a net."""

    epochs: Epochs = 30
    batch_size: Count = 128
    optimizer: Annotated[SGD | Adam, Field(discriminator="name")] = SGD()
    warmup_epochs: Epochs = 0
    lr_drops: LrDrops = LrDrops()
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: Literal["auto", "on", "off"] = "off"
    sync_batchnorm: bool = False

    @pydantic.field_validator("optimizer", mode="before")
    @classmethod
    def _is_sgd_unless_named(cls, optimizer: Any) -> Any:
        return {"name": "SGD", **optimizer} if isinstance(optimizer, dict) else optimizer

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
    count: int = Field(ge=1, le=MOST_RATIOS)

    @pydantic.model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.count == 1 and self.first != self.last:
            raise ValueError("with count 1, first and last must be equal")
        if abs(self.first - self.last) < (self.count - 1) * SMALLEST_STEP:
            raise ValueError(
                f"count is {self.count}, but from {self.first} to {self.last} there are no "
                f"{self.count} different ratios"
            )
        return self


class Manual(Section):
    """Keep ratios one by one."""

    spacing: Literal["manual"]
    values: list[KeepRatio] = Field(min_length=1, max_length=MOST_RATIOS)


KeepRatios = Annotated[Spaced | Manual, Field(discriminator="spacing")]


class Pruning(Section):
    """How far a net is pruned, in which steps and by which methods."""

    schedule: Literal["oneshot", "cascade", "rewind", "random", "train"] = "cascade"
    # For schedule rewind: the number of epochs after which its checkpoint is taken.
    rewind_epoch: Epochs = 1
    methods: Methods = Field([MethodPart(name="SiPP")], min_length=1, max_length=MOST_METHODS)
    keep_ratios: list[KeepRatios] = Field(
        [Spaced(spacing="geometric", first=0.8, last=0.1, count=5)], min_length=1
    )
    retrain_count: int | None = Field(None, ge=0, le=MOST)
    delta: float = Field(DEFAULT_DELTA, gt=0)
    sample_size: Count | None = None
    min_kept_per_layer: int = Field(0, ge=0, le=MOST)
    round_channels: int = Field(1, ge=1, le=MOST_CHANNELS)
    commensurate_margin: float = Field(0.005, ge=0, lt=1)

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
            ends = {spec.first: None, spec.last: None} if isinstance(spec, Spaced) else spec.values
            ratios += ends
        for before, after in itertools.pairwise(ratios):
            if after >= before:
                raise ValueError(f"keep ratios must decrease: {after} comes after {before}")
        return specs

    @property
    def num_ratios(self) -> int:
        """How many keep ratios there are."""
        return sum(
            len(spec.values) if isinstance(spec, Manual) else spec.count
            for spec in self.keep_ratios
        )


class Guarantee(Section):
    """What is tested of pruned nets on validation images set aside: that they lose at most this."""

    loss: Measure = "accuracy_drop"
    at_most: float = Field(0.005, gt=0, lt=1)
    confidence: float = Field(0.95, gt=0, lt=1)


class Evaluation(Section):
    """On what nets are evaluated besides the validation and the test images."""

    corruptions: list[CorruptionName] = []
    severities: list[Annotated[int, Field(ge=1, le=MOST_SEVERE)]] = Field([1, 3, 5], min_length=1)

    @pydantic.field_validator("corruptions", mode="before")
    @classmethod
    def _can_be_made(cls, names: Any) -> Any:
        if isinstance(names, list) and "frost" in names:
            raise ValueError(
                "frost cannot be made: it needs photographs of frost, which are not part of this "
                "package; leave it out"
            )
        return names

    @pydantic.field_validator("corruptions", "severities", mode="after")
    @classmethod
    def _differ(cls, values: list[Any]) -> list[Any]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value} is listed twice")
        return values

    @property
    def corrupted(self) -> list[tuple[CorruptionName, int]]:
        """Each corruption with each severity."""
        return list(itertools.product(self.corruptions, self.severities))


class Config(Section):
    """A whole experiment."""

    network: NetworkPart
    dataset: DatasetPart = DatasetPart(name="digits")
    training: Training = Training()
    retraining: Training = Training()
    pruning: Pruning = Pruning()
    guarantee: Guarantee | None = None
    evaluation: Evaluation = Evaluation()
    num_nets: int = Field(1, ge=1, le=MOST_NETS)
    num_repetitions: int = Field(1, ge=1, le=MOST_NETS)
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    checkpoints: Literal["last", "all"] = "last"
    checkpoint_minutes: Annotated[float, Field(ge=0, le=LARGEST)] | None = 5
    nets_at_once: Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_NETS)] = "auto"
    logging: Parts = Field([], max_length=MOST_TRACKERS)

    @pydantic.field_validator("nets_at_once", mode="before")
    @classmethod
    def _is_auto_or_a_count(cls, value: Any) -> Any:
        """One message for both kinds of values."""
        is_count = isinstance(value, int) and not isinstance(value, bool)
        if value != "auto" and not (is_count and 1 <= value <= MOST_NETS):
            raise ValueError(
                f"must be auto or a whole number of at least 1 and at most {MOST_NETS}, "
                f"not {shown(value)}"
            )
        return value

    @pydantic.model_validator(mode="after")
    def _can_be_listed(self) -> Self:
        pruning = self.pruning
        steps = 0 if pruning.schedule == "train" else len(pruning.methods) * pruning.num_ratios
        prunings = self.num_nets * self.num_repetitions * steps
        if prunings > MOST_PRUNINGS:
            raise ValueError(
                f"num_nets x num_repetitions x methods x keep ratios are {prunings:,} prunings; at "
                f"most {MOST_PRUNINGS:,} are possible"
            )
        corrupted = (self.num_nets + prunings) * len(self.evaluation.corrupted)
        if corrupted > MOST_CORRUPTED:
            raise ValueError(
                f"nets x evaluation.corruptions x severities are {corrupted:,} evaluations; "
                f"at most {MOST_CORRUPTED:,} are possible"
            )
        return self

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

    @pydantic.model_validator(mode="after")
    def _guarantees_pruned_nets(self) -> Self:
        if self.guarantee is not None and self.pruning.schedule == "train":
            raise ValueError("guarantee: with pruning.schedule train there are no pruned nets")
        return self

    @property
    def num_prunings(self) -> int:
        """How often a net is pruned."""
        pruning = self.pruning
        if pruning.schedule == "train":
            return 0
        steps = sum(1 if method.decides_size else pruning.num_ratios for method in pruning.methods)
        return self.num_nets * self.num_repetitions * steps

    @property
    def num_at_once(self) -> int:
        """How many nets are trained at once."""
        return 1 if self.nets_at_once == "auto" else self.nets_at_once

    @property
    def checkpoint_seconds(self) -> float | None:
        """The time between two checkpoints of a training; None if there are none."""
        return None if self.checkpoint_minutes is None else 60 * self.checkpoint_minutes

    def run_id(self) -> str:
        """A hash of everything that affects the nets; the same on every machine."""
        values = self.model_dump()
        del values["pruning"]["commensurate_margin"]
        del values["evaluation"]  # it adds numbers, and changes none
        del values["checkpoints"]
        del values["checkpoint_minutes"]
        del values["nets_at_once"]
        del values["logging"]
        values["network"] = self.network.affecting_numbers()
        values["dataset"] = self.dataset.affecting_numbers()
        if self.pruning.round_channels == 1:  # it was added later: earlier runs are found again
            del values["pruning"]["round_channels"]
        values["pruning"]["methods"] = [
            method.affecting_numbers() for method in self.pruning.methods
        ]
        # Only whether images are set aside affects nets; it was added later, like the one above.
        values["guarantee"] = True
        if self.guarantee is None:
            del values["guarantee"]
        values["training"] = self.training.affecting_numbers()
        values["retraining"] = self.retraining.affecting_numbers()
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def parts(self) -> dict[str, Part]:
        """All parts, by the place where the file has them."""
        methods = {
            f"pruning.methods[{index}]": method for index, method in enumerate(self.pruning.methods)
        }
        return {"network": self.network, "dataset": self.dataset, **methods}

    def without_dependencies(self) -> Self:
        """The same settings, whatever code and files they refer to."""
        methods = [method.depending_on(()) for method in self.pruning.methods]
        return self.model_copy(
            update={
                "network": self.network.depending_on(()),
                "dataset": self.dataset.depending_on(()),
                "pruning": self.pruning.model_copy(update={"methods": methods}),
            }
        )
