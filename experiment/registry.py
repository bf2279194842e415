"""Methods, networks and data sets, found by name or by `package.module:Name`.

A registered class or function declares its options as keyword parameters with types and defaults. They are
its YAML arguments: checked here against the signature, so that adding something is one new file.
"""

import difflib
import importlib
import inspect
import itertools
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any

import pydantic

from experiment.errors import UserError, one_line


def nearest(wrong: object, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the valid name closest to a wrong one, or nothing."""
    def closeness(name: str) -> tuple[float, int]:
        pair = str(wrong).lower(), name.lower()
        same_start = itertools.takewhile(lambda letters: letters[0] == letters[1], zip(*pair))
        return difflib.SequenceMatcher(None, *pair).ratio(), len(list(same_start))

    best = max(names, key=closeness, default=None)
    return f"; did you mean '{best}'?" if best is not None and closeness(best)[0] >= 0.6 else ""


def _is_plain(value: Any) -> bool:
    """Whether YAML can express a value."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return value is None or isinstance(value, bool | int | float | str)


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

    def register(self, part: Callable) -> Callable:
        """Decorator: make a class or function available under its own name."""
        if part.__name__ in self._parts and self._parts[part.__name__].__module__ != part.__module__:
            raise UserError(f"two {self.kind}s are called '{part.__name__}': in "
                            f"{self._parts[part.__name__].__module__} and {part.__module__}")
        self._parts[part.__name__] = part
        return part

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
        if name not in self.names():
            raise UserError(f"unknown {self.kind} '{name}'{nearest(name, self.names())} "
                            f"(there are: {', '.join(self.names())}; or write package.module:Name)")
        return self._parts[name]

    def _imported(self, path: str) -> Callable:
        module_name, _, attribute = path.partition(":")
        try:
            part = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"cannot import {self.kind} '{path}': {error}") from None
        if not callable(part):
            raise UserError(f"cannot use '{path}' as a {self.kind}: it is neither a class nor a function")
        return part

    def options_model(self, name: str) -> type[pydantic.BaseModel]:
        """A pydantic model of the part's options, made from its signature."""
        parameters = inspect.signature(self.get(name), eval_str=True).parameters.values()
        fields, extra = {}, "forbid"
        for parameter in parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                extra = "allow"
            elif parameter.kind is not parameter.VAR_POSITIONAL and parameter.name not in self.given:
                annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
                fields[parameter.name] = (annotation, ... if parameter.default is parameter.empty
                                          else parameter.default)
        settings = pydantic.ConfigDict(extra=extra, strict=True, arbitrary_types_allowed=True,
                                       protected_namespaces=())
        return pydantic.create_model(f"{name} options", __config__=settings, **fields)

    def complete(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """The options, with those defaults filled in that YAML can express.

        Raises pydantic.ValidationError for bad ones.
        """
        complete = self.options_model(name)(**options).model_dump()
        return {key: value for key, value in complete.items() if key in options or _is_plain(value)}

    def label(self, name: str, options: dict[str, Any]) -> str:
        """The name, with those options that differ from their defaults: `WT(allocation=uniform)`."""
        defaults = {key: field.default for key, field in self.options_model(name).model_fields.items()}
        changed = [f"{key}={value}" for key, value in options.items() if key not in defaults or value != defaults[key]]
        return f"{name}({', '.join(changed)})" if changed else name

    def build(self, name: str, options: dict[str, Any], **given: Any) -> Any:
        """Call the part with its options and those of the framework's arguments that it accepts."""
        part = self.get(name)
        accepted = inspect.signature(part).parameters
        try:
            return part(**{key: value for key, value in given.items() if key in accepted}, **options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{self.kind} {name} cannot be made with {options}: {one_line(error)}") from error

    def create(self, name: str, options: dict[str, Any], **given: Any) -> Any:
        """Build a part from Python. Raises UserError for an unknown name or bad options."""
        try:
            options = self.complete(name, options)
        except pydantic.ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            known = ", ".join(self.options_model(name).model_fields) or "none"
            raise UserError(f"{self.kind} {name}: {problems} (its options: {known})") from None
        return self.build(name, options, **given)


METHODS = Registry("method", "experiment.methods")
NETWORKS = Registry("network", "experiment.networks", given=("input_shape", "num_classes"))
DATASETS = Registry("dataset", "experiment.data")
