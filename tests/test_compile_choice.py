"""`compile: auto`: what is decided from which measurements, and that a run stays with it."""

import json

import pytest

import experiment
from experiment.config.schema import Config, DatasetPart, NetworkPart, Training
from experiment.core.seeding import Stream
from experiment.data.loading import load_data
from experiment.runs import compile_choice
from experiment.runs.compile_choice import pays_to_compile, planned_steps
from experiment.runs.driver import run
from experiment.runs.timing import TrainingSpeed
from experiment.runs.workplace import Workplace

AUTO = ["training.compile=auto", "pruning.methods=[WT]", "pruning.keep_ratios=[0.5]"]


SETTINGS = Training(batch_size=64, compile="auto")


@pytest.fixture(scope="module")
def workplace():
    return Workplace(load_data(DatasetPart(name="digits"), Stream(0)))


@pytest.fixture
def lenet():
    return Config(network=NetworkPart(name="lenet300_100"))


@pytest.fixture
def measured(monkeypatch):
    """A plain step of 1 s, a compiled one of 0.75 s, and a warm-up of 30 s."""
    asked = []

    def known(workplace, network, versions, nets, evaluation):
        [version] = versions
        asked.append(version.compile)
        seconds = {"off": 1.0, "on": 0.75}[version.compile]
        return [TrainingSpeed(seconds / 64, 64, 30.0)]

    monkeypatch.setattr(compile_choice, "measure_training", known)
    return asked


@pytest.mark.parametrize(
    ("num_steps", "expected", "asked"),
    [
        (19, False, ["off"]),  # could save 9.5 s at best, and no warm-up takes less than 10 s
        (120, False, ["off", "on"]),  # saves 30 s, which is what the warm-up takes
        (121, True, ["off", "on"]),
    ],
)
def test_it_pays_where_training_is_longer(workplace, lenet, measured, num_steps, expected, asked):
    pays, seconds = pays_to_compile(workplace, lenet, SETTINGS, num_steps)
    assert pays is expected and measured == asked
    assert seconds["seconds_per_image"] == 1 / 64


def test_batches_larger_than_the_training_images_are_never_compiled(workplace, lenet, measured):
    settings = Training(batch_size=10_000)
    assert pays_to_compile(workplace, lenet, settings, 10**9) == (False, {})
    assert measured == []


def test_a_net_that_cannot_be_compiled_is_not(workplace, lenet, monkeypatch):
    def fails_if_compiled(workplace, network, versions, nets, evaluation):
        if versions[0].compile == "on":
            return [TrainingSpeed(failure="no compiler")]
        return [TrainingSpeed(1.0, 64)]

    monkeypatch.setattr(compile_choice, "measure_training", fails_if_compiled)
    assert pays_to_compile(workplace, lenet, SETTINGS, 10**6) == (
        False,
        {"seconds_per_image": 1.0, "failure": "no compiler"},
    )


def test_all_trainings_with_the_same_step_count(small_config):
    config = experiment.load_config(
        small_config,
        ["num_nets=2", "training.epochs=3", "retraining.epochs=5", "pruning.methods=[WT, SiPP]"],
    )
    workplace = Workplace(load_data(config.dataset, Stream(0)))
    steps_per_epoch = workplace.data.train.num_batches(64)
    tasks = experiment.tasks(config)
    epochs = 2 * (3 + 2 * 2 * 5)  # 2 nets: their training, and 2 methods at 2 ratios
    assert planned_steps(tasks, config.training, workplace) == epochs * steps_per_epoch
    other = config.training.model_copy(update={"precision": "bfloat16"})
    assert planned_steps(tasks, other, workplace) == 0


def decision(directory):
    return json.loads((directory / "compilation.json").read_text())


def test_a_run_stays_with_what_it_has_decided(small_config, tmp_path, monkeypatch):
    config = experiment.load_config(small_config, AUTO)
    assert run(config, tmp_path / "r").failures == []
    before = decision(tmp_path / "r")
    assert before["training"]["compile"] == before["retraining"]["compile"] == "off"
    assert before["training"]["seconds_per_image"] > 0
    monkeypatch.setattr(compile_choice, "pays_to_compile", lambda *arguments: 1 / 0)
    assert run(config, tmp_path / "r").failures == []
    assert decision(tmp_path / "r") == before
    assert "compile: auto" in (tmp_path / "r" / "config.yaml").read_text()


def test_nothing_is_measured_if_nothing_is_open(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr(compile_choice, "pays_to_compile", lambda *arguments: 1 / 0)
    run(experiment.load_config(small_config, ["pruning.schedule=train"]), tmp_path / "r")
    assert not (tmp_path / "r" / "compilation.json").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"training": {"compile": "on"}}'])
def test_a_damaged_decision_is_made_again(small_config, tmp_path, content):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "compilation.json").write_text(content)
    config = experiment.load_config(small_config, [*AUTO, "pruning.schedule=train"])
    assert run(config, tmp_path / "r").failures == []
    assert decision(tmp_path / "r")["retraining"]["compile"] == "off"
