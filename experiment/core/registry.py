"""Methods, networks, data sets and trackers, found by name or by `package.module:Name`.

A registered class or function declares its options as keyword parameters with types and defaults.
They are its YAML arguments, checked here against the signature, so that adding something takes one
new file and no other edit.
"""

import functools
import importlib
import importlib.abc
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic
from pydantic_core import ErrorDetails

from experiment.core.errors import UserError, one_line
from experiment.core.options import is_plain, options_model
from experiment.core.own_code import exits_as_errors, place, require_allowed
from experiment.core.spelling import nearest
from experiment.core.text import distinct, short, shown

Registered = TypeVar("Registered", bound=Callable)


@dataclass(frozen=True)
class Collection:
    """Parts of another library, found by name where no registered part has that name."""

    description: str
    names: tuple[str, ...]
    get: Callable[[str], Callable]


class Registry:
    """One kind of exchangeable part.

    `package` is the package whose modules register parts. A module is imported when one of its
    parts is asked for; only listing the names imports all. `given` names the parameters that the
    framework passes itself, which are therefore not options.
    """

    def __init__(self, kind: str, package: str, given: tuple[str, ...] = ()):
        self.kind = kind
        self.package = package
        self.given = given
        self._parts: dict[str, Callable] = {}
        self._collection: Collection | None = None

    def register(self, part: Registered) -> Registered:
        """Decorator: make a class or function available under its own name."""
        other = self._parts.get(part.__name__, part)
        if other.__module__ != part.__module__:
            raise UserError(
                f"two {self.kind}s are called '{part.__name__}': "
                f"in {other.__module__} and in {part.__module__}"
            )
        self._parts[part.__name__] = part
        return part

    def fall_back_on(self, collection: Collection) -> None:
        """Find names that are not registered in a collection."""
        self._collection = collection

    def names(self) -> list[str]:
        """All registered names."""
        self._import_all()
        return sorted(self._parts, key=str.lower)

    def collected_names(self) -> list[str]:
        """The names of the collection that no registered part has."""
        registered = self.names()
        collected = self._collection.names if self._collection else ()
        return [name for name in collected if name not in registered]

    def get(self, name: str) -> Callable:
        """The part of that name. Raises UserError with the nearest name if there is none."""
        if ":" in name:
            return self._imported(name)
        self._import_defining(name)
        if name not in self._parts:
            self._import_all()  # a part that is not defined by `class` or `def`, or a collection
        if name in self._parts:
            return self._parts[name]
        if self._collection and name in self._collection.names:
            return self._collection.get(name)
        raise UserError(self._unknown(name))

    def module_of(self, name: str) -> str:
        """The name of the module in which the part of that name is, or is said to be."""
        return name.partition(":")[0] if ":" in name else self.get(name).__module__

    def options_model(self, name: str) -> type[pydantic.BaseModel]:
        """A pydantic model of the part's options, made from its signature."""
        return options_model(self.get(name), f"{self.kind} '{name}'", self.given)

    def complete(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """The options with all defaults filled in that a file can hold.

        A default that is not plain data, such as a class, is left to the part. Raises
        pydantic.ValidationError for bad options.
        """
        values = self.options_model(name)(**options).model_dump()
        return {key: value for key, value in values.items() if key in options or is_plain(value)}

    def label(self, name: str, options: dict[str, Any]) -> str:
        """The name, with the options that differ from their defaults: `WT(allocation=uniform)`."""
        fields = self.options_model(name).model_fields
        changed = [
            f"{distinct(key)}={distinct(str(value))}"
            for key, value in options.items()
            if key not in fields or value != fields[key].default
        ]
        label = distinct(name)
        return f"{label}({', '.join(changed)})" if changed else label

    def build(self, name: str, options: dict[str, Any], **given: Any) -> Any:
        """Call the part with its options and those of the framework's arguments that it accepts.

        Raises UserError where the part refuses them, or fails.
        """
        part = self.get(name)
        accepted = inspect.signature(part).parameters
        arguments = {key: value for key, value in given.items() if key in accepted} | options
        try:
            with exits_as_errors():
                return part(**arguments)
        except UserError:
            raise
        except Exception as error:
            passed = ", ".join(f"{key}={shown(value)}" for key, value in arguments.items())
            raise UserError(
                f"{self.kind} {name} cannot be made with ({passed}): {one_line(error)}"
                f"{place(error)}"
            ) from error

    def create(self, name: str, options: dict[str, Any], **given: Any) -> Any:
        """Build a part from Python. Raises UserError for an unknown name or bad options."""
        try:
            completed = self.complete(name, options)
        except pydantic.ValidationError as error:
            known = list(self.options_model(name).model_fields)
            problems = "; ".join(_problem(mistake, known) for mistake in error.errors())
            raise UserError(
                f"{self.kind} {name}: {problems} (its options: {', '.join(known) or 'none'})"
            ) from None
        return self.build(name, completed, **given)

    def _modules(self) -> list[str]:
        package = importlib.import_module(self.package)
        return [
            f"{self.package}.{module.name}" for module in pkgutil.iter_modules(package.__path__)
        ]

    def _import_all(self) -> None:
        for module in self._modules():
            self._import(module)

    def _import_defining(self, name: str) -> None:
        """Import the modules whose source defines a class or function of that name."""
        definition = re.compile(rf"^(class|def) {re.escape(name)}\b", re.MULTILINE)
        for module in self._modules():
            if definition.search(_source(module)):
                self._import(module)

    def _import(self, module: str) -> None:
        """Import a module of the package. Raises UserError if that fails."""
        try:
            with exits_as_errors():
                importlib.import_module(module)
        except UserError:
            raise
        except Exception as error:  # importing runs the module, where anything can go wrong
            raise UserError(
                f"{self.kind}s: cannot import {module}: {one_line(error)}{place(error)}"
            ) from error

    def _imported(self, path: str) -> Callable:
        """The part that `package.module:Name` stands for."""
        require_allowed(path)
        module, _, attribute = path.partition(":")
        try:
            with exits_as_errors():
                part = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # importing runs the module, where anything can go wrong
            raise UserError(
                f"cannot import {self.kind} '{short(path)}': {one_line(error)}{place(error)}"
                f"{_how_files_are_found(module, error)}"
            ) from error
        if inspect.isclass(part) or inspect.isroutine(part) or isinstance(part, functools.partial):
            return part
        raise UserError(
            f"{self.kind} '{short(path)}' is of type {type(part).__name__}, "
            f"not a class or function that makes one"
        )

    def _unknown(self, name: str) -> str:
        """The message for a name that nothing has."""
        suggestion = nearest(name, [*self.names(), *self.collected_names()])
        known = ", ".join(self.names())
        if self._collection:
            known += f", {self._collection.description}"
        return (
            f"unknown {self.kind} '{short(name)}'{suggestion} "
            f"(there are: {known}; or write package.module:Name)"
        )


def _how_files_are_found(module: str, error: Exception) -> str:
    """A hint where it is the named module that there is not, and not one that it imports."""
    if not isinstance(error, ModuleNotFoundError):
        return ""
    if not f"{module}.".startswith(f"{error.name}."):
        return ""
    return "; a class Mine in FOLDER/file.py is file:Mine, with FOLDER on PYTHONPATH"


@functools.cache
def _source(module: str) -> str:
    """The text of a module, which is not imported; empty for one without."""
    spec = importlib.util.find_spec(module)
    if spec is None or not isinstance(spec.loader, importlib.abc.InspectLoader):
        return ""
    return spec.loader.get_source(module) or ""


def _problem(mistake: ErrorDetails, known: list[str]) -> str:
    """What is wrong with an option."""
    option = ".".join(map(str, mistake["loc"]))
    if mistake["type"] == "extra_forbidden":
        return f"unknown option '{short(option)}'{nearest(option, known)}"
    if mistake["type"] == "missing":
        return f"option '{option}' is missing"
    return f"{option}: {mistake['msg']}"


METHODS = Registry("method", "experiment.methods")
NETWORKS = Registry("network", "experiment.networks", given=("input_shape", "num_classes"))
DATASETS = Registry("dataset", "experiment.data.sets")
TRACKERS = Registry("tracker", "experiment.trackers")
