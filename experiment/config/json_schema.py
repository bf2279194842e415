"""The JSON schema with which editors complete and check experiment files."""

from typing import Any

from experiment.config.schema import Config, DatasetPart, NetworkPart
from experiment.core.registry import DATASETS, METHODS, NETWORKS, TRACKERS, Registry


def json_schema() -> dict[str, Any]:
    """The JSON schema of an experiment file: all keys are optional, since files include others."""
    schema = Config.model_json_schema()
    for definition in (schema, *schema["$defs"].values()):
        definition.pop("required", None)
    sections = schema["properties"]
    sections["include"] = _include_schema()
    sections["sweep"] = _sweep_schema()
    sections["retraining"]["description"] = "differences from training"
    for section, registry, part in (
        ("network", NETWORKS, NetworkPart),
        ("dataset", DATASETS, DatasetPart),
    ):
        sections[section] = _part_schema(registry, part.model_json_schema()["properties"])
    pruning = schema["$defs"]["Pruning"]["properties"]
    pruning["methods"]["items"] = _schema_with_names(METHODS)
    sections["logging"]["items"] = _schema_with_names(TRACKERS)
    ratios = pruning["keep_ratios"]
    ratios["items"] = {"anyOf": [ratios["items"], {"type": "number"}]}
    return schema


def _include_schema() -> dict[str, Any]:
    return {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "files merged below this one, relative to it",
    }


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
    return {
        "anyOf": [_only("grid", grid), _only("list", joint), {"type": "null"}],
        "description": "runs the experiment with several values of any keys",
    }


def _only(key: str, value: dict[str, Any]) -> dict[str, Any]:
    """A mapping with one key."""
    return {
        "type": "object",
        "properties": {key: value},
        "required": [key],
        "additionalProperties": False,
    }


def _schema_with_names(registry: Registry) -> dict[str, Any]:
    """A part with options, or its name alone."""
    schema = _part_schema(registry)
    schema["anyOf"].append({"enum": registry.names()})
    return schema


def _part_schema(registry: Registry, common: dict[str, Any] | None = None) -> dict[str, Any]:
    """Any of the registered names with its options, or a part of another library or the user's own.

    `common` are properties that every part has besides its options.
    """
    common = common or {}
    choices = [_named_schema(registry, name, common) for name in registry.names()]
    collected = registry.collected_names()
    if collected:
        properties = {**common, "name": {"enum": collected}}
        choices.append({"type": "object", "properties": properties})
    own = {"type": "object", "properties": {"name": {"type": "string", "pattern": ":"}}}
    return {"anyOf": [*choices, own]}


def _named_schema(registry: Registry, name: str, common: dict[str, Any]) -> dict[str, Any]:
    """One registered name with its options."""
    options = registry.options_model(name).model_json_schema().get("properties", {})
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {**common, "name": {"const": name}, **options},
    }
