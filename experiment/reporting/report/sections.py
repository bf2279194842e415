"""The tables of a report that need no script: summary, settings, environment, failures, times."""

import json
from dataclasses import dataclass
from typing import Any

import pandas

from experiment.config.schedules import keep_ratios
from experiment.config.schema import Config, Part
from experiment.core.text import visible
from experiment.reporting.board import duration
from experiment.reporting.comparison import flattened
from experiment.reporting.guaranteed import promise
from experiment.reporting.records import REFERENCE
from experiment.reporting.report.content import RunContent
from experiment.reporting.report.numbers import percent
from experiment.reporting.summary import CHOSEN_ON, MEASURES
from experiment.reporting.summary_text import fault_lines

TITLES = {
    "prune_ratio": "parameters removed",
    "test_accuracy": "its test accuracy",
    "flop_reduction": "FLOPs removed",
}
NOT_SET = "(not set)"
PHASES = ("training", "pruning", "retraining")


@dataclass(frozen=True)
class Entry:
    """What has a name, and its value in each run; a single one if all have the same."""

    name: str
    values: list[str]
    default: str | None = None  # None where there is none, or where it is the value

    @property
    def is_changed(self) -> bool:
        return self.default is not None


def summary_rows(runs: list[RunContent]) -> list[dict[str, Any]]:
    """How far each method of each run can go at commensurate accuracy."""
    return [
        {
            "run": run.label,
            "method": row["method"],
            "nets": row["nets"],
            "share": row["prune_ratio_chosen_on_test_mean"],
            "cells": [
                percent(*(row[f"{measure}_chosen_on_{chosen}_{kind}"] for kind in ("mean", "std")))
                for chosen in CHOSEN_ON
                for measure in MEASURES
            ],
        }
        for run in runs
        for row in run.summary.to_dict("records")
    ]


def summary_titles() -> list[str]:
    """The headings of the cells of a summary under each choice."""
    return [TITLES[measure] for measure in MEASURES]


def guarantees(runs: list[RunContent]) -> list[str]:
    """What tests on images set aside guarantee: one line for each method of each run."""
    lines = []
    for run in runs:
        name = f"{run.label}, " if len(runs) > 1 else ""
        for row in run.summary.to_dict("records") if "guarantee_loss" in run.summary else []:
            ratio, drop = (
                percent(row[f"{measure}_guaranteed_mean"], row[f"{measure}_guaranteed_std"])
                for measure in ("prune_ratio", "test_accuracy_drop")
            )
            what = promise(*(row[f"guarantee_{key}"] for key in ("loss", "at_most", "confidence")))
            each = ", for each net by itself" if row["nets"] > 1 else ""
            lines.append(
                f"{name}{row['method']}: {ratio} pruned; guaranteed: {what}{each}; drop of the "
                f"accuracy on the test set: {drop}"
            )
    return lines


def prune_potentials(run: RunContent) -> list[dict[str, Any]]:
    """One row for each corruption and severity: how far each method can prune there."""
    if not len(run.corruptions):
        return []
    return [
        {
            "corruption": corruption.replace("_", " "),
            "severity": severity or "",
            "cells": [percent(rows["unpruned_accuracy_mean"].mean())]
            + [
                percent(row["prune_potential_mean"], row["prune_potential_std"])
                for row in rows.set_index("method")
                .reindex(_corrupted_methods(run))
                .to_dict("records")
            ],
        }
        for (corruption, severity), rows in run.corruptions.groupby(
            ["corruption", "severity"], sort=False
        )
    ]


def prune_potential_titles(run: RunContent) -> list[str]:
    """The headings of the cells of a row of prune potentials."""
    return ["accuracy of the unpruned net", *_corrupted_methods(run)]


def _corrupted_methods(run: RunContent) -> list[str]:
    return run.corruptions["method"].unique().tolist()


def faults(runs: list[RunContent]) -> list[str]:
    """One line for each kind of fault that pruned nets have."""
    lines = []
    for run in runs:
        table = run.summary
        if len(table) and len(runs) > 1:
            table = table.assign(run=run.label)[["run", *table.columns]]
        lines += fault_lines(table) if len(table) else []
    return lines


def settings(runs: list[RunContent]) -> list[Entry]:
    """All settings of the runs, with the defaults of those that differ from them.

    Options of a part, such as a data set, are not compared: only the part knows their defaults.
    """
    default = Config(network=runs[0].config.network)
    return _entries([_flat(run.config) for run in runs], _flat(default))


def _flat(config: Config) -> dict[str, Any]:
    """The settings by key path; methods and keep ratios as short lists."""
    values = config.model_dump()
    values["pruning"]["methods"] = [_named(method) for method in config.pruning.methods]
    values["pruning"]["keep_ratios"] = keep_ratios(config.pruning)
    return dict(flattened(values))


def _named(method: Part) -> str:
    """A method with its options: `WT(allocation=erk)`."""
    options = ", ".join(f"{key}={_text(value)}" for key, value in method.options.items())
    return f"{method.name}({options})" if options else method.name


def environment(runs: list[RunContent]) -> list[Entry]:
    """Versions, the device and the commit."""
    return _entries([run.environment for run in runs], {})


def _entries(by_run: list[dict[str, Any]], defaults: dict[str, Any]) -> list[Entry]:
    """The values of all names, each once if all runs have the same."""
    entries = []
    for name in dict.fromkeys(name for values in by_run for name in values):
        values = [run.get(name, NOT_SET) for run in by_run]
        default = None
        if name in defaults and any(value != defaults[name] for value in values):
            default = _text(defaults[name])
        shown = values[:1] if all(value == values[0] for value in values) else values
        entries.append(Entry(visible(name), [_text(value) for value in shown], default))
    return entries


def _text(value: Any) -> str:
    """A value as in a YAML file, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return visible(value if isinstance(value, str) else json.dumps(value, default=str))


def failures(runs: list[RunContent]) -> list[dict[str, Any]]:
    """What has failed, with the reasons."""
    return [
        {
            "run": run.label,
            "what": f"{row['task']}, net {row['net_seed']}, {row['method']}, step {row['step']}",
            "reason": row["reason"],
            "given_up": row["num_given_up"],
        }
        for run in runs
        for row in run.failures.to_dict("records")
    ]


def times(runs: list[RunContent]) -> list[dict[str, Any]]:
    """The time that training, pruning and retraining took, by method."""
    found = []
    for run in runs:
        if not len(run.rows):
            continue
        for method, rows in run.rows.groupby("method", sort=False):
            seconds = _seconds_by_phase(rows, is_reference=method == REFERENCE)
            cells = [duration(value) if value else "" for value in seconds]
            found.append({"run": run.label, "method": method, "cells": cells})
    return found


def total_times(runs: list[RunContent]) -> list[str]:
    """The same over all runs and methods."""
    totals = [0.0] * len(PHASES)
    for run in runs:
        if not len(run.rows):
            continue
        is_reference = run.rows["method"] == REFERENCE
        for of_reference in (True, False):
            rows = run.rows[is_reference == of_reference]
            found = _seconds_by_phase(rows, is_reference=of_reference)
            totals = [total + seconds for total, seconds in zip(totals, found)]
    return [duration(total) for total in totals]


def _seconds_by_phase(rows: pandas.DataFrame, *, is_reference: bool) -> list[float]:
    training = float(rows["retrain_seconds"].sum())  # of unpruned nets, this is their training
    pruning = float(rows["prune_seconds"].sum())
    return [training, 0.0, 0.0] if is_reference else [0.0, pruning, training]
