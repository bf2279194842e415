"""The certified error of whole nets, for the methods of an experiment that have one."""

from dataclasses import replace

import pandas

from experiment.certification.network_theorem import compare_outputs
from experiment.reporting.logger import Logger
from experiment.runs.guarantees.net_under_test import BATCH, NetUnderTest

NAME = "network_theorem"
SHOWN = [
    *("method", "net_seed", "error", "keep_ratio", "certified", "measured_median", "measured_max"),
    *("share_above", "share_within", "share_above_within"),
]


def measure(net: NetUnderTest, logger: Logger) -> pandas.DataFrame:
    """One row for each method with an error, on some test images; empty without such methods."""
    prunings = [task for task in net.prunings if task.method.decides_size]
    if not prunings:
        return pandas.DataFrame()
    pruner = net.pruner()
    pruned = [one for _, one in replace(net, prunings=prunings).each_pruned(pruner)]
    fresh = list(net.fresh.batches(BATCH))
    table = compare_outputs(pruner.analysis, pruned, fresh)
    table.insert(0, "method", [task.place.method for task in prunings])
    table.insert(1, "net_seed", net.first.place.net_seed)
    return table


def show(rows: pandas.DataFrame, logger: Logger) -> None:
    """Show the main columns."""
    shown = rows[SHOWN].to_string(index=False, float_format="{:.3g}".format)
    logger.say(f"relative errors of outputs, certified for the whole net and measured\n{shown}")
