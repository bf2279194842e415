"""What a report tells of one run, read from its directory by whoever knows where things are."""

from dataclasses import dataclass, field
from typing import Any

import pandas

from experiment.config.schema import Config


@dataclass(frozen=True, kw_only=True)
class RunContent:
    """The state, the configuration and the tables of a run.

    `rows`, `summary` and `failures` are the tables of the same names, empty if there are none.
    `corruptions` holds the rows of corruption_summary.csv, likewise.
    `layers` has the columns method, layer, step and keep_ratio, the share of a layer that is kept;
    rows that differ in nothing else, such as those of several nets, are averaged. It is None where
    nobody wrote that down.
    """

    label: str  # tells the run from others on the page
    directory: str
    state: str  # "done", "running", "failed" or "interrupted"
    config: Config
    num_expected: int  # nets that the finished run has measured
    seconds_left: float | None = None
    rows: pandas.DataFrame = field(default_factory=pandas.DataFrame)
    corruptions: pandas.DataFrame = field(default_factory=pandas.DataFrame)
    summary: pandas.DataFrame = field(default_factory=pandas.DataFrame)
    failures: pandas.DataFrame = field(default_factory=pandas.DataFrame)
    layers: pandas.DataFrame | None = None
    environment: dict[str, Any] = field(default_factory=dict)
