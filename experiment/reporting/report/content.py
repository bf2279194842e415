"""What a report tells of one run, read from its directory by whoever knows where things are."""

from dataclasses import dataclass, field
from typing import Any

import pandas

from experiment.config.schema import Config

LAYERS = ["method", "layer", "step", "keep_ratio"]  # columns of the table of layers
STATES = ("done", "running", "failed", "interrupted")


@dataclass(frozen=True, kw_only=True)
class RunContent:
    """The state, the configuration and the tables of a run.

    `rows`, `summary` and `failures` are the tables of the same names, empty if there are none.
    `layers` says which share of each layer is kept, a mean over nets; None where nobody wrote it.
    """

    label: str  # tells the run from others on the page
    directory: str
    state: str  # one of STATES
    config: Config
    num_expected: int  # nets that the finished run has measured
    seconds_left: float | None = None
    rows: pandas.DataFrame = field(default_factory=pandas.DataFrame)
    summary: pandas.DataFrame = field(default_factory=pandas.DataFrame)
    failures: pandas.DataFrame = field(default_factory=pandas.DataFrame)
    layers: pandas.DataFrame | None = None
    environment: dict[str, Any] = field(default_factory=dict)
