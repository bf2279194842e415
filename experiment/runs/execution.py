"""Executing one task: what each kind of task does with its inputs."""

import functools
import time
from collections.abc import Sequence
from dataclasses import replace

from experiment.core.registry import METHODS
from experiment.data.loading import SAMPLE_BATCH
from experiment.nets.collapse import has_constant_output
from experiment.nets.metrics import flop_keep_ratio
from experiment.nets.state import NetState
from experiment.runs.records import EvaluatedRecord, PrunedRecord, TrainedRecord
from experiment.runs.results import Result
from experiment.runs.tasks import Evaluate, Prune, Retrain, Task, Train
from experiment.runs.workplace import Workplace


@functools.singledispatch
def execute(task: Task, inputs: Sequence[Result], workplace: Workplace) -> Result:
    """The result of a task.

    It depends on nothing but the task, the results of its inputs in their order, and the data of
    the workplace, which must be one for this experiment: `Workplace.of(task)`. So any process may
    execute any task.
    """
    raise TypeError(f"a {type(task).__name__} cannot be executed")


@execute.register
def _train(task: Train, inputs: Sequence[Result], workplace: Workplace) -> Result:
    if inputs:
        state = inputs[0].state
        before = inputs[0].record
        assert isinstance(before, TrainedRecord)
    else:
        state = workplace.initial_state(task)
        before = TrainedRecord(epochs=[], seconds=0.0)
    start = time.perf_counter()
    trained, epochs = workplace.trainer.fit(
        workplace.net(task.network),
        state,
        task.settings,
        task.net_stream.child("train"),
        until=task.until,
        label=task.label,
        on_epoch=functools.partial(workplace.on_epoch, task),
    )
    if task.until >= task.settings.epochs:  # no training goes on from here
        trained = replace(trained, optimizer={}, epoch=0)
    record = TrainedRecord(
        epochs=before.epochs + epochs,
        seconds=before.seconds + time.perf_counter() - start,
    )
    return Result(record, trained)


@execute.register
def _prune(task: Prune, inputs: Sequence[Result], workplace: Workplace) -> Result:
    pruner = workplace.pruner(task, inputs[0].state)
    method = METHODS.build(task.method.name, task.method.options)
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
    )
    return Result(record, NetState.of(pruned.net, pruned.masks))


@execute.register
def _retrain(task: Retrain, inputs: Sequence[Result], workplace: Workplace) -> Result:
    start = time.perf_counter()
    pruned = inputs[0].state
    weights = inputs[1].state if len(inputs) > 1 else pruned
    retrained, epochs = workplace.trainer.fit(
        workplace.net(task.network),
        NetState(weights.tensors, pruned.masks, epoch=task.first_epoch),
        task.settings,
        task.repetition_stream.child("retrain", task.place.step),
        label=task.label,
        on_epoch=functools.partial(workplace.on_epoch, task),
    )
    record = TrainedRecord(epochs=epochs, seconds=time.perf_counter() - start)
    return Result(record, replace(retrained, optimizer={}, epoch=0))


@execute.register
def _evaluate(task: Evaluate, inputs: Sequence[Result], workplace: Workplace) -> Result:
    net = workplace.net(task.network)
    inputs[0].state.load_into(net)
    data = workplace.data
    validation = workplace.trainer.evaluate(net, data.validation)
    test = workplace.trainer.evaluate(net, data.test)
    record = EvaluatedRecord(
        validation_accuracy=validation.accuracy,
        test_accuracy=test.accuracy,
        test_top5=test.top5,
        test_loss=test.loss,
        constant_output=has_constant_output(net, data.validation.batches(SAMPLE_BATCH)),
    )
    return Result(record)
