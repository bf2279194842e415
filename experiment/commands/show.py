"""Show a run: its state, settings that are not the defaults, summary, and what has failed."""

import argparse
from typing import TYPE_CHECKING

from experiment.core.console import say

if TYPE_CHECKING:
    import pandas

    from experiment.config.schema import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", help="directory of a run, or one that holds a single run"
    )


def run(options: argparse.Namespace) -> int:
    from experiment.commands.list import described
    from experiment.config.schedules import keep_ratios
    from experiment.reporting.shown_tables import shown_table
    from experiment.reporting.summary_text import summary_text
    from experiment.runs.found import found_run

    found = found_run(options.run)
    say(f"run: {found.directory}\nstate: {found.state}")
    for name, value in described(found).items():
        if value:
            say(f"{name}: {value}")
    ratios = keep_ratios(found.config.pruning)
    say(f"keep ratios: {', '.join(f'{ratio:.4g}' for ratio in ratios) or 'none'}")
    say("\nsettings that are not the defaults:")
    say(shown_table(changed_settings(found.config), "text"))
    if found.num_rows and len(found.summary):
        say(f"\n{summary_text(found.summary)}")
    if len(found.failures):
        say(f"\nfailed:\n{shown_table(found.failures, 'text')}")
    return 0


def changed_settings(config: "Config") -> "pandas.DataFrame":
    """Settings and defaults, where they differ; methods and keep ratios are left out."""
    from experiment.reporting.comparison import settings_that_differ

    default = type(config)(network=config.network)
    values = {"setting": config.model_dump(), "default": default.model_dump()}
    for settings in values.values():
        del settings["pruning"]["methods"], settings["pruning"]["keep_ratios"]
    return settings_that_differ(values)
