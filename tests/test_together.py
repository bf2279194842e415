"""Several nets trained at once: the same numbers, in tasks, in runs, and when one of them fails."""

import pandas
import pytest
import torch
from torch import nn

import experiment
from experiment.config.schema import DatasetPart, Training
from experiment.core.seeding import Stream, Turns
from experiment.data.loading import load_data
from experiment.nets.masks import keep_all
from experiment.nets.state import NetState
from experiment.pruning.pruner import Pruner
from experiment.runs.driver import run
from experiment.runs.results import Store
from experiment.runs.tasks import Evaluate, Prune, Retrain, Train
from experiment.runs.waiting import Waiting
from experiment.training.trainer import DivergedError, Fit, Trainer

TIMES = ["prune_seconds", "retrain_seconds"]
ROW = ["method", "net_seed", "repetition", "step"]


@pytest.fixture(scope="module")
def data():
    return load_data(DatasetPart(name="digits", crop_padding=1), Stream(0))


def net_with_dropout(seed: int) -> nn.Module:
    with Stream(seed).as_global():
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
            nn.Linear(144, 10),
        )  # fmt: skip


def fit(seed: int, **settings) -> Fit:
    """A training of a net of its own; half of the weights of net 1 are masked."""
    net = net_with_dropout(seed)
    masks = keep_all(net)
    if seed == 1:
        masks["5.weight"][:, ::2] = False
    options = {"epochs": 2, "batch_size": 64} | settings
    return Fit(
        net=net, state=NetState.of(net, masks), settings=Training(**options), stream=Stream(seed)
    )


def assert_equal(one, other):
    state, records = one
    other_state, other_records = other
    assert state.digest == other_state.digest
    assert [record.train_loss for record in records] == [
        record.train_loss for record in other_records
    ]


def test_nets_trained_at_once_are_those_trained_one_by_one(data):
    lengths = [{"epochs": 2}, {"epochs": 1}, {"epochs": 3, "batch_size": 100}]
    fits = [fit(seed, **length) for seed, length in enumerate(lengths)]
    alone = [Trainer(data).fit(one) for one in fits]
    torch.manual_seed(77)
    before = torch.get_rng_state()
    together = Trainer(data).fit_together(fits)
    assert torch.equal(before, torch.get_rng_state())
    for one, other in zip(alone, together):
        assert_equal(one, other)
    assert len({state.digest for state, _ in together}) == 3


def test_dropout_would_notice_if_they_shared_random_numbers(data):
    """The test above would prove nothing if dropout did not matter."""
    trained = Trainer(data).fit(fit(0))
    other = fit(0)
    reseeded = Fit(net=other.net, state=other.state, settings=other.settings, stream=Stream(5))
    assert trained[0].digest != Trainer(data).fit(reseeded)[0].digest


def test_a_training_that_diverges_leaves_the_others_alone(data):
    alone = Trainer(data).fit(fit(1))
    outcomes = Trainer(data).fit_together([fit(0, optimizer={"lr": 1e30}), fit(1)])
    assert isinstance(outcomes[0], DivergedError)
    assert_equal(alone, outcomes[1])


def test_users_that_take_turns_have_random_numbers_of_their_own():
    first, second = Turns(), Turns()
    drawn = {first: [], second: []}
    for turn in (first, second):
        with turn.turn():
            torch.manual_seed(0)
    for turn in (first, second, second, first):
        with turn.turn():
            drawn[turn].append(float(torch.rand(())))
    torch.manual_seed(0)
    expected = torch.rand(2).tolist()
    assert drawn[first] == expected and drawn[second] == expected


@pytest.fixture
def config(small_config):
    overrides = ["num_nets=2", "training.epochs=1", "retraining.epochs=1"]
    return lambda *more: experiment.load_config(small_config, [*overrides, *more])


def test_a_run_finds_the_same_numbers(config, tmp_path):
    """Of four nets that could be retrained at once, three are, or all of them."""
    tables = []
    for number in ("auto", 3, 100):
        directory = tmp_path / str(number)
        assert run(config(f"nets_at_once={number}"), directory).failures == []
        table = pandas.read_csv(directory / "results.csv").drop(columns=TIMES)
        tables.append(table.sort_values(ROW, ignore_index=True))
    for table in tables[1:]:
        pandas.testing.assert_frame_equal(tables[0], table, check_exact=True)
    assert config("nets_at_once=3").run_id() == config().run_id()


def test_a_method_that_fails_leaves_those_beside_it_alone(config, tmp_path, monkeypatch):
    """The learning rate of all retrainings is fine; one of the states is not."""
    damaged = []

    def spoil(store, key, *arguments):
        saved = save(store, key, *arguments)
        if key.endswith("0-SiPP/001-prune") and not damaged:
            damaged.append(key)
            state = saved.state
            broken = {name: torch.full_like(t, torch.inf) for name, t in state.tensors.items()}
            saved._state = NetState(broken, state.masks)
        return saved

    save = Store.save
    monkeypatch.setattr(Store, "save", spoil)
    outcome = run(config("nets_at_once=4"), tmp_path / "r")
    assert len(outcome.failures) == 1 and "net 0  SiPP" in outcome.failures[0]
    rows = pandas.read_csv(tmp_path / "r" / "results.csv")
    assert rows.groupby(["net_seed", "method"]).size().to_dict() == {
        (0, "WT"): 2, (0, "reference"): 1, (1, "SiPP"): 2, (1, "WT"): 2, (1, "reference"): 1,
    }  # fmt: skip


@pytest.mark.parametrize("at_once", [1, 4])
def test_what_comes_before_a_failure_is_finished(config, tmp_path, monkeypatch, at_once):
    """A method that fails at its second ratio has the row of the first one, however it is run."""

    def fails_at_the_second_ratio(pruner, method, keep_ratio, stream):
        if keep_ratio == 0.2:
            raise RuntimeError("no")
        return prune(pruner, method, keep_ratio, stream)

    prune = Pruner.prune
    monkeypatch.setattr(Pruner, "prune", fails_at_the_second_ratio)
    asked = config(f"nets_at_once={at_once}", "pruning.schedule=oneshot")
    assert len(run(asked, tmp_path / "r").failures) == 4
    rows = pandas.read_csv(tmp_path / "r" / "results.csv")
    assert sorted(rows["step"]) == [0, 0, 1, 1, 1, 1]


def taken(config, at_once):
    """The groups in which the tasks of an experiment are done."""
    waiting = Waiting(experiment.tasks(config))
    groups = []
    done: set[str] = set()
    while waiting:
        group = waiting.take(at_once)
        assert group and all(done.issuperset(task.inputs) for task in group)
        done.update(task.key for task in group)
        for task in group:
            waiting.finished(task)
        groups.append(group)
    return groups


def test_one_at_a_time_is_the_order_of_the_list(config):
    keys = [task.key for group in taken(config(), 1) for task in group]
    assert keys == [task.key for task in experiment.tasks(config())]


def test_trainings_wait_for_each_other_and_nothing_else_is_done_together(config):
    groups = taken(config(), 4)
    assert sum(map(len, groups)) == len(experiment.tasks(config()))
    trainings = [group for group in groups if isinstance(group[0], Train | Retrain)]
    assert [len(group) for group in trainings] == [2, 4, 4]  # 2 nets; 2 nets x 2 methods; again
    assert all(isinstance(task, Train | Retrain) for group in trainings for task in group)
    others = [group for group in groups if isinstance(group[0], Prune | Evaluate)]
    assert all(len(group) == 1 for group in others)


def test_what_follows_from_a_failure_is_given_up(config):
    tasks = experiment.tasks(config())
    waiting = Waiting(tasks)
    named = {task.key: task for task in tasks}
    given_up = [task.key for task in waiting.give_up(named["net0/repetition0/0-SiPP/001-retrain"])]
    assert len(given_up) == 5 and all("0-SiPP" in key for key in given_up)
    assert "net0/repetition0/0-SiPP/001-evaluate-pruned" not in given_up  # comes before
    assert {task.key.split("/")[0] for task in waiting.give_up(named["net1/train"])} == {"net1"}
