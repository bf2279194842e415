"""How mistakes in a configuration are reported: where, the wrong value, and what would be right."""

from typing import Any, get_args

import pydantic
from pydantic_core import ErrorDetails

from experiment.config.documents import Document, KeyPath
from experiment.core.spelling import nearest
from experiment.core.text import short, shown

Model = type[pydantic.BaseModel]

MOST_MISTAKES = 20  # that are told


def explain(
    error: pydantic.ValidationError,
    model: Model,
    document: Document,
    prefix: KeyPath = (),
    more_keys: tuple[str, ...] = (),
) -> list[str]:
    """One line for each mistake that pydantic found in the part of a document at `prefix`.

    `model` is what that part was checked against; `more_keys` are allowed there besides its fields.
    """
    found = error.errors()
    mistakes = [
        ((*prefix, *follow(model, mistake["loc"])[0]), _describe(mistake, model, more_keys))
        for mistake in found[:MOST_MISTAKES]
    ]
    lines = [
        f"{document.locate(path)}: {description}"
        for path, description in mistakes
        if (_inherited_from(path, document), description) not in mistakes
    ]
    if len(found) > MOST_MISTAKES:
        lines.append(f"{document.source}: and {len(found) - MOST_MISTAKES:,} more mistakes")
    return list(dict.fromkeys(lines))  # pydantic may report a mistake twice


def _inherited_from(path: KeyPath, document: Document) -> KeyPath | None:
    """The key path in `training` from which `retraining` has the value at a key path, if it has."""
    if path[:1] != ("retraining",):
        return None
    source = ("training", *path[1:])
    return source if document.origin(source) == document.origin(path) else None


def _describe(mistake: ErrorDetails, model: Model, more_keys: tuple[str, ...]) -> str:
    """The wrong value, and what would be right."""
    kind = mistake["type"]
    if kind == "extra_forbidden":
        return _unknown_key(mistake["loc"], model, more_keys)
    if kind == "missing":
        return "is missing"
    if kind in ("literal_error", "union_tag_invalid"):
        return _not_allowed(mistake)
    if kind == "union_tag_not_found":
        return f"needs a key {mistake['ctx']['discriminator']}"
    if kind == "value_error":
        return str(mistake["ctx"]["error"])
    if kind == "bool_type":
        return f"{shown(mistake['input'])} is wrong: it must be true or false"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return _not_a_mapping(mistake, model)
    if kind in ("too_short", "too_long"):
        return _wrong_length(kind, mistake["ctx"])
    requirement = mistake["msg"].removeprefix("Input ").replace("should", "must", 1)
    return f"{shown(mistake['input'])} is wrong: it {requirement}"


def _unknown_key(location: KeyPath, model: Model, more_keys: tuple[str, ...]) -> str:
    *outer, key = location
    _, section = follow(model, tuple(outer))
    allowed = [*section.model_fields, *(() if outer else more_keys)]
    return f"unknown key{nearest(key, allowed)} (allowed: {', '.join(allowed)})"


def _not_allowed(mistake: ErrorDetails) -> str:
    """A value that is none of those listed in the schema."""
    context = mistake["ctx"]
    expected = context.get("expected") or context["expected_tags"]
    names = [name.strip().strip("'") for name in expected.replace(" or ", ", ").split(",")]
    given = mistake["input"]
    if "discriminator" in context:
        given = given[context["discriminator"].strip("'")]
    return f"{shown(given)} is not allowed{nearest(given, names)} (allowed: {', '.join(names)})"


def _not_a_mapping(mistake: ErrorDetails, model: Model) -> str:
    value = mistake["input"]
    _, sections = _follow(model, mistake["loc"])
    is_named = any("name" in section.model_fields for section in sections)
    hint = f" (perhaps {{name: {short(value)}}})" if is_named and isinstance(value, str) else ""
    return f"must be a mapping, not {shown(value)}{hint}"


def _wrong_length(kind: str, context: dict[str, Any]) -> str:
    if kind == "too_short":
        bound, number = "at least", context["min_length"]
    else:
        bound, number = "at most", context["max_length"]
    items = "item" if number == 1 else "items"
    return f"must have {bound} {number} {items}, not {context['actual_length']}"


def follow(model: Model, location: KeyPath) -> tuple[KeyPath, Model]:
    """The key path that a location of pydantic's stands for, and the model of the section there.

    Inside a union, a location also holds the tag by which pydantic chose a member: the location
    `("optimizer", "SGD", "lr")` stands for `optimizer.lr`. Below what the models describe, the
    section is `model`.
    """
    path, sections = _follow(model, location)
    return path, sections[0] if len(sections) == 1 else model


def _follow(model: Model, location: KeyPath) -> tuple[KeyPath, list[Model]]:
    """The key path of a location, and the models of which one describes the section there."""
    path: list[str | int] = []
    sections = [model]  # more than one: the members of a union, of which the tag comes next
    for key in location:
        if isinstance(key, int):
            path.append(key)
        elif len(sections) > 1:  # a tag
            sections = [section for section in sections if _has_tag(section, key)]
        else:
            path.append(key)
            sections = _sections_below(sections, key)
    return tuple(path), sections


def _has_tag(section: Model, tag: str) -> bool:
    """Whether a member of a union is chosen by a tag, which is a literal of one of its fields."""
    return any(tag in get_args(field.annotation) for field in section.model_fields.values())


def _sections_below(sections: list[Model], key: str) -> list[Model]:
    field = sections[0].model_fields.get(key) if sections else None
    return _models_in(field.annotation) if field else []


def _models_in(annotation: Any) -> list[Model]:
    """All models in a type such as `list[A | B]`."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
