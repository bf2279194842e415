"""The page of a report: its data filled into the template, with styles and script inlined."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from experiment.core.columns import columns
from experiment.reporting.records import REFERENCE, ResultRecord
from experiment.reporting.report import curves, headline, sections
from experiment.reporting.report.content import RunContent
from experiment.reporting.report.numbers import without_nan
from experiment.reporting.suites.standing import Standing

SCRIPTS = ("choices.js", "chart.js", "points.js", "heat_map.js", "table.js", "main.js")
# The columns of results.csv that are shown first; the others can be chosen.
MAIN_COLUMNS = frozenset(
    {"run", "method", "net_seed", "step", "prune_ratio", "flop_keep_ratio", "test_accuracy"}
    | {"accuracy_before_retraining", "test_loss", "note"}
)


def page(
    runs: list[RunContent],
    title: str,
    left_out: Sequence[str] = (),
    standing: Standing | None = None,
) -> str:
    """The page of one or several runs, as HTML.

    `left_out` says why others are missing; `standing` is the ranking of their methods, if any.
    """
    style = _source("style.css")
    script = "\n".join(_source(name) for name in SCRIPTS)
    return _template().render(
        title=title,
        runs=runs,
        left_out=left_out,
        headline=headline,
        sections=sections,
        standing=standing,
        reference=REFERENCE,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        data=_embedded(data(runs)),
    )


def data(runs: list[RunContent]) -> dict[str, Any]:
    """What the script draws."""
    return {
        "runs": [run.label for run in runs],
        "axes": curves.axes(runs),
        "series": curves.series(runs),
        "unpruned": [curves.unpruned(run) for run in runs],
        "layers": [_layers(run) for run in runs],
        "table": _table(runs),
    }


def _layers(run: RunContent) -> list[dict[str, Any]]:
    """For each method its layers, steps, and for each layer the share that is kept by step."""
    if run.layers is None:
        return []
    found = []
    for method, rows in run.layers.groupby("method", sort=False):
        wide = rows.pivot_table(index="layer", columns="step", values="keep_ratio", sort=False)
        wide = wide.sort_index(axis="columns")
        found.append(
            {
                "method": method,
                "layers": wide.index.tolist(),
                "steps": wide.columns.tolist(),
                "ratios": without_nan(wide.round(6)),
            }
        )
    return found


def _table(runs: list[RunContent]) -> dict[str, Any]:
    """The rows of results.csv of all runs, and what their columns mean."""
    meanings = {name: field.metadata["meaning"] for name, field in columns(ResultRecord).items()}
    names = list(meanings)
    rows = []
    for run in runs:
        of_run = without_nan(run.rows[names]) if len(run.rows) else []
        rows += [[run.label, *row] for row in of_run] if len(runs) > 1 else of_run
    if len(runs) > 1:
        names = ["run", *names]
        meanings["run"] = "the run"
    numbers = {field.name for field in fields(ResultRecord) if field.type in (int, float)}
    described = [
        {
            "name": name,
            "meaning": meanings[name].replace("`", ""),
            "is_number": name in numbers,
            "is_main": name in MAIN_COLUMNS,
        }
        for name in names
    ]
    return {"columns": described, "rows": rows}


def _embedded(values: Any) -> Markup:
    """Values as JSON that a script element can hold, whatever texts are in them."""
    text = json.dumps(values, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":  # which neither end the element nor begin a comment in it
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _policy(style: str, script: str) -> str:
    """The page may use its own styles and script, and nothing else; it may fetch nothing."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        f"img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_source("page.html"))
