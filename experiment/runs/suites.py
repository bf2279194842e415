"""Suites: folders of experiments by which methods are compared, and the runs that they ask for.

Each experiment is an ordinary file, whose own methods are the baselines. A suite runs it for other
methods, too, each in a run of its own: a method that is added later costs only its own runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.config.documents import Document, assign
from experiment.config.loading import load_document, resolve
from experiment.config.schema import Config, MethodPart
from experiment.config.sweeps import Combination, Sweep
from experiment.config.yaml_files import read_value
from experiment.core.errors import UserError
from experiment.core.registry import METHODS
from experiment.core.shipped import PLUGIN_MODULES
from experiment.core.spelling import nearest
from experiment.core.text import short
from experiment.pruning.method import build_method

SHIPPED = Path(__file__).parents[2] / "paper" / "suite"
STORED = "results"  # the folder beside the shipped suites for what is stored of them
METHODS_KEY = ("pruning", "methods")

Asked = tuple[Any, str]  # a method as `pruning.methods` has it, and where messages say it is from


@dataclass(frozen=True)
class SuiteExperiment:
    """An experiment of a suite, as its file says."""

    path: Path
    document: Document
    config: Config
    removes: str  # what its methods remove: weights or filters

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def baselines(self) -> list[str]:
        """The labels of its own methods."""
        return [method.label for method in self.config.pruning.methods]

    def with_method(self, method: Any, origin: str) -> Config:
        """The experiment for one method, as in `pruning.methods`. Raises UserError."""
        return resolve(assign(self.document, METHODS_KEY, [method], origin))


@dataclass(frozen=True)
class Suite:
    """Experiments that belong together."""

    name: str
    experiments: list[SuiteExperiment]
    stored: Path | None  # a directory with results of other methods


def open_suite(name: str, stored: str | None = None) -> Suite:
    """A shipped suite by its name, or a folder of experiments.

    Args:
        name: `small`, `standard`, or the path of a folder.
        stored: a directory with results of other methods; by default those of a shipped suite.

    Raises:
        UserError: if there is no such suite, or an experiment cannot belong to one.
    """
    known = shipped_suites()
    folder = SHIPPED / name if name in known else Path(name)
    if not folder.is_dir():
        listed = ", ".join(known) or "none, since an installed package has none"
        raise UserError(
            f"no suite '{short(name)}'{nearest(name, known)} (there are: {listed}; or name a "
            f"folder of experiments)"
        )
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise UserError(f"{folder}: holds no experiment, that is no .yaml file")
    return Suite(
        folder.resolve().name,
        [open_experiment(path) for path in paths],
        _stored_of(folder) if stored is None else Path(stored),
    )


def shipped_suites() -> list[str]:
    """Their names; none in an installed package."""
    if not SHIPPED.is_dir():
        return []
    folders = (path for path in SHIPPED.iterdir() if path.is_dir() and path.name != STORED)
    return sorted(path.name for path in folders)


def _stored_of(folder: Path) -> Path | None:
    """Where the results of the suite in a folder are stored, if it is a shipped one."""
    directory = SHIPPED / STORED / folder.name
    is_shipped = folder.resolve().parent == SHIPPED.resolve()
    return directory if is_shipped and directory.is_dir() else None


def open_experiment(path: Path) -> SuiteExperiment:
    """An experiment of a suite. Raises UserError if it cannot be one."""
    document = load_document(path)
    if document.values.get("sweep") is not None:
        raise UserError(f"{document.locate(('sweep',))}: a suite's experiment cannot be a sweep")
    config = resolve(document)
    if config.num_prunings == 0:
        raise UserError(f"{path}: prunes nothing; a suite's experiment must prune")
    where = document.locate(METHODS_KEY)
    kinds = {what_it_removes(method, where) for method in config.pruning.methods}
    if len(kinds) > 1:
        raise UserError(
            f"{where}: remove weights and filters; the methods of a suite's "
            f"experiment must remove the same"
        )
    return SuiteExperiment(path, document, config, kinds.pop())


def what_it_removes(method: MethodPart, origin: str) -> str:
    """`weights` or `filters`. Raises UserError if a suite cannot score the method."""
    if method.decides_size:
        raise UserError(
            f"{origin}: {method.label} decides itself how much is kept, but a suite scores methods "
            f"by keep ratios; leave `error` out"
        )
    try:
        return build_method(method.name, method.options).granularity
    except UserError as error:
        raise error.within(origin) from error


def shipped_methods() -> list[str]:
    """The names of all methods of this software."""
    return [name for name in METHODS.names() if METHODS.module_of(name) in PLUGIN_MODULES]


@dataclass(frozen=True)
class Planned:
    """The runs of one experiment: the baselines, then the methods that were asked for."""

    experiment: SuiteExperiment
    sweep: Sweep

    @property
    def runs(self) -> dict[str, Config]:
        """The configuration of each run by the label of its method."""
        return {str(one.settings["method"]): one.config for one in self.sweep.combinations}


def planned(suite: Suite, methods: Sequence[str]) -> list[Planned]:
    """The runs of a suite for some methods, or for all shipped ones if there are none.

    Args:
        methods: each a name, `package.module:Name`, or a mapping with options, as YAML.

    Returns:
        The experiments for which there is a method that removes what they do.

    Raises:
        UserError: for methods that cannot be used, one line for each.
    """
    if methods:
        asked = [(_read_method(text), _origin(text)) for text in methods]
        by_kind = _by_kind(suite, asked)
        _require_experiments(suite, by_kind)
    else:
        by_kind = _by_kind(suite, [(name, _origin(name)) for name in shipped_methods()])
    return [
        Planned(experiment, _sweep(experiment, by_kind[experiment.removes]))
        for experiment in suite.experiments
        if experiment.removes in by_kind
    ]


def _read_method(text: str) -> Any:
    """A method as `pruning.methods` has it. Raises UserError."""
    method = read_value(text, "--method", text)
    if not isinstance(method, str | dict):
        raise UserError(
            f"{_origin(text)}: must be a name or a mapping, such as WT or "
            f"'{{name: WT, allocation: erk}}'"
        )
    return method


def _origin(text: str) -> str:
    """Where a message says that a method is from."""
    return f"--method {short(text)}"


def _by_kind(suite: Suite, asked: Sequence[Asked]) -> dict[str, list[Asked]]:
    """The methods by what they remove. Raises UserError with the mistakes of all of them."""
    found: dict[str, list[Asked]] = {}
    mistakes: list[str] = []
    for method, origin in asked:
        try:
            [part] = suite.experiments[0].with_method(method, origin).pruning.methods
            found.setdefault(what_it_removes(part, origin), []).append((method, origin))
        except UserError as error:
            mistakes += error.mistakes
    if mistakes:
        raise UserError(*mistakes)
    return found


def _require_experiments(suite: Suite, by_kind: dict[str, list[Asked]]) -> None:
    """Raise UserError for methods for which the suite has no experiment."""
    kinds = {experiment.removes for experiment in suite.experiments}
    mistakes = [
        f"{origin}: removes {removes}, which no experiment of the suite does"
        for removes, methods in by_kind.items()
        for _, origin in methods
        if removes not in kinds
    ]
    if mistakes:
        raise UserError(*mistakes)


def _sweep(experiment: SuiteExperiment, asked: Sequence[Asked]) -> Sweep:
    """One run for each baseline and for each method; those that are the same once."""
    baselines = [(part.model_dump(), "baseline") for part in experiment.config.pruning.methods]
    configs: dict[str, Config] = {}
    for method, origin in [*baselines, *asked]:
        config = experiment.with_method(method, origin)
        configs.setdefault(config.pruning.methods[0].label, config)
    runs = [Combination({"method": label}, config) for label, config in configs.items()]
    return Sweep(experiment.document.values, runs)
