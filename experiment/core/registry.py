"""Methods, networks and data sets, found by name or by `package.module:Name`.

A registered class or function declares its options as keyword parameters with types and defaults. They are
its YAML arguments: checked here against the signature, so that adding something is one new file.
"""

import difflib
import functools
import importlib
import inspect
import itertools
import pkgutil
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, get_origin

import pydantic

from experiment.core.errors import UserError, one_line


def nearest(wrong: object, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the valid name closest to a wrong one, or nothing."""

    def closeness(name: str) -> tuple[float, int]:
        pair = str(wrong).lower(), name.lower()
        same_start = itertools.takewhile(lambda letters: letters[0] == letters[1], zip(*pair))
        return difflib.SequenceMatcher(None, *pair).ratio(), len(list(same_start))

    best = max(names, key=closeness, default=None)
    return f"; did you mean '{best}'?" if best is not None and closeness(best)[0] >= 0.6 else ""


@dataclass(frozen=True)
class Collection:
    """Parts of another library, found by name where no registered part has that name."""

    description: str
    names: tuple[str, ...]
    get: Callable[[str], Callable]


class Registry:
    """One kind of exchangeable part.

    `package` is searched for modules that register parts; `given` names the parameters that the framework
    passes itself, which are therefore not options.
    """

    def __init__(self, kind: str, package: str, given: tuple[str, ...] = ()):
        self.kind = kind
        self.package = package
        self.given = given
        self._parts: dict[str, Callable] = {}
        self._collection = Collection("", (), self._parts.__getitem__)

    def register(self, part: Callable) -> Callable:
        """Decorator: make a class or function available under its own name."""
        if (
            part.__name__ in self._parts
            and self._parts[part.__name__].__module__ != part.__module__
        ):
            raise UserError(
                f"two {self.kind}s are called '{part.__name__}': in "
                f"{self._parts[part.__name__].__module__} and {part.__module__}"
            )
        self._parts[part.__name__] = part
        return part

    def fall_back_on(self, collection: Collection) -> None:
        """Find names that are not registered in a collection."""
        self._collection = collection

    def collected_names(self) -> list[str]:
        """The names of the collection that no registered part has."""
        registered = self.names()
        return [name for name in self._collection.names if name not in registered]

    def names(self) -> list[str]:
        """All registered names; imports every module of the package once."""
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return sorted(self._parts, key=str.lower)

    def get(self, name: str) -> Callable:
        """The part of that name. Raises UserError with the nearest name if there is none."""
        if ":" in name:
            return self._imported(name)
        if name in self.names():
            return self._parts[name]
        if name in self._collection.names:
            return self._collection.get(name)
        more = f", {self._collection.description}" if self._collection.names else ""
        raise UserError(
            f"unknown {self.kind} '{name}'{nearest(name, [*self.names(), *self.collected_names()])} "
            f"(there are: {', '.join(self.names())}{more}; or write package.module:Name)"
        )

    def _imported(self, path: str) -> Callable:
        module_name, _, attribute = path.partition(":")
        try:
            part = getattr(importlib.import_module(module_name), attribute)
        except Exception as error:  # importing runs the module, where anything can go wrong
            raise UserError(f"cannot import {self.kind} '{path}': {one_line(error)}") from error
        if not (
            inspect.isclass(part) or inspect.isroutine(part) or isinstance(part, functools.partial)
        ):
            raise UserError(
                f"{self.kind} '{path}' is of type {type(part).__name__}, "
                f"not a class or function that makes one"
            )
        return part

    def options_model(self, name: str) -> type[pydantic.BaseModel]:
        """A pydantic model of the part's options, made from its signature."""
        fields, extra = {}, "forbid"
        for parameter in _signature(self.get(name)).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                extra = "allow"
            elif _is_no_option(parameter):
                if parameter.default is parameter.empty:
                    raise UserError(
                        f"{self.kind} '{name}' needs an argument '{parameter.name}', which no option can "
                        f"give: 'name' and names that start with '_' are not options; neither are "
                        f"positional-only arguments. Give it a default or another name"
                    )
            elif (
                parameter.kind is not parameter.VAR_POSITIONAL and parameter.name not in self.given
            ):
                fields[parameter.name] = (
                    _option_type(parameter.annotation),
                    ... if parameter.default is parameter.empty else parameter.default,
                )
        settings = pydantic.ConfigDict(
            extra=extra, strict=True, arbitrary_types_allowed=True, protected_namespaces=()
        )
        with warnings.catch_warnings(
            action="ignore", category=UserWarning
        ):  # options called `copy` or `json` are fine
            return pydantic.create_model(f"{name} options", __config__=settings, **fields)

    def complete(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """The options with all defaults filled in that a file can hold. Raises pydantic.ValidationError for bad ones.

        A default that is no plain data, such as a class, is left to the part.
        """
        values = self.options_model(name)(**options).model_dump()
        return {key: value for key, value in values.items() if key in options or _is_plain(value)}

    def label(self, name: str, options: dict[str, Any]) -> str:
        """The name, with those options that differ from their defaults: `WT(allocation=uniform)`."""
        defaults = {
            key: field.default for key, field in self.options_model(name).model_fields.items()
        }
        changed = [
            f"{key}={value}"
            for key, value in options.items()
            if key not in defaults or value != defaults[key]
        ]
        return f"{name}({', '.join(changed)})" if changed else name

    def build(self, name: str, options: dict[str, Any], **given: Any) -> Any:
        """Call the part with its options and those of the framework's arguments that it accepts.

        Raises UserError where the part refuses them, or fails.
        """
        part = self.get(name)
        accepted = inspect.signature(part).parameters
        arguments = {key: value for key, value in given.items() if key in accepted} | options
        try:
            return part(**arguments)
        except UserError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            given_text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise UserError(
                f"{self.kind} {name} cannot be made with ({given_text}): {one_line(error)} "
                f"({place.filename}, line {place.lineno})"
            ) from error

    def create(self, name: str, options: dict[str, Any], **given: Any) -> Any:
        """Build a part from Python. Raises UserError for an unknown name or bad options."""
        try:
            options = self.complete(name, options)
        except pydantic.ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
            )
            known = ", ".join(self.options_model(name).model_fields) or "none"
            raise UserError(f"{self.kind} {name}: {problems} (its options: {known})") from None
        return self.build(name, options, **given)


def _signature(part: Callable) -> inspect.Signature:
    """A part's signature; annotations that are texts without a meaning stay texts."""
    try:
        return inspect.signature(part, eval_str=True)
    except (NameError, SyntaxError):
        return inspect.signature(part)


def _is_no_option(parameter: inspect.Parameter) -> bool:
    """Whether a parameter cannot be given in a file, where the key `name` says which part it is."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return False
    return (
        parameter.kind is parameter.POSITIONAL_ONLY
        or parameter.name == "name"
        or parameter.name.startswith("_")
    )


def _option_type(annotation: Any) -> Any:
    """The type that an option is checked against. A list of the file may stand for a tuple."""
    try:
        pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # not a type: nothing to check against
        return Any
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return Any
    if annotation is tuple or get_origin(annotation) is tuple:
        return Annotated[annotation, pydantic.Field(strict=False)]
    return annotation


def _is_plain(value: Any) -> bool:
    """Whether a value consists of what a YAML file can hold."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


METHODS = Registry("method", "experiment.methods")
NETWORKS = Registry("network", "experiment.networks", given=("input_shape", "num_classes"))
DATASETS = Registry("dataset", "experiment.data.sets")
