"""The rows of results.csv, from the records of the tasks that contribute to them."""

from collections.abc import Mapping, Sequence

from experiment.core.columns import as_dict
from experiment.core.text import visible
from experiment.nets.collapse import collapse_notes
from experiment.reporting.records import ResultRecord
from experiment.runs.records import EvaluatedRecord, PrunedRecord, TrainedRecord
from experiment.runs.results import Result
from experiment.runs.tasks import Evaluate, Prune, Task

UNPRUNED = PrunedRecord(
    keep_ratio=1.0,
    flop_keep_ratio=1.0,
    seconds=0.0,
    evaluations=0,
    size_note=None,
    empty_layers=[],
    constant_before=False,
)


def result_row(
    evaluations: Sequence[Evaluate], tasks: Mapping[str, Task], results: Mapping[str, Result]
) -> ResultRecord:
    """The row to which the evaluations of one place lead.

    There are two where a pruned net was retrained, one before and one after.
    """
    first = evaluations[0]
    last = evaluations[-1]
    before = results[first.key].record
    after = results[last.key].record
    assert isinstance(before, EvaluatedRecord) and isinstance(after, EvaluatedRecord)
    pruned = results[first.inputs[0]].record
    trained = results[last.inputs[0]].record
    prune = tasks[first.inputs[0]]
    if not isinstance(pruned, PrunedRecord):
        pruned = UNPRUNED
    notes = collapse_notes(pruned.empty_layers, after.constant_output, pruned.constant_before)
    if pruned.size_note is not None:
        notes = [pruned.size_note, *notes]
    return ResultRecord(
        **as_dict(first.place),
        network=visible(first.network.name),
        dataset=visible(first.dataset.name),
        keep_ratio_requested=requested_ratio(prune, pruned),
        keep_ratio=pruned.keep_ratio,
        prune_ratio=1 - pruned.keep_ratio,
        flop_keep_ratio=pruned.flop_keep_ratio,
        retrained=last is not first,
        accuracy_before_retraining=before.test_accuracy,
        validation_accuracy=after.validation_accuracy,
        test_accuracy=after.test_accuracy,
        test_top5=after.test_top5,
        test_loss=after.test_loss,
        constant_output=after.constant_output,
        prune_seconds=pruned.seconds,
        retrain_seconds=trained.seconds if isinstance(trained, TrainedRecord) else 0.0,
        empty_layers=len(pruned.empty_layers),
        note=visible("; ".join(notes)) or None,
    )


def requested_ratio(task: Task, pruned: PrunedRecord) -> float:
    """The share to keep, as the task says, or else as its method decided; 1 without pruning."""
    asked = task.keep_ratio if isinstance(task, Prune) else 1.0
    if asked is None:
        asked = pruned.keep_ratio_requested
    assert asked is not None  # the record of a method that decides has it
    return asked
