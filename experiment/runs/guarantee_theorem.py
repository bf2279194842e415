"""The certified error of whole nets, for the methods of an experiment that have one."""

from pathlib import Path

import pandas

from experiment.certification.network_theorem import compare_outputs
from experiment.core.files import write_whole
from experiment.nets.state import NetState
from experiment.pruning.method import build_method
from experiment.reporting.logger import Logger
from experiment.runs.tasks import Prune, Task
from experiment.runs.workplace import Workplace

FILE_NAME = "network_theorem.csv"
FRESH_BATCH = 32
SHOWN = [
    *("method", "error", "keep_ratio", "certified", "measured_median", "measured_max"),
    *("share_above", "share_within", "share_above_within"),
]


def measure_network(
    of_net: list[Task], trained: NetState, workplace: Workplace, num_fresh: int
) -> pandas.DataFrame:
    """One row for each method with an error: its net, pruned from the trained one, on test images.

    Empty if there is no such method. Repetitions are not repeated.
    """
    prunings = [
        task
        for task in of_net
        if isinstance(task, Prune) and task.method.decides_size and not task.place.repetition
    ]
    if not prunings:
        return pandas.DataFrame()
    stream = prunings[0].net_stream.child("guarantee")
    pruner = workplace.pruner(prunings[0], trained)
    pruned = [
        pruner.prune(
            build_method(task.method.name, task.method.options),
            None,
            stream.child("prune", task.place.step),
        )
        for task in prunings
    ]
    test = workplace.data.test
    chosen = stream.child("images").permutation(len(test))[:num_fresh]
    fresh = list(test.subset(chosen).batches(FRESH_BATCH))
    table = compare_outputs(pruner.analysis, pruned, fresh)
    table.insert(0, "method", [task.place.method for task in prunings])
    table.insert(1, "net_seed", prunings[0].place.net_seed)
    return table


def write_network_theorem(
    tables: list[pandas.DataFrame], directory: Path, logger: Logger
) -> Path | None:
    """Write and show the tables of all nets, if any method has an error."""
    rows = pandas.concat(tables, ignore_index=True)
    if not len(rows):
        return None
    path = directory / FILE_NAME
    write_whole(path, rows.to_csv(index=False))
    shown = rows[SHOWN].to_string(index=False, float_format="{:.3g}".format)
    logger.say(f"relative errors of outputs, certified for the whole net and measured\n{shown}")
    logger.say(f"table: {path}")
    return path
