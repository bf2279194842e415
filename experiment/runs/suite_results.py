"""What the runs of a suite have found, ranked beside stored results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas

from experiment.config.schedules import judged, steps
from experiment.core.errors import UserError
from experiment.reporting.comparison import same_nets
from experiment.reporting.records import REFERENCE
from experiment.reporting.suites.contest import contest
from experiment.reporting.suites.ranking import differences, ranking
from experiment.reporting.suites.scores import Contestant, scores
from experiment.reporting.suites.standing import (
    Standing,
    leaders,
    sentences_about,
    sizes_to_doubt,
    standing_table,
)
from experiment.reporting.tables import RESULTS
from experiment.runs.found import FoundRun
from experiment.runs.paths import results_directory
from experiment.runs.suite_stored import StoredResults
from experiment.runs.suites import Planned, SuiteExperiment

OVERALL = "overall"  # in the column `experiment`: all experiments of a suite that remove the same


@dataclass(frozen=True)
class ExperimentResults:
    """The rows of one experiment, of the methods that were run here and of stored ones."""

    experiment: SuiteExperiment
    runs: Mapping[str, FoundRun]  # by method
    here: Mapping[str, pandas.DataFrame]  # rows by method, each with those of the unpruned nets
    stored: pandas.DataFrame
    stored_is_outdated: bool

    @property
    def name(self) -> str:
        return self.experiment.name

    @cached_property
    def rows(self) -> pandas.DataFrame:
        """Those of all methods that were run here; each unpruned net once."""
        everything = pandas.concat(self.here.values())
        is_unpruned = everything["method"] == REFERENCE
        unpruned = everything[is_unpruned].drop_duplicates("net_seed")
        joined = pandas.concat([unpruned, everything[~is_unpruned]], ignore_index=True)
        return joined.assign(experiment=self.name)[["experiment", *joined.columns]]

    @cached_property
    def stored_methods(self) -> list[str]:
        """The methods of which stored results are used, since they were not run here."""
        return [name for name in self.stored["method"].unique() if name not in self.here]

    def scores_of(self, method: str, *, stored: bool = False) -> pandas.DataFrame:
        """The scores of a method, from the runs here or the stored results."""
        rows = self.stored if stored else self.here[method]
        config = self.experiment.config
        ratios = [step.keep_ratio for step in judged(steps(config)) if step.keep_ratio is not None]
        return scores(
            rows[rows["method"].isin([method, REFERENCE])],
            ratios,
            config.pruning.commensurate_margin,
        )


@dataclass(frozen=True)
class Ranking:
    """The methods that remove the same, ranked by one experiment or by all."""

    removes: str
    experiment: str  # or `OVERALL`
    table: pandas.DataFrame
    differences: pandas.DataFrame


class SuiteResults:
    """What a suite has found."""

    def __init__(self, plans: Sequence[Planned], stored: StoredResults, results: str | Path):
        """Reads the runs below `results`. Raises UserError if none has measured a net."""
        found = [_read(plan, stored, results) for plan in plans]
        self.experiments = [one for one in found if one.here]
        if not self.experiments:
            raise UserError("none of the suite's runs has measured a net, so nothing is ranked")

    @cached_property
    def by_kind(self) -> dict[str, list[ExperimentResults]]:
        """The experiments by what their methods remove, which are ranked apart."""
        kinds = sorted({one.experiment.removes for one in self.experiments}, reverse=True)
        return {
            kind: [one for one in self.experiments if one.experiment.removes == kind]
            for kind in kinds
        }

    @cached_property
    def rankings(self) -> list[Ranking]:
        """For weights and filters: over all experiments, then by each."""
        found = []
        for kind, experiments in self.by_kind.items():
            contestants = contestants_of(experiments)
            for name, averaged in _what_is_averaged(experiments):
                compared = contest(contestants, averaged)
                pairs = differences(compared)
                table = ranking(compared, pairs, _baseline(experiments))
                found.append(Ranking(kind, name, table, pairs))
        return found

    def standing(self, asked: Sequence[str] = ()) -> Standing:
        """The ranking as people read it; `asked` are the methods that it is about, if any."""
        notes = [note for one in self.experiments for note in notes_on_nets(one)]
        headlines = []
        tables: dict[bool, list] = {True: [], False: []}
        for one in self.rankings:
            experiments = self.by_kind[one.removes]
            is_overall = one.experiment == OVERALL
            title = f"methods that remove {one.removes}: {one.experiment}"
            tables[is_overall].append(standing_table(title, one.table, _baseline(experiments)))
            if not is_overall:
                continue
            own = [
                sentences_about(method, one.removes, one.table, one.differences)
                for method in asked
                if any(method in found.runs for found in experiments)
            ]
            headlines += [lines[0] for lines in own] or [leaders(one.removes, one.table)]
            notes += [line for lines in own for line in lines] + sizes_to_doubt(one.table)
        return Standing("; ".join(headlines), notes, tables[True], tables[False])


def _read(plan: Planned, stored: StoredResults, results: str | Path) -> ExperimentResults:
    """What the runs of an experiment have found so far."""
    experiment = plan.experiment
    runs = {
        method: FoundRun(results_directory(str(experiment.path), config.run_id(), results))
        for method, config in plan.runs.items()
    }
    here = {
        method: run.results
        for method, run in runs.items()
        if (run.directory / RESULTS).exists() and run.num_rows
    }
    return ExperimentResults(
        experiment, runs, here, stored.of(experiment), stored.is_outdated(experiment)
    )


def _baseline(experiments: Sequence[ExperimentResults]) -> str:
    return experiments[0].experiment.baselines[0]


def _what_is_averaged(experiments: Sequence[ExperimentResults]) -> list[tuple[str, list[str]]]:
    """The experiments over which each ranking averages, by its name."""
    names = [one.name for one in experiments]
    return [(OVERALL, names), *((name, [name]) for name in names)]


def contestants_of(experiments: Sequence[ExperimentResults]) -> list[Contestant]:
    """The methods with their scores: those that were run here, then those that are stored."""
    here = dict.fromkeys(method for one in experiments for method in one.here)
    stored = dict.fromkeys(
        method for one in experiments for method in one.stored_methods if method != REFERENCE
    )
    new = {
        method: {one.name: one.scores_of(method) for one in experiments if method in one.here}
        for method in here
    }
    old = {
        method: {
            one.name: one.scores_of(method, stored=True)
            for one in experiments
            if method in one.stored_methods
        }
        for method in stored
        if method not in here
    }
    return [
        Contestant(method, is_stored, found)
        for is_stored, methods in ((False, new), (True, old))
        for method, found in methods.items()
    ]


def notes_on_nets(one: ExperimentResults) -> list[str]:
    """Whether the nets of an experiment are those of the stored results."""
    if one.stored_is_outdated:
        return [f"{one.name}: has changed since its results were stored, so that they are not used"]
    if not len(one.stored):
        return [f"{one.name}: there are no stored results; only what was run here is ranked"]
    unpruned, there = (rows[rows["method"] == REFERENCE] for rows in (one.rows, one.stored))
    common = set(unpruned["net_seed"]) & set(there["net_seed"])
    if common and same_nets(unpruned, there) == common:
        return [f"{one.name}: the unpruned nets are the stored ones; compared net by net"]
    accuracies = [f"{100 * rows['test_accuracy'].mean():.2f}%" for rows in (unpruned, there)]
    return [
        f"{one.name}: the unpruned nets are not the stored ones (accuracy {accuracies[0]} here, "
        f"{accuracies[1]} stored), since versions, threads or machine differ; new and stored "
        f"methods are compared as on different nets, which can tell less",
        *(_baseline_again(one, method) for method in one.experiment.baselines),
    ]


def _baseline_again(one: ExperimentResults, method: str) -> str:
    """How the stored results of a baseline compare with those from here."""
    if method not in one.here or method not in set(one.stored["method"]):
        return f"{one.name}: the baseline {method} was not run both here and for the stored results"
    here, there = (one.scores_of(method, stored=stored)["score"].mean() for stored in (False, True))
    return f"{one.name}: the baseline {method} has score {here:.2f} here, {there:.2f} stored"
