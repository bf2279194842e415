"""Settings that may be mistakes are told of before anything runs, and stop nothing."""

import pytest
from conftest import ROOT

from experiment.config.doubts import doubts
from experiment.config.loading import load_config
from experiment.main import main

FILES = sorted(path for path in (ROOT / "paper").rglob("*.yaml") if "network:" in path.read_text())


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "training.lr_drops.epochs=[1, 2, 4]",
            "training.lr_drops.epochs: of 2 epochs, none is trained after 2, 4: there the",
        ),
        (
            "retraining.lr_drops.epochs=[2]",
            "retraining.lr_drops.epochs: of 2 epochs, none is trained after 2: there the",
        ),
        (
            "training.batch_size=1294",
            "training.batch_size: 1,294 is more than the 1,293 training images: an epoch is one",
        ),
        ("training.optimizer.lr=100", "training.optimizer.lr: 100 is very large"),
        ("training.optimizer.lr=0", "training.optimizer.lr: with 0 nothing is learnt"),
        (
            "training.optimizer.weight_decay=100",
            "training.optimizer.weight_decay: 100 times the learning rate is 5: weights vanish",
        ),
        (
            "pruning.retrain_count=3",
            "pruning.retrain_count: 3 is more than the 2 keep ratios: the net is retrained at each",
        ),
        (
            "training.lr_drops={epochs: [0, 1]}",
            "training.lr_drops.epochs: a drop after 0 epochs changes lr from the start",
        ),
        (
            "training.lr_drops={epochs: [1], factor: 10}",
            "training.lr_drops.factor: 10 does not lower the learning rate",
        ),
        (
            "pruning.commensurate_margin=0.6",
            "pruning.commensurate_margin: 0.6 accepts a loss of 60 points of accuracy",
        ),
        (
            "dataset.validation_fraction=0.9",
            "dataset.validation_fraction: 0.9 leaves 1,293 images to train with",
        ),
    ],
)
def test_each_doubt(small_config, override, expected):
    """A setting that `retraining` inherits is told of once."""
    [line] = doubts(load_config(small_config, [override]), 1293, 144)
    assert line.startswith(expected)


def test_very_few_validation_images(small_config):
    [line] = doubts(load_config(small_config, ["dataset.validation_fraction=0.01"]), 1423, 14)
    assert line.startswith("dataset.validation_fraction: 0.01 leaves 14 images for validation")


def test_only_the_first_of_many_late_drops_are_listed(small_config):
    drops = ", ".join(map(str, range(2, 1_000)))
    config = load_config(small_config, [f"training.lr_drops.epochs=[{drops}]"])
    [line] = doubts(config, 1293, 144)
    assert "after 2, 3, 4, 5, 6, ...: there" in line


def test_nothing_is_said_of_sound_settings(small_config):
    sound = [
        "training.lr_drops.epochs=[1]",
        "training.batch_size=1293",
        "training.optimizer.weight_decay=0.1",
        "pruning.retrain_count=2",
        "dataset.validation_fraction=0.5",
    ]
    assert doubts(load_config(small_config, sound), 1293, 144) == []
    shorter = load_config(
        small_config, ["training.lr_drops.epochs=[1]", "retraining.epochs=1"]
    )  # such as VGGs of the paper: drops are inherited, and some come too late
    assert doubts(shorter, 1293, 144) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_said_of_the_papers_files(path):
    assert doubts(load_config(path), 1000, 100) == []


def test_doubts_are_printed_before_anything_runs_and_logged(small_config, tmp_path, capsys):
    arguments = [str(small_config), "--set", "pruning.retrain_count=30", "--device", "cpu"]
    assert main([*arguments, "--dry-run"]) == 0
    assert "# warning: pruning.retrain_count: 30 is more" in capsys.readouterr().out
    assert main([*arguments, "--results", str(tmp_path / "r")]) == 0
    [warning] = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {small_config}: pruning.retrain_count: 30 is more")
    [log] = tmp_path.rglob("log.txt")
    assert "warning: pruning.retrain_count: 30 is more" in log.read_text()


def test_doubts_of_a_sweep_are_told_once(small_config, capsys):
    sweep = "sweep={grid: {seed: [0, 1, 2]}}"
    settings = ["--set", "pruning.retrain_count=30", "--set", sweep]
    assert main([str(small_config), *settings, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("# warning: ") == 1
