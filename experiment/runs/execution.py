"""Executing one task: what each kind of task does with its inputs."""

import functools
import time
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from experiment.core.seeding import Stream
from experiment.data.loading import SAMPLE_BATCH
from experiment.nets.collapse import has_constant_output
from experiment.nets.metrics import flop_keep_ratio, kept_by_layer
from experiment.nets.state import NetState
from experiment.pruning.method import build_method
from experiment.runs.records import CorruptedRecord, EvaluatedRecord, PrunedRecord, TrainedRecord
from experiment.runs.results import Result
from experiment.runs.tasks import Evaluate, EvaluateCorrupted, Prune, Retrain, Task, Train
from experiment.runs.workplace import Workplace
from experiment.training.checkpoints import Checkpoints
from experiment.training.evaluation import outputs
from experiment.training.records import EpochRecord
from experiment.training.trainer import Fit


@functools.singledispatch
def execute(task: Task, inputs: Sequence[Result], workplace: Workplace) -> Result:
    """The result of a task.

    It depends on nothing but the task, the results of its inputs in their order, and the data of
    the workplace, which must be one for this experiment: `Workplace.of(task)`. So any process may
    execute any task.
    """
    raise TypeError(f"a {type(task).__name__} cannot be executed")


@execute.register
def _train(task: Train | Retrain, inputs: Sequence[Result], workplace: Workplace) -> Result:
    [outcome] = train_together([task], [inputs], workplace)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@execute.register
def _prune(task: Prune, inputs: Sequence[Result], workplace: Workplace) -> Result:
    pruner = workplace.pruner(task, inputs[0].state)
    method = build_method(task.method.name, task.method.options)
    stream = task.repetition_stream.child("prune", task.place.step)
    try:
        pruned = pruner.prune(method, task.keep_ratio, stream)
    except Exception:
        workplace.forget_pruner()
        raise
    layers = workplace.layers(task.network).prunable
    record = PrunedRecord(
        keep_ratio=pruned.keep_ratio,
        flop_keep_ratio=flop_keep_ratio(layers, pruned.masks),
        seconds=pruned.seconds,
        evaluations=pruned.evaluations,
        size_note=pruned.size_note,
        empty_layers=pruned.empty_layers,
        constant_before=pruned.constant_before,
        kept_by_layer=kept_by_layer(layers, pruned.masks),
        keep_ratio_requested=pruned.keep_ratio_requested if task.keep_ratio is None else None,
    )
    return Result(record, NetState.of(pruned.net, pruned.masks))


@execute.register
def _evaluate(task: Evaluate, inputs: Sequence[Result], workplace: Workplace) -> Result:
    net = workplace.net(task.network)
    inputs[0].state.load_into(net)
    data = workplace.data_of(task)
    test = workplace.trainer.evaluate(net, data.test)
    record = EvaluatedRecord(
        validation_accuracy=validation_accuracy(task, inputs[0], net, workplace),
        test_accuracy=test.accuracy,
        test_top5=test.top5,
        test_loss=test.loss,
        constant_output=has_constant_output(net, data.validation.batches(SAMPLE_BATCH)),
    )
    if task.holdout:
        _, holdout = workplace.divided(task.seed)
        logits, labels = outputs(net, holdout)
        predicted = logits.argmax(1)
        record = replace(
            record,
            holdout_classes=predicted.tolist(),
            holdout_correct=(predicted == labels).tolist(),
        )
    return Result(record)


@execute.register
def _evaluate_corrupted(
    task: EvaluateCorrupted, inputs: Sequence[Result], workplace: Workplace
) -> Result:
    net = workplace.net(task.network)
    inputs[0].state.load_into(net)
    images = workplace.corrupted_test(task.corruption, task.severity, task.seed)
    found = workplace.trainer.evaluate(net, images)
    record = CorruptedRecord(
        corruption=task.corruption,
        severity=task.severity,
        accuracy=found.accuracy,
        loss=found.loss,
    )
    return Result(record)


def train_together(
    tasks: Sequence[Train | Retrain], inputs: Sequence[Sequence[Result]], workplace: Workplace
) -> list[Result | Exception]:
    """The results of several trainings, which are those of one after the other.

    `inputs` are those of each task. A training that fails leaves its exception.
    """
    start = time.perf_counter()
    fits: dict[int, Fit] = {}
    results: dict[int, Result | Exception] = {}
    for seat, (task, of_task) in enumerate(zip(tasks, inputs)):
        try:
            fits[seat] = fit(task, of_task, workplace, seat)
        except Exception as error:
            results[seat] = error
    outcomes = workplace.trainer.fit_together(list(fits.values()))
    seconds = (time.perf_counter() - start) / len(tasks)
    for seat, outcome in zip(fits, outcomes):
        if isinstance(outcome, Exception):
            results[seat] = outcome
        else:
            results[seat] = trained(tasks[seat], inputs[seat], *outcome, seconds)
    return [results[seat] for seat in range(len(tasks))]


def fit(task: Train | Retrain, inputs: Sequence[Result], workplace: Workplace, seat: int) -> Fit:
    """What the Trainer has to do, with the net of that seat."""
    start = time.monotonic()

    def keep(state: NetState, epochs: list[EpochRecord]) -> None:
        result = trained(task, inputs, state, epochs, time.monotonic() - start, to_go_on=True)
        workplace.on_checkpoint(task, result)

    return Fit(
        net=workplace.net(task.network, seat),
        state=initial_state(task, inputs, workplace),
        settings=task.settings,
        stream=training_stream(task),
        until=task.until if isinstance(task, Train) else None,
        label=task.label,
        on_epoch=functools.partial(workplace.on_epoch, task),
        checkpoints=Checkpoints(workplace.checkpoint_seconds, keep),
    )


def initial_state(
    task: Train | Retrain, inputs: Sequence[Result], workplace: Workplace
) -> NetState:
    """Where a training begins or, from a checkpoint, goes on."""
    if isinstance(task, Train):
        return inputs[0].state if inputs else workplace.initial_state(task)
    if isinstance(inputs[0].record, TrainedRecord):
        return inputs[0].state
    weights = inputs[-1].state  # those of an earlier epoch, if there is a second input
    return NetState(weights.tensors, inputs[0].state.masks, epoch=task.first_epoch)


def training_stream(task: Train | Retrain) -> Stream:
    """The random stream of a training."""
    if isinstance(task, Train):
        return task.net_stream.child("train")
    return task.repetition_stream.child("retrain", task.place.step)


def trained(
    task: Train | Retrain,
    inputs: Sequence[Result],
    state: NetState,
    epochs: list[EpochRecord],
    seconds: float,
    *,
    to_go_on: bool = False,
) -> Result:
    """The result of a training; one that went on from another counts the epochs before, too.

    Unless the training will go on from it, the net is the last one of its training.
    """
    before = inputs[0].record if inputs else None
    if isinstance(before, TrainedRecord):
        epochs = before.epochs + epochs
        seconds = before.seconds + seconds
    is_last = isinstance(task, Retrain) or task.until >= task.settings.epochs
    if is_last and not to_go_on:
        state = replace(state, optimizer={}, epoch=0)
    return Result(TrainedRecord(epochs=epochs, seconds=seconds), state)


def validation_accuracy(
    task: Evaluate, evaluated: Result, net: nn.Module, workplace: Workplace
) -> float:
    """The accuracy of the net, which is loaded into `net`.

    Its training has measured it already, unless some of the images are set aside.
    """
    record = evaluated.record
    if not task.holdout and isinstance(record, TrainedRecord) and record.epochs:
        return record.epochs[-1].validation_accuracy
    return workplace.trainer.evaluate(net, workplace.data_of(task).validation).accuracy
