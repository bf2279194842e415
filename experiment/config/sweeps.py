"""Sweeps: the combinations of settings that `sweep` in an experiment's file asks for, each a configuration.

`sweep.grid` maps key paths to lists of values, of which all combinations are run; `sweep.list` lists joint settings.
"""

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.config.documents import Document, KeyPath, assign
from experiment.config.schema import FILE_KEYS, Config, load_document, place, resolve
from experiment.core.errors import UserError
from experiment.core.registry import nearest

FORMS = ("grid", "list")


@dataclass(frozen=True)
class Setting:
    """A value for a key path, and the place that asks for it."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Combination:
    """One run of a sweep: the values of all swept keys, by key path, and the configuration they make."""

    settings: dict[str, Any]
    config: Config

    @property
    def label(self) -> str:
        """For legends: `delta=1e-16, seed=0`."""
        names = {key: key.rpartition(".")[2] for key in self.settings}
        short = list(names.values())
        return ", ".join(
            f"{names[key] if short.count(names[key]) == 1 else key}={plain(value)}"
            for key, value in self.settings.items()
        )


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep, and what its file says (includes and overrides merged, nothing resolved)."""

    values: dict[str, Any]
    combinations: list[Combination]

    def sweep_id(self) -> str:
        """The name of its directory, from a hash of its runs and their swept values."""
        runs = [
            [combination.settings, combination.config.run_id()] for combination in self.combinations
        ]
        return "sweep-" + hashlib.sha256(json.dumps(runs, default=str).encode()).hexdigest()[:10]


def plain(value: Any) -> str:
    """A value for legends and tables: `1e-16`, `[SiPP, WT]`, `null`."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=str).replace('"', "")


def load_sweep(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Sweep | None:
    """The sweep of an experiment's file; None for a file without one.

    The swept values are set last, above `overrides`. Raises UserError, one line for each mistake.
    """
    document = load_document(path, overrides)
    if document.values.get("sweep") is None:
        return None
    configs, complaints = [], {}
    choices = expand(document, str(path))
    for settings in choices:
        try:
            configs.append(resolve(_with(document, settings), str(path)))
        except UserError as error:
            complaints |= dict.fromkeys(str(error).splitlines())
    if complaints:
        raise UserError("\n".join(complaints))
    keys = list(dict.fromkeys(setting.key for settings in choices for setting in settings))
    combinations = [
        Combination(_filled(keys, settings, document, config), config)
        for settings, config in zip(choices, configs)
    ]
    _check_different(combinations, place(("sweep",), document, str(path)))
    return Sweep(document.values, combinations)


def expand(document: Document, source: str) -> list[list[Setting]]:
    """The settings of each run, as the file asks for them."""
    sweep = document.values["sweep"]
    where = place(("sweep",), document, source)
    if not isinstance(sweep, dict) or len(sweep) != 1:
        raise UserError(f"{where}: must have one key, grid or list, not {plain(sweep)}")
    form, content = next(iter(sweep.items()))
    if form not in FORMS:
        raise UserError(
            f"{where}.{form}: unknown key{nearest(form, FORMS)} (allowed: {', '.join(FORMS)})"
        )
    if form == "list":
        items = _filled_list(content, f"{where}.list")
        return [
            _joint(item, ("sweep", "list", index), document, source)
            for index, item in enumerate(items)
        ]
    settings = _joint(content, ("sweep", "grid"), document, source)
    return [
        list(choice)
        for choice in itertools.product(
            *(
                [
                    Setting(setting.key, value, setting.origin)
                    for value in _filled_list(setting.value, setting.origin)
                ]
                for setting in settings
            )
        )
    ]


def _joint(item: Any, path: KeyPath, document: Document, source: str) -> list[Setting]:
    """The settings of a mapping of key paths."""
    if not isinstance(item, dict) or not item:
        raise UserError(
            f"{place(path, document, source)}: must map at least one key path to a value, "
            f"not {plain(item)}"
        )
    settings = [
        Setting(str(key), value, place((*path, key), document, source))
        for key, value in item.items()
    ]
    for setting in settings:
        parts = setting.key.split(".")
        if not all(parts) or parts[0] in FILE_KEYS:
            raise UserError(
                f"{setting.origin}: '{setting.key}' is not a key path that can be swept"
            )
    return settings


def _filled_list(values: Any, where: str) -> list:
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}: must be a list of at least one item, not {plain(values)}")
    return values


def _with(document: Document, settings: list[Setting]) -> Document:
    for setting in settings:
        document = assign(document, tuple(setting.key.split(".")), setting.value, setting.origin)
    return document


def _filled(
    keys: list[str], settings: list[Setting], document: Document, config: Config
) -> dict[str, Any]:
    """The values of all swept keys: of those that this run does not set, what its file says or else the default."""
    given = {setting.key: setting.value for setting in settings}
    return {
        key: given[key] if key in given else _value(key, document.values, config.model_dump())
        for key in keys
    }


def _value(key: str, *trees: Any) -> Any:
    """The value at a key path in the first tree that has one there."""
    for value in trees:
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def _check_different(combinations: list[Combination], where: str) -> None:
    seen = {}
    for combination in combinations:
        other = seen.setdefault(combination.config.run_id(), combination)
        if other is not combination:
            raise UserError(
                f"{where}: {other.label} and {combination.label} are the same experiment"
            )
