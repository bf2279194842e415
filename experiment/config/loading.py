"""From an experiment's YAML file to its checked configuration."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from experiment.config.dependencies import dependencies_of
from experiment.config.documents import Document, KeyPath, merge, merge_documents
from experiment.config.messages import explain
from experiment.config.schema import Config, MethodPart, Part, Pruning
from experiment.config.yaml_files import parse, read, read_overrides
from experiment.config.yaml_syntax import dump
from experiment.core.errors import UserError
from experiment.core.registry import DATASETS, METHODS, NETWORKS, TRACKERS, Registry
from experiment.core.text import shown

FILE_KEYS = ("sweep", "include")  # keys of a file that are not part of the schema
MAPPING = "the mapping"  # what messages call an experiment that is in no file
PartKind = TypeVar("PartKind", bound=Part)


def load_config(
    path: str | Path | Mapping[str, Any], overrides: list[str] | tuple[str, ...] = ()
) -> Config:
    """Read, merge and check an experiment's YAML file, or a mapping such as one holds.

    `overrides` are `key.path=value` texts with YAML values. For a file with a sweep this is the
    configuration without the swept values; `experiment.config.sweeps.load_sweep` returns those
    with them. Raises UserError, one line for each mistake.

    Example:
        >>> config = experiment.load_config("experiment.yaml", ["training.epochs=3"])
    """
    require_source(path, overrides)
    return resolve(load_document(path, overrides))


def require_source(source: Any, overrides: Any) -> None:
    """Raise UserError unless an experiment can be read from these arguments."""
    if not isinstance(source, str | os.PathLike | Mapping):
        raise UserError(
            f"an experiment is the path of a YAML file, or a mapping such as one holds, "
            f"not {shown(source)}"
        )
    is_list = isinstance(overrides, list | tuple)
    if not is_list or not all(isinstance(text, str) for text in overrides):
        raise UserError(
            f"overrides must be a list of strings, such as ['training.epochs=3'], "
            f"not {shown(overrides)}"
        )


def load_document(
    source: str | Path | Mapping[str, Any], overrides: list[str] | tuple[str, ...] = ()
) -> Document:
    """An experiment with its includes and overrides merged, its values not checked yet.

    `source` is the path of its file, or what such a file holds.
    """
    if isinstance(source, Mapping):
        document = parse(dump(dict(source)), MAPPING)
    else:
        document = read(Path(source))
    return merge_documents(document, read_overrides(overrides))


def resolve(document: Document) -> Config:
    """The checked configuration of a document, with every default and every option filled in.

    Raises UserError, one line for each mistake.
    """
    document = _without_training_of_weights(_with_inherited_retraining(document))
    values = {key: value for key, value in document.values.items() if key != "sweep"}
    try:
        config = Config(**values)
    except pydantic.ValidationError as error:
        raise UserError(*explain(error, Config, document, more_keys=FILE_KEYS)) from None
    return _with_completed_parts(config, document)


def _with_inherited_retraining(document: Document) -> Document:
    """The document with `retraining`, which states differences from `training`, merged onto it."""
    training = document.values.get("training", {})
    retraining = document.values.get("retraining", {})
    if not (isinstance(training, dict) and isinstance(retraining, dict)):
        return document
    inherited = {
        ("retraining", *path[1:]): origin
        for path, origin in document.origins.items()
        if path[0] == "training"
    }
    values = document.values | {"retraining": merge(training, retraining)}
    return Document(values, inherited | document.origins, document.source)


def _without_training_of_weights(document: Document) -> Document:
    """The document with 0 epochs of training if the network has weights, and it does not say."""
    network = document.values.get("network")
    training = document.values.get("training", {})
    has_weights = isinstance(network, dict) and network.get("weights") is not None
    if not has_weights or not isinstance(training, dict) or "epochs" in training:
        return document
    values = document.values | {"training": {**training, "epochs": 0}}
    return Document(values, document.origins, document.source)


def _with_completed_parts(config: Config, document: Document) -> Config:
    """The configuration with the options of methods, network and data set checked and filled in.

    Raises UserError with the mistakes of all of them.
    """
    mistakes: list[str] = []

    def complete(registry: Registry, part: PartKind, *path: str | int) -> PartKind:
        try:
            return _completed(registry, part, path, document)
        except UserError as error:
            mistakes.extend(error.mistakes)
            return part

    methods = [
        complete(METHODS, method, "pruning", "methods", index)
        for index, method in enumerate(config.pruning.methods)
    ]
    trackers = [
        complete(TRACKERS, tracker, "logging", index)
        for index, tracker in enumerate(config.logging)
    ]
    network = complete(NETWORKS, config.network, "network")
    dataset = complete(DATASETS, config.dataset, "dataset")
    mistakes = mistakes or _duplicates(methods, document)
    mistakes = mistakes or _without_meaning(methods, config.pruning, document)
    if mistakes:
        raise UserError(*mistakes)
    pruning = config.pruning.model_copy(update={"methods": methods})
    parts = {"network": network, "dataset": dataset, "pruning": pruning, "logging": trackers}
    return config.model_copy(update=parts)


def _completed(registry: Registry, part: PartKind, path: KeyPath, document: Document) -> PartKind:
    """The part at a key path with its options checked and filled in, and what it depends on.

    Raises UserError.
    """
    try:
        options = registry.complete(part.name, part.options)
        # A part's own argument may have the name of a key that all parts of its kind have, such as
        # `weights` of networks like torchvision's. The key is what the file sets.
        options = {key: options[key] for key in options if key not in type(part).model_fields}
        completed = type(part)(**(part.model_dump() | options))
        return completed.depending_on(dependencies_of(registry, completed))
    except UserError as error:
        raise error.within(document.locate((*path, "name"))) from None
    except pydantic.ValidationError as error:
        model = registry.options_model(part.name)
        common = tuple(type(part).model_fields)
        raise UserError(*explain(error, model, document, path, more_keys=common)) from None


def _without_meaning(methods: list[MethodPart], pruning: Pruning, document: Document) -> list[str]:
    """One line for each method that certifies the error of a net whose weights are not used."""
    if pruning.schedule not in ("random", "rewind"):
        return []
    return [
        f"{document.locate(('pruning', 'methods', index))}: {method.name} with error certifies "
        f"what the trained net gives, but schedule {pruning.schedule} does not go on with its "
        f"weights: choose oneshot or cascade"
        for index, method in enumerate(methods)
        if method.decides_size
    ]


def _duplicates(methods: list[MethodPart], document: Document) -> list[str]:
    """One line for each method that could not be told from an earlier one in tables and plots."""
    labels = [method.label for method in methods]
    return [
        f"{document.locate(('pruning', 'methods', index))}: {method.name} with the same options "
        f"is listed twice"
        for index, method in enumerate(methods)
        if labels[index] in labels[:index]
    ]
