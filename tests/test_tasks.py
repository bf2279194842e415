"""The tasks of an experiment: what they are, and that any process may execute them in any order."""

import dataclasses
import pickle
import random
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

import experiment
from experiment.core.seeding import Stream
from experiment.data.loading import load_data
from experiment.nets.state import NetState
from experiment.runs.execution import execute
from experiment.runs.ledger import kept_nets
from experiment.runs.records import TrainedRecord, to_json
from experiment.runs.results import Result
from experiment.runs.tasks import Evaluate, Prune, Retrain, Train
from experiment.runs.workplace import Workplace

TINY = """
network: {name: lenet300_100}
dataset: {name: digits, crop_padding: 1}
training: {epochs: 2, batch_size: 128, optimizer: {lr: 0.05}}
retraining: {epochs: 1}
pruning: {methods: [SiPP, {name: WT, allocation: uniform}], keep_ratios: [0.5, 0.2]}
"""


@pytest.fixture
def tiny(tmp_path):
    """A function from overrides to a configuration whose tasks take a fraction of a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return lambda *overrides: experiment.load_config(path, list(overrides))


@pytest.fixture(scope="module")
def data():
    from experiment.config.schema import DatasetPart

    return load_data(DatasetPart(name="digits", crop_padding=1), Stream(0))


def keys(config):
    return [task.key for task in experiment.tasks(config)]


def inputs(config):
    return {task.key: task.inputs for task in experiment.tasks(config)}


def execute_all(tasks, workplace):
    """The results of tasks, executed in the given order."""
    results = {}
    for task in tasks:
        results[task.key] = execute(task, [results[key] for key in task.inputs], workplace)
    return results


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key != "seconds"}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def assert_equal_results(one, other):
    assert without_times(to_json(one.record)) == without_times(to_json(other.record))
    assert one.has_state == other.has_state
    if one.has_state:
        assert one.state.digest == other.state.digest


def test_a_cascade_is_this_list(tiny):
    assert keys(tiny("pruning.methods=[WT]", "pruning.retrain_count=1")) == [
        "net0/train",
        "net0/evaluate",
        "net0/repetition0/0-WT/001-prune",
        "net0/repetition0/0-WT/001-evaluate-pruned",
        "net0/repetition0/0-WT/002-prune",
        "net0/repetition0/0-WT/002-evaluate-pruned",
        "net0/repetition0/0-WT/002-retrain",
        "net0/repetition0/0-WT/002-evaluate",
    ]


def test_options_are_part_of_the_key(tiny):
    assert "net0/repetition0/1-WT_allocation=uniform_/001-prune" in keys(tiny())


@pytest.mark.parametrize(
    ("schedule", "source_of_second", "retrain_inputs"),
    [
        ("cascade", "net0/repetition0/0-WT/001-retrain", 1),
        ("oneshot", "net0/train", 1),
        ("random", "net0/initialise", 1),
        ("rewind", "net0/repetition0/0-WT/001-retrain", 2),
    ],
)
def test_what_tasks_start_from(tiny, schedule, source_of_second, retrain_inputs):
    config = tiny(f"pruning.schedule={schedule}", "pruning.methods=[WT]", "retraining.epochs=2")
    found = inputs(config)
    assert found["net0/repetition0/0-WT/002-prune"] == (source_of_second,)
    assert len(found["net0/repetition0/0-WT/002-retrain"]) == retrain_inputs
    if schedule == "rewind":
        assert found["net0/repetition0/0-WT/001-retrain"][1] == "net0/train-early"
        assert found["net0/train"] == ("net0/train-early",)


@pytest.mark.parametrize("schedule", ["cascade", "oneshot", "random", "rewind", "train"])
def test_inputs_come_first_and_keys_are_unique(tiny, schedule):
    config = tiny(
        f"pruning.schedule={schedule}", "num_nets=2", "num_repetitions=2", "retraining.epochs=2"
    )
    seen = set()
    for task in experiment.tasks(config):
        assert set(task.inputs) <= seen
        assert task.key not in seen
        seen.add(task.key)
    kinds = {type(task) for task in experiment.tasks(config)}
    expected = {Train, Evaluate} if schedule == "train" else {Train, Prune, Retrain, Evaluate}
    assert kinds == expected


def test_tasks_are_plain_data(tiny):
    tasks = experiment.tasks(tiny())
    assert tasks == experiment.tasks(tiny())
    assert pickle.loads(pickle.dumps(tasks)) == tasks
    assert len(set(tasks + experiment.tasks(tiny()))) == len(tasks)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tasks[0].seed = 3


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=1", {Train, Prune, Retrain, Evaluate}),
        ("network.name=lenet5", {Train, Prune, Retrain, Evaluate}),
        ("dataset.validation_fraction=0.2", {Train, Prune, Retrain, Evaluate}),
        ("training.optimizer.lr=0.01", {Train, Retrain}),
        ("retraining.epochs=2", {Retrain}),
        ("pruning.delta=0.1", {Prune}),
        ("pruning.sample_size=10", {Prune}),
        ("pruning.min_kept_per_layer=1", {Prune}),
        ("pruning.keep_ratios=[0.6, 0.2]", {Prune, Retrain}),  # the latter's label
        ("pruning.commensurate_margin=0.1", set()),
        ("checkpoints=all", set()),
    ],
)
def test_tasks_say_all_that_their_numbers_depend_on(tiny, override, changed):
    before = {task.key: task for task in experiment.tasks(tiny())}
    after = {task.key: task for task in experiment.tasks(tiny(override))}
    assert before.keys() == after.keys()
    assert {type(before[key]) for key in before if before[key] != after[key]} == changed


def fingerprint(config):
    return experiment.tasks(config)[0].fingerprint()


def test_equal_trainings_have_equal_fingerprints(tiny):
    first = fingerprint(tiny())
    same = ("pruning.delta=1", "retraining.epochs=3", "num_nets=2", "num_repetitions=4")
    assert fingerprint(tiny(*same)) == first
    others = [
        fingerprint(tiny(override))
        for override in (
            "seed=1",
            "training.epochs=3",
            "dataset.crop_padding=0",
            "network.name=lenet5",
        )
    ]
    assert len({first, *others}) == 5
    assert (
        len(
            {
                task.fingerprint()
                for task in experiment.tasks(tiny("num_nets=3"))
                if isinstance(task, Train)
            }
        )
        == 3
    )


def test_where_the_data_lie_is_no_part_of_a_fingerprint(tiny):
    here, there = (tiny("dataset.name=CIFAR10", f"dataset.root={root}") for root in ("a", "b"))
    assert fingerprint(here) == fingerprint(there)


def test_a_fresh_process_needs_the_task_its_inputs_and_the_data(tiny, data, tmp_path):
    tasks = experiment.tasks(tiny())
    results = execute_all(tasks, Workplace(data))
    chosen = [
        next(task for task in tasks if isinstance(task, kind))
        for kind in (Train, Prune, Retrain, Evaluate)
    ]
    work = [(task, [results[key] for key in task.inputs]) for task in chosen]
    (tmp_path / "work").write_bytes(pickle.dumps(work))
    code = (
        "import pickle, sys, torch; torch.set_num_threads(1)\n"
        "from experiment.runs.execution import execute\n"
        "from experiment.runs.workplace import Workplace\n"
        "work = pickle.load(open(sys.argv[1], 'rb'))\n"
        "found = [execute(task, inputs, Workplace.of(task)) for task, inputs in work]\n"
        "pickle.dump(found, open(sys.argv[2], 'wb'))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "work"), str(tmp_path / "found")]
    subprocess.run(command, cwd=ROOT, check=True)
    found = pickle.loads((tmp_path / "found").read_bytes())
    for task, result in zip(chosen, found, strict=True):
        assert_equal_results(results[task.key], result)


@pytest.mark.parametrize("schedule", ["cascade", "rewind"])
def test_the_order_of_execution_makes_no_difference(tiny, data, schedule):
    config = tiny(f"pruning.schedule={schedule}", "num_nets=2", "retraining.epochs=2")
    tasks = experiment.tasks(config)
    expected = execute_all(tasks, Workplace(data))
    waiting = tasks.copy()
    shuffled = []
    generator = random.Random(0)
    while waiting:
        done = {task.key for task in shuffled}
        ready = [task for task in waiting if done.issuperset(task.inputs)]
        shuffled.append(generator.choice(ready))
        waiting.remove(shuffled[-1])
    assert shuffled != tasks
    found = execute_all(shuffled, Workplace(data))
    for key, result in expected.items():
        assert_equal_results(result, found[key])


class Remembering(torch.nn.Module):
    """A net with a buffer that its state_dict does not hold and that every forward pass changes."""

    def __init__(self, *, num_classes: int):
        super().__init__()
        self.linear = torch.nn.Linear(64, num_classes)
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def forward(self, images):
        if self.training:
            self.scale = self.scale * 1.01
        return self.linear(images.flatten(1)) * self.scale


def test_a_buffer_that_is_not_stored_does_not_leak_into_the_next_task(tiny, data):
    config = tiny("network.name=test_tasks:Remembering")
    tasks = experiment.tasks(config)
    expected = execute_all(tasks, Workplace(data))
    alone = {}
    for task in tasks:
        inputs = [expected[key] for key in task.inputs]
        alone[task.key] = execute(task, inputs, Workplace(data))
    for key, result in expected.items():
        assert_equal_results(result, alone[key])


def test_a_rewind_trains_as_if_it_had_never_stopped(tiny, data):
    """Its training is two tasks, and leads to the same net as one."""
    whole = execute_all(experiment.tasks(tiny("pruning.schedule=train")), Workplace(data))
    rewind = tiny("pruning.schedule=rewind", "retraining.epochs=2")
    parts = [task for task in experiment.tasks(rewind) if isinstance(task, Train)]
    assert [task.until for task in parts] == [1, 2]
    found = execute_all(parts, Workplace(data))
    assert_equal_results(whole["net0/train"], found["net0/train"])
    losses = [
        [epoch.train_loss for epoch in results["net0/train"].record.epochs]
        for results in (whole, found)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 2


def test_a_workplace_builds_a_net_once_and_shares_what_is_known_of_an_unpruned_net(tiny, data):
    tasks = experiment.tasks(tiny("num_repetitions=2"))
    workplace = Workplace(data)
    trained = execute(tasks[0], [], workplace).state
    net = workplace.net(tasks[0].network)
    prunings = [task for task in tasks if isinstance(task, Prune)]
    first = workplace.pruner(prunings[0], trained)
    assert workplace.net(prunings[0].network) is net
    other_method = next(task for task in prunings if task.place.method != prunings[0].place.method)
    assert workplace.pruner(other_method, trained) is first
    other_sample = next(task for task in prunings if task.place.repetition == 1)
    assert workplace.pruner(other_sample, trained) is not first
    execute(prunings[0], [Result(TrainedRecord(epochs=[], seconds=0.0), trained)], workplace)
    assert trained.digest == NetState(trained.tensors, trained.masks).digest


def test_which_nets_are_kept(tiny):
    kept = kept_nets(experiment.tasks(tiny("pruning.schedule=rewind", "retraining.epochs=2")))
    assert kept == {
        "net0/train",
        "net0/train-early",
        "net0/repetition0/0-SiPP/002-retrain",
        "net0/repetition0/1-WT_allocation=uniform_/002-retrain",
    }


def test_tasks_needs_a_configuration():
    with pytest.raises(experiment.UserError, match="tasks needs a configuration"):
        experiment.tasks("small.yaml")
