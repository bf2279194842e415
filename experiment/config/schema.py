"""The schema of an experiment: what a YAML file may say, its defaults, and how mistakes are reported.

`python -m experiment.config.schema --schema` prints the JSON schema with which editors complete the files.
"""

import argparse
import hashlib
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import Field

from experiment.config import documents as yaml_files
from experiment.config.documents import Document, KeyPath
from experiment.core.errors import UserError
from experiment.core.registry import DATASETS, METHODS, NETWORKS, Registry, nearest
from experiment.sensitivity.constants import DEFAULT_DELTA

KeepRatio = Annotated[float, Field(gt=0, le=1)]
FILE_KEYS = ("sweep", "include")  # what a file may say besides the schema


class Section(pydantic.BaseModel):
    """A mapping of the file. Unknown keys and values of a wrong type are errors."""

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
        return dict(self.__pydantic_extra__)


class Dataset(Part):
    """A data set, and how much of its training images is set aside for validation and for S."""

    validation_fraction: float = Field(0.1, gt=0, lt=1)


class SGD(Section):
    name: Literal["SGD"] = "SGD"
    lr: float = Field(0.1, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    nesterov: bool = False

    @pydantic.model_validator(mode="after")
    def _nesterov_needs_momentum(self):
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
    """The learning rate is multiplied by `factor` after each of these numbers of epochs."""

    epochs: list[Annotated[int, Field(ge=0)]] = []
    factor: float = Field(0.1, gt=0)


class Training(Section):
    """One training of a net."""

    epochs: int = Field(30, ge=0)
    batch_size: int = Field(128, ge=1)
    optimizer: Annotated[SGD | Adam, Field(discriminator="name")] = SGD()
    warmup_epochs: int = Field(0, ge=0)
    lr_drops: LrDrops = LrDrops()

    @pydantic.field_validator("optimizer", mode="before")
    @classmethod
    def _is_sgd_unless_named(cls, optimizer: Any) -> Any:
        return {"name": "SGD", **optimizer} if isinstance(optimizer, dict) else optimizer

    @pydantic.model_validator(mode="after")
    def _warmup_ends(self):
        if 0 < self.epochs <= self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs}) must be less than epochs ({self.epochs}): "
                f"the learning rate would never be reached"
            )
        return self


class Spaced(Section):
    """`count` keep ratios from `first` to `last`, both included."""

    spacing: Literal["geometric", "linear", "cubic", "harmonic"]
    first: KeepRatio
    last: KeepRatio
    count: int = Field(ge=1)

    @pydantic.model_validator(mode="after")
    def _is_a_range(self):
        if self.count == 1 and self.first != self.last:
            raise ValueError("with count 1, first and last must be equal")
        return self


class Manual(Section):
    """Keep ratios one by one."""

    spacing: Literal["manual"]
    values: list[KeepRatio] = Field(min_length=1)


KeepRatios = Annotated[Spaced | Manual, Field(discriminator="spacing")]


class Pruning(Section):
    """What is pruned, how far, and by which methods."""

    schedule: Literal["oneshot", "cascade", "rewind", "random", "train"] = "cascade"
    rewind_epoch: int = Field(
        1, ge=0
    )  # for schedule rewind: after how many epochs its checkpoint is taken
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
    def _falls(cls, specs: list) -> list:
        ends = [
            end
            for spec in specs
            for end in (spec.values if spec.spacing == "manual" else (spec.first, spec.last))
        ]
        for before, after in itertools.pairwise(ends):
            if after > before:
                raise ValueError(f"keep ratios must fall: {after} comes after {before}")
        return specs


class Config(Section):
    """A whole experiment."""

    network: Part
    dataset: Dataset = Dataset(name="digits")
    training: Training = Training()
    retraining: Training = Training()
    pruning: Pruning = Pruning()
    num_nets: int = Field(1, ge=1)
    num_repetitions: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)
    checkpoints: Literal["last", "all"] = "last"

    @pydantic.model_validator(mode="after")
    def _rewinds_into_training(self):
        if self.pruning.schedule == "rewind":
            epochs = min(self.training.epochs, self.retraining.epochs)
            if self.pruning.rewind_epoch >= max(epochs, 1):
                raise ValueError(
                    f"pruning.rewind_epoch ({self.pruning.rewind_epoch}) must be less than the epochs of "
                    f"training and retraining ({epochs})"
                )
        return self

    def run_id(self) -> str:
        """A hash of all that affects the numbers, the same wherever the same experiment is run."""
        return self._hash_without("checkpoints")

    def training_id(self) -> str:
        """A hash of all that the trained nets depend on, besides their numbers: equal ones can be shared.

        It leaves out what comes after training; a new key is in it, so that it can cost a training but never
        give a wrong net. With `rewind`, training leaves a checkpoint that depends on pruning: nothing is shared.
        """
        if self.pruning.schedule == "rewind":
            return self.run_id()
        return self._hash_without(
            "checkpoints", "pruning", "retraining", "num_nets", "num_repetitions"
        )

    def _hash_without(self, *ignored: str) -> str:
        """A hash of the configuration without some of its keys and without what never affects numbers."""
        values = self.model_dump()
        del values["pruning"]["commensurate_margin"]
        for key in ignored:
            del values[key]
        for key in getattr(DATASETS.get(self.dataset.name), "not_affecting_numbers", ()):
            values["dataset"].pop(key, None)
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def load_config(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read, merge and check an experiment's YAML file.

    `overrides` are `key.path=value` texts with YAML values. Of a sweep this is the configuration without the swept
    values; `sweep.load_sweep` gives those with them. Raises UserError, one line for each mistake.

    Example:
        >>> config = experiment.load_config("experiment.yaml", ["training.epochs=3"])
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"load_config needs the path of a YAML file, not {path!r}")
    texts = overrides if isinstance(overrides, list | tuple) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise UserError(
            f"overrides must be a list of texts, such as ['training.epochs=3'], not {overrides!r}"
        )
    return resolve(load_document(path, overrides), str(path))


def load_document(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Document:
    """An experiment's file with its includes and overrides, its values not checked yet."""
    return yaml_files.merge_documents(
        yaml_files.load(Path(path)), yaml_files.overrides(list(overrides))
    )


def resolve(document: Document, source: str) -> Config:
    """The checked configuration of a document, every default and every option of its parts filled in."""
    values = {key: value for key, value in document.values.items() if key != "sweep"}
    if isinstance(values.get("training", {}), dict) and isinstance(
        values.get("retraining", {}), dict
    ):
        values["retraining"] = yaml_files.merge(
            values.get("training", {}), values.get("retraining", {})
        )
    for path in [path for path in document.origins if path[0] == "training"]:
        document.origins.setdefault(("retraining", *path[1:]), document.origins[path])
    try:
        config = Config(**values)
    except pydantic.ValidationError as error:
        raise UserError(_report(error, Config, (), document, source, FILE_KEYS)) from None
    complaints: list[str] = []
    methods = [
        _complete(METHODS, method, ("pruning", "methods", index), document, source, complaints)
        for index, method in enumerate(config.pruning.methods)
    ]
    network = _complete(NETWORKS, config.network, ("network",), document, source, complaints)
    dataset = _complete(DATASETS, config.dataset, ("dataset",), document, source, complaints)
    complaints += _duplicates(methods, document, source)
    if complaints:
        raise UserError("\n".join(complaints))
    return config.model_copy(
        update={
            "network": network,
            "dataset": dataset,
            "pruning": config.pruning.model_copy(update={"methods": methods}),
        }
    )


def _complete(
    registry: Registry,
    part: Part,
    path: KeyPath,
    document: Document,
    source: str,
    complaints: list[str],
) -> Part:
    """The part with its options checked and completed; mistakes are added to `complaints`."""
    try:
        return type(part)(**(part.model_dump() | registry.complete(part.name, part.options)))
    except UserError as error:
        complaints.append(f"{place((*path, 'name'), document, source)}: {error}")
    except pydantic.ValidationError as error:
        common = tuple(type(part).model_fields)
        complaints.append(
            _report(error, registry.options_model(part.name), path, document, source, common)
        )
    return part


def _duplicates(methods: list[Part], document: Document, source: str) -> list[str]:
    return [
        f"{place(('pruning', 'methods', index), document, source)}: {method.name} with the same options "
        f"is listed twice"
        for index, method in enumerate(methods)
        if method in methods[:index]
    ]


def place(path: KeyPath, document: Document, source: str) -> str:
    """`file:line: key.path`"""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
    return f"{document.origin(path) or source}: {text}" if path else source


def _report(
    error: pydantic.ValidationError,
    model: type,
    prefix: KeyPath,
    document: Document,
    source: str,
    also: tuple[str, ...],
) -> str:
    """One line for each mistake that pydantic found; `also` are keys allowed besides the model's."""
    lines = {}
    for item in error.errors():
        path = prefix + _walk(model, item["loc"])[0]
        lines.setdefault(f"{place(path, document, source)}: {_complaint(item, model, also)}")
    # What is wrong in training is wrong in retraining too, which inherits it: say it once.
    return "\n".join(
        line
        for line in lines
        if line.replace(": retraining", ": training") not in lines or ": retraining" not in line
    )


def _complaint(item: dict[str, Any], model: type, also: tuple[str, ...]) -> str:
    """What is wrong, the wrong value, and what would be right."""
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = [
            *_walk(model, item["loc"][:-1])[1].model_fields,
            *(also if len(item["loc"]) == 1 else ()),
        ]
        return f"unknown key{nearest(item['loc'][-1], allowed)} (allowed: {', '.join(allowed)})"
    if kind == "missing":
        return "is missing"
    if kind in ("literal_error", "union_tag_invalid"):
        expected = context.get("expected") or context.get("expected_tags")
        names = [name.strip().strip("'") for name in expected.replace(" or ", ", ").split(",")]
        given = context.get("tag", value)
        return f"{given!r} is not allowed{nearest(given, names)} (allowed: {', '.join(names)})"
    if kind == "union_tag_not_found":
        return f"needs a key {context['discriminator']}"
    if kind == "value_error":
        return str(context["error"])
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        hint = f" (perhaps {{name: {value}}})" if isinstance(value, str) else ""
        return f"must be a mapping, not {value!r}{hint}"
    if kind in ("too_short", "too_long"):
        bound = (
            f"at least {context['min_length']}"
            if kind == "too_short"
            else f"at most {context['max_length']}"
        )
        return f"must have {bound} items, not {context['actual_length']}"
    return f"{value!r} is wrong: it {item['msg'].removeprefix('Input ')}".replace(
        "it should", "it must"
    )


def _walk(
    model: type[pydantic.BaseModel], location: tuple
) -> tuple[KeyPath, type[pydantic.BaseModel]]:
    """The key path that a location of pydantic's stands for, without the union tags, and the model found there."""
    path, candidates = [], [model]
    for key in location:
        if (
            isinstance(key, str) and len(candidates) > 1
        ):  # the tag that tells which model of a union was meant
            candidates = [
                choice
                for choice in candidates
                if any(key in get_args(field.annotation) for field in choice.model_fields.values())
            ]
            continue
        path.append(key)
        if isinstance(key, str):
            field = candidates[0].model_fields.get(key) if candidates else None
            candidates = _models(field.annotation) if field else []
    return tuple(path), candidates[0] if len(candidates) == 1 else model


def _models(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """All models in a type such as `list[A | B]`."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def json_schema() -> dict[str, Any]:
    """The JSON schema of an experiment file: all keys optional, since files include each other."""
    schema = Config.model_json_schema()
    for definition in (schema, *schema["$defs"].values()):
        definition.pop("required", None)
    schema["properties"]["include"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "files merged below this one, relative to it",
    }
    schema["properties"]["sweep"] = _sweep_schema()
    schema["properties"]["retraining"]["description"] = "differences from training"
    schema["properties"]["network"] = _parts_schema(NETWORKS, {})
    common = Dataset.model_json_schema()["properties"]
    schema["properties"]["dataset"] = _parts_schema(DATASETS, common)
    methods = _parts_schema(METHODS, {})
    methods["anyOf"].append({"enum": METHODS.names()})
    pruning = schema["$defs"]["Pruning"]["properties"]
    pruning["methods"]["items"] = methods
    pruning["keep_ratios"]["items"] = {
        "anyOf": [pruning["keep_ratios"]["items"], {"type": "number"}]
    }
    return schema


def _sweep_schema() -> dict[str, Any]:
    """A grid of values or a list of joint settings, by key path."""
    grid = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"type": "array", "minItems": 1},
        "description": "key path: values; all combinations are run",
    }
    joint = {
        "type": "array",
        "minItems": 1,
        "items": {"type": "object", "minProperties": 1},
        "description": "settings by key path, one mapping for each run",
    }
    forms = [
        {
            "type": "object",
            "properties": {name: form},
            "required": [name],
            "additionalProperties": False,
        }
        for name, form in (("grid", grid), ("list", joint))
    ]
    return {
        "anyOf": [*forms, {"type": "null"}],
        "description": "runs the experiment with several values of any keys",
    }


def _parts_schema(registry: Registry, common: dict[str, Any]) -> dict[str, Any]:
    """Any of the registered names with its options, or another library's or one's own part with any."""
    choices = []
    for name in registry.names():
        options = registry.options_model(name).model_json_schema()
        choices.append(
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {**common, "name": {"const": name}, **options.get("properties", {})},
            }
        )
    if registry.collected_names():
        choices.append(
            {
                "type": "object",
                "properties": {**common, "name": {"enum": registry.collected_names()}},
            }
        )
    own = {"type": "object", "properties": {"name": {"type": "string", "pattern": ":"}}}
    return {"anyOf": [*choices, own]}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiment.config.schema", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--schema", action="store_true", required=True, help="print the JSON schema"
    )
    parser.parse_args(arguments)
    print(json.dumps(json_schema(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
