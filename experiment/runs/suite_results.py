"""What the runs of a suite have found, ranked beside stored results, and the files that say so."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas

from experiment.config.schedules import steps
from experiment.config.schema import Config, Part
from experiment.core.errors import UserError
from experiment.core.files import read_file, write_whole
from experiment.core.text import visible
from experiment.reporting.comparison import same_nets
from experiment.reporting.records import REFERENCE
from experiment.reporting.run_files import REPORT
from experiment.reporting.suites.ranking import differences, ranking
from experiment.reporting.suites.scores import Contestant, scores
from experiment.reporting.suites.standing import (
    Standing,
    StandingTable,
    leaders,
    sentences_about,
    sizes_to_doubt,
    standing_table,
)
from experiment.reporting.summary import summarise
from experiment.reporting.tables import RESULTS, load_results
from experiment.runs.found import FoundRun
from experiment.runs.paths import results_directory
from experiment.runs.suites import Planned, Suite, SuiteExperiment

if TYPE_CHECKING:
    from experiment.reporting.report.content import RunContent

ABOUT = "suite.json"
RANKING = "ranking.csv"
RANKING_TEXT = "ranking.txt"
DIFFERENCES = "differences.csv"
OVERALL = "overall"  # in the column `experiment`: all experiments of a suite that remove the same


@dataclass(frozen=True)
class StoredResults:
    """Results of other methods, and the run ids of the experiments that they are of."""

    rows: pandas.DataFrame  # of results.csv, with a column `experiment` in front
    experiment_ids: Mapping[str, str]
    environment: Mapping[str, Any]

    def of(self, experiment: SuiteExperiment) -> pandas.DataFrame:
        """The rows of an experiment; none if they are of another version of it."""
        is_current = self.experiment_ids.get(experiment.name) == experiment.config.run_id()
        return self.rows[(self.rows["experiment"] == experiment.name) & is_current]


def load_stored(directory: Path | None) -> StoredResults:
    """What is stored in a directory, as `write_files` leaves it; nothing without a directory.

    Raises:
        UserError: if files are missing or damaged.
    """
    if directory is None:
        return StoredResults(pandas.DataFrame({"experiment": []}), {}, {})
    rows = load_results(directory)
    path = directory / ABOUT
    try:
        about = json.loads(read_file(path))
        ids, environment = dict(about["experiments"]), dict(about["environment"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path}: cannot be read; `python -m experiment suite` writes it") from None
    if "experiment" not in rows:
        raise UserError(f"{directory / RESULTS}: has no column experiment, as those of suites do")
    return StoredResults(rows, ids, environment)


@dataclass(frozen=True)
class ExperimentResults:
    """The rows of one experiment, of the methods that were run here and of stored ones."""

    experiment: SuiteExperiment
    here: Mapping[str, pandas.DataFrame]  # by method, each with those of the unpruned nets
    stored: pandas.DataFrame
    runs: Mapping[str, FoundRun]

    @property
    def name(self) -> str:
        return self.experiment.name

    @cached_property
    def rows(self) -> pandas.DataFrame:
        """Those of all methods that were run here; the unpruned nets once."""
        tables = list(self.here.values())
        pruned = [rows[rows["method"] != REFERENCE] for rows in tables]
        unpruned = [rows[rows["method"] == REFERENCE] for rows in tables[:1]]
        joined = pandas.concat([*unpruned, *pruned], ignore_index=True)
        return joined.assign(experiment=self.name)[["experiment", *joined.columns]]

    @cached_property
    def stored_methods(self) -> list[str]:
        """The methods of which only stored results are used."""
        found = self.stored["method"].unique() if len(self.stored) else []
        return [method for method in found if method not in (REFERENCE, *self.here)]

    def scores_of(self, method: str, *, stored: bool = False) -> pandas.DataFrame:
        """The scores of a method, from the runs here or the stored results."""
        rows = self.stored if stored else self.here[method]
        config = self.experiment.config
        planned = steps(config)
        retrained = [step.keep_ratio for step in planned if step.retrained]
        ratios = retrained or [step.keep_ratio for step in planned]
        of_method = rows[rows["method"].isin([method, REFERENCE])]
        return scores(of_method, ratios, config.pruning.commensurate_margin)


class SuiteResults:
    """What a suite has found."""

    def __init__(self, suite: Suite, plans: Sequence[Planned], results: str | Path):
        """Reads the runs and the stored results. Raises UserError if no net was pruned."""
        self.suite = suite
        self.directory = Path(results, "suite", suite.name)
        self._stored = load_stored(suite.stored)
        found = [self._found(plan, results) for plan in plans]
        self.experiments = [one for one in found if one.here]
        if not self.experiments:
            raise UserError(f"suite {suite.name}: none of its runs has a result")

    def _found(self, plan: Planned, results: str | Path) -> ExperimentResults:
        path = str(plan.experiment.path)
        runs = {
            method: FoundRun(results_directory(path, config.run_id(), results))
            for method, config in plan.runs.items()
        }
        here = {
            method: run.results
            for method, run in runs.items()
            if (run.directory / RESULTS).exists() and run.num_rows
        }
        stored = self._stored.of(plan.experiment)
        return ExperimentResults(plan.experiment, here, stored, runs)

    @cached_property
    def by_kind(self) -> dict[str, list[ExperimentResults]]:
        """The experiments by what their methods remove, which are ranked apart."""
        kinds = dict.fromkeys(one.experiment.removes for one in self.experiments)
        return {
            kind: [one for one in self.experiments if one.experiment.removes == kind]
            for kind in sorted(kinds, reverse=True)
        }

    @cached_property
    def rankings(self) -> dict[tuple[str, str], tuple[pandas.DataFrame, pandas.DataFrame]]:
        """The ranking and the differences by (what is removed, experiment or `OVERALL`)."""
        found = {}
        for kind, experiments in self.by_kind.items():
            contestants = contestants_of(experiments)
            baseline = experiments[0].experiment.baselines[0]
            names = [one.name for one in experiments]
            for title, averaged in [(OVERALL, names), *((name, [name]) for name in names)]:
                table = ranking(contestants, averaged, baseline)
                found[kind, title] = (table, differences(contestants, averaged))
        return found

    def standing(self, asked: Sequence[str] = ()) -> Standing:
        """The ranking as people read it; `asked` are the methods that it is about, if any."""
        notes = [note for one in self.experiments for note in notes_on_nets(one)]
        headlines = []
        overall: list[StandingTable] = []
        by_experiment: list[StandingTable] = []
        for (kind, title), (table, pairs) in self.rankings.items():
            experiments = self.by_kind[kind]
            baseline = experiments[0].experiment.baselines[0]
            if title == OVERALL:
                own = [
                    sentences_about(name, kind, table, pairs)
                    for name in asked_of(asked, experiments)
                ]
                notes += [line for lines in own for line in lines] + sizes_to_doubt(table)
                headlines += [lines[0] for lines in own] if asked else [leaders(kind, table)]
                heading = f"methods that remove {kind}, over {len(experiments)} experiments"
                overall.append(standing_table(heading, table, baseline))
            else:
                by_experiment.append(standing_table(title, table, baseline))
        return Standing("; ".join(headlines), notes, overall, by_experiment)

    def write_files(self, standing: Standing, command: str) -> Path:
        """Write tables, text, figure and report. Returns the path of the report."""
        from experiment.reporting.plots.ranking import draw_rankings
        from experiment.reporting.report.page import page

        rows = pandas.concat([one.rows for one in self.experiments], ignore_index=True)
        write_whole(self.directory / RESULTS, rows.to_csv(index=False))
        for name, index in ((RANKING, 0), (DIFFERENCES, 1)):
            write_whole(self.directory / name, self._joined(index).to_csv(index=False))
        write_whole(self.directory / RANKING_TEXT, standing.text(standing.tables) + "\n")
        write_whole(self.directory / ABOUT, json.dumps(self._about(command), indent=1) + "\n")
        tables = {
            f"methods that remove {kind}: {title}": tables[0]
            for (kind, title), tables in self.rankings.items()
            if title == OVERALL and len(tables[0])
        }
        if tables:
            draw_rankings(tables, self.directory / "ranking")
        contents = [content for one in self.experiments for content in contents_of(one)]
        title = f"suite {visible(self.suite.name)}"
        write_whole(self.directory / REPORT, page(contents, title, standing=standing))
        return self.directory / REPORT

    def _joined(self, index: int) -> pandas.DataFrame:
        """The rankings, or the differences, of all kinds and experiments in one table."""
        tables = [
            tables[index].assign(removes=kind, experiment=title)
            for (kind, title), tables in self.rankings.items()
        ]
        joined = pandas.concat(tables, ignore_index=True)
        first = ["removes", "experiment"]
        return joined[[*first, *(name for name in joined if name not in first)]]

    def _about(self, command: str) -> dict[str, Any]:
        """What one must know to make the results again, and to use them with later ones."""
        ids = {one.name: one.experiment.config.run_id() for one in self.experiments}
        runs = [run for one in self.experiments for run in one.runs.values()]
        return {
            "suite": self.suite.name,
            "command": command,
            "experiments": ids,
            "environment": next(filter(None, map(environment_of, runs)), {}),
        }


def contestants_of(experiments: Sequence[ExperimentResults]) -> list[Contestant]:
    """The methods with their scores: those that were run here, then those that are stored."""
    here = dict.fromkeys(method for one in experiments for method in one.here)
    stored = dict.fromkeys(method for one in experiments for method in one.stored_methods)
    new = [
        Contestant(
            method,
            False,
            {one.name: one.scores_of(method) for one in experiments if method in one.here},
        )
        for method in here
    ]
    old = [
        Contestant(
            method,
            True,
            {
                one.name: one.scores_of(method, stored=True)
                for one in experiments
                if method in one.stored_methods
            },
        )
        for method in stored
        if method not in here
    ]
    return [*new, *old]


def asked_of(asked: Sequence[str], experiments: Sequence[ExperimentResults]) -> list[str]:
    """Those of the methods that belong to the experiments."""
    return [method for method in asked if any(method in one.runs for one in experiments)]


def notes_on_nets(one: ExperimentResults) -> list[str]:
    """How the nets of an experiment can be compared with the stored ones."""
    if not len(one.stored):
        return [f"{one.name}: there are no stored results; only what was run here is ranked"]
    unpruned = one.rows[one.rows["method"] == REFERENCE]
    there = one.stored[one.stored["method"] == REFERENCE]
    common = set(unpruned["net_seed"]) & set(there["net_seed"])
    if same_nets(unpruned, there) == common:
        return [f"{one.name}: the unpruned nets are the stored ones; compared net by net"]
    accuracies = [f"{100 * rows['test_accuracy'].mean():.2f}%" for rows in (unpruned, there)]
    return [
        f"{one.name}: the unpruned nets are not the stored ones (accuracy {accuracies[0]} here, "
        f"{accuracies[1]} stored), since versions or machine differ; new and stored methods are "
        f"compared as on different nets, which can tell less",
        *(_baseline_again(one, method) for method in one.experiment.baselines),
    ]


def _baseline_again(one: ExperimentResults, method: str) -> str:
    """How the stored results of a baseline compare with those from here."""
    if method not in one.here or method not in set(one.stored["method"]):
        return f"{one.name}: the baseline {method} was not run both here and for the stored results"
    here, there = (one.scores_of(method, stored=stored)["score"].mean() for stored in (False, True))
    return f"{one.name}: the baseline {method} has score {here:.2f} here, {there:.2f} stored"


def contents_of(one: ExperimentResults) -> "list[RunContent]":
    """What a report shows of an experiment: what was run here, and stored methods beside it."""
    from experiment.reporting.report.content import RunContent

    tables = {one.name: one.rows}
    if one.stored_methods:
        shown = one.stored["method"].isin([REFERENCE, *one.stored_methods])
        tables[f"{one.name}, stored"] = one.stored[shown]
    margin = one.experiment.config.pruning.commensurate_margin
    return [
        RunContent(
            label=visible(label),
            directory=visible(str(one.experiment.path)),
            state="done",
            config=_with_all(one, rows),
            num_expected=len(rows),
            rows=rows,
            summary=summarise(rows, margin),
            environment=next(filter(None, map(environment_of, one.runs.values())), {}),
        )
        for label, rows in tables.items()
    ]


def _with_all(one: ExperimentResults, rows: pandas.DataFrame) -> Config:
    """The configuration of an experiment as if its methods had been in one run."""
    config = one.experiment.config
    parts = [Part(name=name) for name in rows["method"].unique() if name != REFERENCE]
    return config.model_copy(
        update={"pruning": config.pruning.model_copy(update={"methods": parts})}
    )


def environment_of(run: FoundRun) -> dict[str, Any]:
    """What environment.json says; nothing if there is none."""
    try:
        found = json.loads(read_file(run.directory / "environment.json"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
