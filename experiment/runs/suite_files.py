"""The files that a suite writes: tables, text, a figure and report.html."""

import json
from pathlib import Path
from typing import Any

import pandas

from experiment.config.schema import Config, Part
from experiment.core.files import write_whole
from experiment.core.text import visible
from experiment.reporting.plots.ranking import draw_rankings
from experiment.reporting.records import REFERENCE
from experiment.reporting.report.content import RunContent
from experiment.reporting.report.page import page
from experiment.reporting.run_files import REPORT
from experiment.reporting.suites.standing import Standing
from experiment.reporting.summary import summarise
from experiment.reporting.tables import RESULTS
from experiment.runs.report import environment_of
from experiment.runs.suite_results import OVERALL, ExperimentResults, Ranking, SuiteResults
from experiment.runs.suite_stored import ABOUT

RANKING = "ranking.csv"
RANKING_TEXT = "ranking.txt"
DIFFERENCES = "differences.csv"
FIGURE = "ranking"


def write_files(
    found: SuiteResults, standing: Standing, directory: Path, name: str, command: str
) -> Path:
    """Write all files of a suite of that name, which `command` has run.

    `results.csv` and `suite.json` are what later ones can be ranked beside.

    Returns:
        The path of the report.
    """
    rows = pandas.concat([one.rows for one in found.experiments], ignore_index=True)
    write_whole(directory / RESULTS, rows.to_csv(index=False))
    write_whole(directory / ABOUT, json.dumps(_about(found, name, command), indent=1) + "\n")
    tables = [_labelled(one.table, one) for one in found.rankings]
    write_whole(directory / RANKING, pandas.concat(tables).to_csv(index=False))
    pairs = [_labelled(one.differences, one) for one in found.rankings]
    write_whole(directory / DIFFERENCES, pandas.concat(pairs).to_csv(index=False))
    write_whole(directory / RANKING_TEXT, standing.text(standing.tables) + "\n")
    overall = {
        f"methods that remove {one.removes}": one.table
        for one in found.rankings
        if one.experiment == OVERALL and len(one.table)
    }
    if overall:
        draw_rankings(overall, directory / FIGURE)
    contents = [content for one in found.experiments for content in contents_of(one)]
    title = f"suite {visible(name)}"
    write_whole(directory / REPORT, page(contents, title, standing=standing))
    return directory / REPORT


def _labelled(table: pandas.DataFrame, one: Ranking) -> pandas.DataFrame:
    """A table of a ranking, with what it is of in front."""
    labelled = table.assign(removes=one.removes, experiment=one.experiment)
    return labelled[["removes", "experiment", *table.columns]]


def _about(found: SuiteResults, name: str, command: str) -> dict[str, Any]:
    """What one must know to make the results again, and to rank others beside them."""
    return {
        "suite": name,
        "command": command,
        "experiments": {one.name: one.experiment.config.run_id() for one in found.experiments},
        "environment": _environment(found.experiments[0]),
    }


def _environment(one: ExperimentResults) -> dict[str, Any]:
    """That of the first run that has one."""
    return next(filter(None, (environment_of(run.directory) for run in one.runs.values())), {})


def contents_of(one: ExperimentResults) -> list[RunContent]:
    """What a report shows of an experiment: what was run here, and stored methods beside it."""
    tables = {one.name: one.rows}
    others = [method for method in one.stored_methods if method != REFERENCE]
    if others:
        shown = one.stored["method"].isin([REFERENCE, *others])
        tables[f"{one.name}, stored"] = one.stored[shown]
    failures = pandas.concat([run.failures for run in one.runs.values()], ignore_index=True)
    return [
        RunContent(
            label=visible(label),
            directory=visible(str(one.experiment.path)),
            state="failed" if len(failures) and label == one.name else "done",
            config=_with_all_methods(one, rows),
            num_expected=len(rows),
            rows=rows,
            summary=summarise(rows, one.experiment.config.pruning.commensurate_margin),
            failures=failures if label == one.name else pandas.DataFrame(),
            environment=_environment(one),
        )
        for label, rows in tables.items()
    ]


def _with_all_methods(one: ExperimentResults, rows: pandas.DataFrame) -> Config:
    """The configuration of an experiment as if its methods had been in one run."""
    config = one.experiment.config
    parts = [Part(name=name) for name in rows["method"].unique() if name != REFERENCE]
    return config.model_copy(
        update={"pruning": config.pruning.model_copy(update={"methods": parts})}
    )
