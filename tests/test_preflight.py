"""Mistakes in own parts are found before anything is trained, and stay where they are later."""

import signal
import sys

import pandas
import pytest
from torch import nn

from experiment.config.loading import load_config
from experiment.core import signals
from experiment.core.own_code import ExitedError, exits_as_errors
from experiment.data.dataset import Dataset, Shape
from experiment.main import main
from experiment.networks.lenet import LeNet5
from experiment.pruning.method import ScoreMethod
from experiment.runs.driver import run
from experiment.runs.preflight import Preflight
from experiment.training.trainer import Trainer


class Typo(ScoreMethod):
    def scores(self, analysis, stream):
        return {name: weight / undefined for name, weight in analysis.weights.items()}  # noqa: F821


class Exits(ScoreMethod):
    def scores(self, analysis, stream):
        sys.exit(3)


class Refuses(ScoreMethod):
    def __init__(self, *, power: float = 1.0):
        raise ValueError(f"not with {power}")

    def scores(self, analysis, stream):
        return analysis.weights


class NoScores(ScoreMethod):
    def scores(self, analysis, stream):
        return None


class OneScore(ScoreMethod):
    def scores(self, analysis, stream):
        return {name: weight[:1] for name, weight in analysis.weights.items()}


class WritesWeights(ScoreMethod):
    def scores(self, analysis, stream):
        for parameter in analysis.net.parameters():
            parameter.data.mul_(2)
        return analysis.weights


class WritesBuffers(ScoreMethod):
    def scores(self, analysis, stream):
        analysis.net.train()
        analysis.net(analysis.batches[0][0])
        return analysis.weights


class LeavesHooks(ScoreMethod):
    def scores(self, analysis, stream):
        for module in analysis.net.modules():
            module.register_forward_hook(lambda *arguments: None)
        return analysis.weights


class WritesSample(ScoreMethod):
    def scores(self, analysis, stream):
        analysis.batches[0][0].zero_()
        return analysis.weights


class NoMethod:
    pass


METHODS = {
    "Typo": "NameError: name 'undefined' is not defined (tests/test_preflight.py, line ",
    "Exits": "ExitedError: sys.exit(3) was called (tests/test_preflight.py, line ",
    "Refuses": "ValueError: not with 1.0 (tests/test_preflight.py, line ",
    "NoScores": "the scores must be a dict of the layers' names and tensors, not None",
    "OneScore": "the scores of layer conv1 must be a tensor like its weight, [16, 1, 3, 3], not ",
    "WritesWeights": "changes what it was given: parameter conv1.weight, ",
    "WritesBuffers": "changes what it was given: buffer bn1.running_mean, ",
    "LeavesHooks": "changes what it was given: module (all), module conv1, ",
    "WritesSample": "changes what it was given: the sample S; it must compute with copies",
    "NoMethod": "returned a NoMethod, not an experiment.pruning.method.Method",
}


def launch(config, results, *overrides: str) -> int:
    settings = [argument for override in overrides for argument in ("--set", override)]
    return main([str(config), "--results", str(results), "--device", "cpu", *settings])


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    from conftest import ROOT

    monkeypatch.chdir(ROOT)  # places are told relative to the current directory


def test_all_methods_are_tried_before_anything_is_trained(small_config, tmp_path, capsys):
    """Each mistake is one line; nothing is written."""
    names = ", ".join(f"'test_preflight:{name}'" for name in METHODS)
    overrides = ["network.name=resnet20", f"pruning.methods=[WT, {names}]"]
    assert launch(small_config, tmp_path / "r", *overrides) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(METHODS)
    for line, (name, expected) in zip(lines, METHODS.items()):
        assert f"{small_config}: method test_preflight:{name}" in line
        assert expected in line
    assert not (tmp_path / "r").exists()


def test_the_traceback_is_shown_on_request(small_config, tmp_path, capsys):
    override = "pruning.methods=['test_preflight:Typo']"
    launch(small_config, tmp_path / "r", override)
    assert capsys.readouterr().err.endswith("; --traceback shows where it comes from\n")
    arguments = [str(small_config), "--results", str(tmp_path / "r"), "--set", override]
    assert main([*arguments, "--traceback"]) == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed and "weight / undefined" in printed


def test_a_dry_run_makes_the_methods(small_config, tmp_path, capsys):
    arguments = [str(small_config), "--set", "pruning.methods=['test_preflight:Refuses']"]
    assert main([*arguments, "--dry-run"]) == 2
    assert "ValueError: not with 1.0" in capsys.readouterr().err


def test_a_syntax_error_is_told_with_its_place(small_config, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_part.py").write_text("x = 1\ny = = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    override = "pruning.methods=['broken_part:Mine']"
    assert main([str(small_config), "--dry-run", "--set", override]) == 2
    assert f"({tmp_path / 'broken_part.py'}, line 2)" in capsys.readouterr().err


def test_an_interruption_that_own_code_makes_up_is_an_error(monkeypatch):
    def interrupt():
        with exits_as_errors():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # in a notebook, it may be real
        interrupt()
    monkeypatch.setattr(signals, "_handled", [signal.SIGINT])
    with pytest.raises(ExitedError, match="KeyboardInterrupt was raised"):
        interrupt()
    monkeypatch.setattr(signals, "_received", signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_results_must_be_a_directory(small_config, tmp_path, capsys):
    (tmp_path / "results").write_text("a file")
    assert main([str(small_config), "--results", str(tmp_path / "results")]) == 2
    assert capsys.readouterr().err == (
        f"error: --results: {tmp_path / 'results'} is no directory; name one, which may not exist "
        f"yet\n"
    )


class CannotBeTrained(LeNet5):
    def __init__(self, *, input_shape, num_classes):
        super().__init__(input_shape, num_classes)

    def forward(self, images):
        if self.training:
            raise RuntimeError("not in training")
        return super().forward(images)


class ExitsWhenMade(nn.Module):
    def __init__(self, *, input_shape, num_classes):
        sys.exit("no")


class BadShape(Dataset):
    def shape(self):
        return {}["no key"]

    def load(self):
        raise NotImplementedError


class BadLoad(Dataset):
    def shape(self):
        return Shape((1, 8, 8), 10, 1000)

    def load(self):
        return [][1]


class ShapeOfNothing(BadLoad):
    def shape(self):
        return 3


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "network.name=test_preflight:CannotBeTrained",
            "network test_preflight:CannotBeTrained: RuntimeError: not in training (tests/",
        ),
        (
            "network.name=test_preflight:ExitsWhenMade",
            "num_classes=10): ExitedError: sys.exit('no') was called (tests/",
        ),
        (
            "dataset={name: 'test_preflight:BadShape'}",
            "dataset test_preflight:BadShape: shape() fails: KeyError: 'no key' (tests/",
        ),
        (
            "dataset={name: 'test_preflight:BadLoad'}",
            "dataset test_preflight:BadLoad: load() fails: IndexError: list index out of range (t",
        ),
        (
            "dataset={name: 'test_preflight:ShapeOfNothing'}",
            "shape() must return an experiment.data.dataset.Shape, not a int",
        ),
    ],
)
def test_networks_and_data_sets_are_tried_too(small_config, tmp_path, capsys, override, expected):
    assert launch(small_config, tmp_path / "r", override) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("results.csv"))


def test_what_runs_of_a_sweep_share_is_tried_once(small_config, monkeypatch):
    tried = []
    fit = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda *arguments: tried.append(1) or fit(*arguments))
    preflight = Preflight()
    for override in ("seed=0", "seed=1", "num_nets=3", "pruning.keep_ratios=[0.3]"):
        preflight.check(load_config(small_config, [override]))
    assert len(tried) == 1
    preflight.check(load_config(small_config, ["retraining.precision=bfloat16"]))
    assert len(tried) == 2


def test_a_run_that_has_begun_is_not_tried_again(small_config, tmp_path, monkeypatch):
    assert launch(small_config, tmp_path / "r") == 0
    monkeypatch.setattr(Preflight, "check", lambda *arguments: pytest.fail("tried again"))
    assert launch(small_config, tmp_path / "r") == 0


class NotANumber(LeNet5):
    """Gives NaN as soon as it is pruned far enough."""

    def __init__(self, *, input_shape, num_classes):
        super().__init__(input_shape, num_classes)

    def forward(self, images):
        is_pruned = (self.conv2.weight == 0).float().mean() > 0.6
        return super().forward(images) * (float("nan") if is_pruned else 1.0)


def test_nan_in_an_evaluation_is_a_failure(small_config, tmp_path):
    """The method is given up there; what came before stays."""
    overrides = ["network.name=test_preflight:NotANumber", "pruning.methods=[WTLayer, Random]"]
    outcome = run(load_config(small_config, overrides), tmp_path)
    assert len(outcome.failures) == 2
    for failure in outcome.failures:
        assert "DivergedError: the loss on 360 images is not finite" in failure
        assert "traceback" not in failure
    assert (tmp_path / "results.csv").read_text().count("nan") == 0
    rows = pandas.read_csv(tmp_path / "results.csv")
    assert rows["step"].tolist() == [0, 1, 1]
    failed = pandas.read_csv(tmp_path / "failures.csv")
    assert failed["method"].tolist() == ["WTLayer", "Random"] and (failed["step"] == 2).all()
    assert failed["task"].tolist() == ["evaluate", "evaluate"]


class ExitsLater(ScoreMethod):
    def scores(self, analysis, stream):
        if len(analysis.batches) > 1:  # not in the trial
            sys.exit("enough")
        return {name: weight.abs() for name, weight in analysis.weights.items()}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_exit_in_own_code_is_a_failure_of_that_method_alone(
    small_config, tmp_path, capsys, workers
):
    override = "pruning.methods=['test_preflight:ExitsLater', WT]"
    arguments = [str(small_config), "--results", str(tmp_path), "--set", override]
    assert main([*arguments, "--device", "cpu", "--workers", workers]) == 1
    assert "ExitedError: sys.exit('enough') was called (" in capsys.readouterr().err
    [results] = tmp_path.rglob("results.csv")
    assert pandas.read_csv(results)["method"].tolist() == ["reference", "WT", "WT"]


def test_own_code_can_be_refused(small_config, tmp_path, capsys):
    overrides = [
        "network.name=test_preflight:CannotBeTrained",
        "pruning.methods=[WT, 'test_preflight:Typo']",
        "dataset={name: 'no_such_module:Data'}",
    ]
    settings = [argument for override in overrides for argument in ("--set", override)]
    arguments = [str(small_config), "--results", str(tmp_path / "r"), *settings]
    assert main([*arguments, "--no-own-code"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("is code of your own, which --no-own-code refuses to import" in one for one in lines)
    assert "--set network.name: network.name: 'test_preflight:CannotBeTrained'" in lines[1]
    assert main([str(small_config), "--no-own-code", "--dry-run"]) == 0
