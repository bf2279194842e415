"""`compile: auto`: what is decided from which measurements, and that a run stays with it."""

import json

import pytest

import experiment
from experiment.config.schema import DatasetPart, Training
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.data.loading import load_data
from experiment.nets.building import build_network
from experiment.runs import compilation
from experiment.runs.compilation import planned_steps
from experiment.runs.serial import run
from experiment.runs.workplace import Workplace
from experiment.training import step_times
from experiment.training.step_times import StepTimes, pays_to_compile
from experiment.training.trainer import Trainer

AUTO = ["training.compile=auto", "pruning.methods=[WT]", "pruning.keep_ratios=[0.5]"]


@pytest.fixture(scope="module")
def trainer():
    return Trainer(load_data(DatasetPart(name="digits"), Stream(0)))


@pytest.fixture
def net():
    return build_network("lenet300_100", input_shape=(1, 8, 8), num_classes=10)


@pytest.fixture
def measured(monkeypatch):
    """A plain step of 1 s, a compiled one of 0.75 s, and a warm-up of 30 s."""
    asked = []

    def known(trainer, net, settings):
        asked.append(settings.compile)
        return {"off": StepTimes(5.0, 1.0), "on": StepTimes(30.0, 0.75)}[settings.compile]

    monkeypatch.setattr(step_times, "step_times", known)
    return asked


@pytest.mark.parametrize(
    ("num_steps", "expected", "asked"),
    [
        (19, False, ["off"]),  # could save 9.5 s at best, and no warm-up takes less than 10 s
        (120, False, ["off", "on"]),  # saves 30 s, which is what the warm-up takes
        (121, True, ["off", "on"]),
    ],
)
def test_it_pays_where_the_training_is_longer(trainer, net, measured, num_steps, expected, asked):
    pays, seconds = pays_to_compile(trainer, net, Training(batch_size=64), num_steps)
    assert pays is expected and measured == asked
    assert seconds["plain_step"] == 1.0


def test_batches_larger_than_the_training_images_are_never_compiled(trainer, net, measured):
    assert pays_to_compile(trainer, net, Training(batch_size=10_000), 10**9) == (False, {})
    assert measured == []


def test_steps_are_really_timed(trainer, net):
    times = step_times.step_times(trainer, net, Training(batch_size=64))
    assert 0 < times.step < times.warm_up


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
    assert before["training"]["plain_step"] > 0
    monkeypatch.setattr(compilation, "pays_to_compile", lambda *arguments: 1 / 0)
    assert run(config, tmp_path / "r").failures == []
    assert decision(tmp_path / "r") == before
    assert "compile: auto" in (tmp_path / "r" / "config.yaml").read_text()


def test_nothing_is_measured_if_nothing_is_open(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "pays_to_compile", lambda *arguments: 1 / 0)
    run(experiment.load_config(small_config, ["pruning.schedule=train"]), tmp_path / "r")
    assert not (tmp_path / "r" / "compilation.json").exists()


def test_a_net_that_cannot_be_compiled_is_not(small_config, tmp_path, monkeypatch):
    def fails(*arguments):
        raise UserError("no compiler")

    monkeypatch.setattr(compilation, "pays_to_compile", fails)
    assert run(experiment.load_config(small_config, AUTO), tmp_path / "r").failures == []
    assert decision(tmp_path / "r")["training"] == {"compile": "off", "reason": "no compiler"}
