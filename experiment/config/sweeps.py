"""Sweeps: one experiment file, run with several values of some of its keys.

`sweep.grid` maps key paths to lists of values, of which all combinations are run; `sweep.list`
lists settings that belong together.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.config.documents import Document, KeyPath, assign
from experiment.config.loading import (
    FILE_KEYS,
    load_config,
    load_document,
    require_source,
    resolve,
)
from experiment.config.schema import MOST_PRUNINGS, Config
from experiment.config.yaml_syntax import DEEPEST
from experiment.core.dependencies import looking_once
from experiment.core.errors import UserError
from experiment.core.spelling import nearest
from experiment.core.text import distinct, short

FORMS = ("grid", "list")
MOST_RUNS = 1_000


@dataclass(frozen=True)
class Setting:
    """A value for a key path, and where it was written: `file:line: sweep...`."""

    key: str
    value: Any
    location: str


@dataclass(frozen=True)
class Combination:
    """One run of a sweep: the values of all swept keys, by key path, and its configuration."""

    settings: dict[str, Any]
    config: Config

    @property
    def label(self) -> str:
        """For legends: `delta=1e-16, seed=0`."""
        last_names = [_last_name(key) for key in self.settings]
        texts = []
        for key, value in self.settings.items():
            is_clear = last_names.count(_last_name(key)) == 1
            texts.append(f"{short(_last_name(key) if is_clear else key)}={plain(value)}")
        return ", ".join(texts)


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep, and its file's values with includes and overrides, not resolved."""

    values: dict[str, Any]
    combinations: list[Combination]

    def sweep_id(self) -> str:
        """The name of its directory: a hash of its runs and their swept values."""
        runs = [
            [combination.settings, combination.config.run_id()] for combination in self.combinations
        ]
        return "sweep-" + hashlib.sha256(json.dumps(runs, default=str).encode()).hexdigest()[:10]


def _last_name(key: str) -> str:
    """The last part of a key path: `delta` for `pruning.delta`."""
    return key.rpartition(".")[2]


def plain(value: Any) -> str:
    """A value for legends and tables: `1e-16`, `[SiPP, WT]`, `null`."""
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str).replace('"', "")
    return distinct(text)


def load_experiment(
    path: str | Path | Mapping[str, Any], overrides: list[str] | tuple[str, ...] = ()
) -> Config | Sweep:
    """The sweep of a file, or a mapping such as one holds, that has one, else its configuration.

    Raises UserError, one line for each mistake.
    """
    require_source(path, overrides)
    return load_sweep(path, overrides) or load_config(path, overrides)


def configs_of(content: Config | Sweep) -> list[Config]:
    """The configuration, or those of all runs of a sweep."""
    if isinstance(content, Sweep):
        return [combination.config for combination in content.combinations]
    return [content]


def load_sweep(
    path: str | Path | Mapping[str, Any], overrides: list[str] | tuple[str, ...] = ()
) -> Sweep | None:
    """The sweep of an experiment's file; None for a file without one.

    The swept values are set last, above `overrides`. Raises UserError, one line for each mistake.
    """
    document = load_document(path, overrides)
    if document.values.get("sweep") is None:
        return None
    runs = expand(document)
    with looking_once():
        configs = _resolve_all(document, runs)
    _require_few_prunings(configs, document.locate(("sweep",)))
    keys = list(dict.fromkeys(setting.key for settings in runs for setting in settings))
    combinations = [
        Combination(_values_of(keys, settings, document, config), config)
        for settings, config in zip(runs, configs)
    ]
    _require_different(combinations, document.locate(("sweep",)))
    return Sweep(document.values, combinations)


def expand(document: Document) -> list[list[Setting]]:
    """The settings of each run, as the file asks for them."""
    sweep = document.values["sweep"]
    location = document.locate(("sweep",))
    if not isinstance(sweep, dict) or len(sweep) != 1:
        raise UserError(f"{location}: must have one key, grid or list, not {plain(sweep)}")
    form, content = next(iter(sweep.items()))
    if form == "grid":
        return _combined(_settings(document, content, ("sweep", "grid")), f"{location}.grid")
    if form == "list":
        items = _filled_list(content, f"{location}.list")
        if len(items) > MOST_RUNS:
            raise UserError(
                f"{location}.list: has {len(items):,} items; at most {MOST_RUNS:,} are possible"
            )
        return [
            _settings(document, item, ("sweep", "list", index)) for index, item in enumerate(items)
        ]
    allowed = ", ".join(FORMS)
    raise UserError(
        f"{location}.{short(form)}: unknown key{nearest(form, FORMS)} (allowed: {allowed})"
    )


def _combined(settings: list[Setting], location: str) -> list[list[Setting]]:
    """All combinations of settings whose values are lists. Raises UserError for too many."""
    choices = [
        [
            Setting(setting.key, value, setting.location)
            for value in _filled_list(setting.value, setting.location)
        ]
        for setting in settings
    ]
    count = math.prod(map(len, choices))
    if count > MOST_RUNS:
        raise UserError(
            f"{location}: has {count:,} combinations; at most {MOST_RUNS:,} are possible"
        )
    return [list(combination) for combination in itertools.product(*choices)]


def _settings(document: Document, item: Any, path: KeyPath) -> list[Setting]:
    """The settings of the mapping of key paths that is written at `path`."""
    if not isinstance(item, dict) or not item:
        raise UserError(
            f"{document.locate(path)}: must map at least one key path to a value, not {plain(item)}"
        )
    settings = [
        Setting(str(key), value, document.locate((*path, key))) for key, value in item.items()
    ]
    for setting in settings:
        names = setting.key.split(".")
        if not all(names) or names[0] in FILE_KEYS or len(names) > DEEPEST:
            raise UserError(
                f"{setting.location}: '{short(setting.key)}' is not a key path that can be swept"
            )
    return settings


def _filled_list(values: Any, location: str) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise UserError(f"{location}: must be a list of at least one item, not {plain(values)}")
    return values


def _resolve_all(document: Document, runs: list[list[Setting]]) -> list[Config]:
    """The configuration of each run. Raises UserError with the mistakes of all of them."""
    configs = []
    mistakes: dict[str, None] = {}  # a dict, since several runs may have the same mistake
    for settings in runs:
        try:
            configs.append(resolve(_with(document, settings)))
        except UserError as error:
            mistakes |= dict.fromkeys(error.mistakes)
    if mistakes:
        raise UserError(*mistakes)
    return configs


def _require_few_prunings(configs: list[Config], location: str) -> None:
    count = sum(config.num_prunings for config in configs)
    if count > MOST_PRUNINGS:
        raise UserError(
            f"{location}: its {len(configs):,} runs are {count:,} prunings; at most "
            f"{MOST_PRUNINGS:,} are possible"
        )


def _with(document: Document, settings: list[Setting]) -> Document:
    for setting in settings:
        keys = tuple(setting.key.split("."))
        document = assign(document, keys, setting.value, setting.location)
    return document


def _values_of(
    keys: list[str], settings: list[Setting], document: Document, config: Config
) -> dict[str, Any]:
    """The values of all swept keys in one run.

    For a key that this run does not set, that is the value in the file, or else the default.
    """
    given = {setting.key: setting.value for setting in settings}
    resolved = config.model_dump()
    return {
        key: given[key] if key in given else _first_value(key, document.values, resolved)
        for key in keys
    }


def _first_value(key: str, *trees: Any) -> Any:
    """The value at a key path in the first tree that has one there."""
    for value in trees:
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def _require_different(combinations: list[Combination], location: str) -> None:
    first: dict[str, Combination] = {}
    for combination in combinations:
        other = first.setdefault(combination.config.run_id(), combination)
        if other is not combination:
            raise UserError(
                f"{location}: {other.label} and {combination.label} are the same experiment"
            )
