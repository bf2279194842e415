"""Keep ratios and which of them are retrained."""

import pytest
from conftest import ROOT

import experiment
from experiment.config.schedules import spaced, steps
from experiment.config.schema import Manual, Spaced


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("linear", [0.8, 0.5, 0.2]),
        ("geometric", [0.8, 0.4, 0.2]),
        ("harmonic", [0.8, 0.32, 0.2]),  # 1/0.8 = 1.25, 1/0.2 = 5, half way 3.125
        ("cubic", [0.8, 0.275, 0.2]),  # 0.2 + 0.6 / 8
    ],
)
def test_spacings(spacing, expected):
    assert spaced(Spaced(spacing=spacing, first=0.8, last=0.2, count=3)) == pytest.approx(expected)


def test_single_and_manual_ratios():
    assert spaced(Spaced(spacing="linear", first=0.3, last=0.3, count=1)) == [0.3]
    assert spaced(Manual(spacing="manual", values=[0.9, 0.4])) == [0.9, 0.4]


def test_the_papers_resnet20_cascade():
    config = experiment.load_config(ROOT / "paper/sipp/cifar/cascade/resnet20.yaml")
    schedule = experiment.schedule(config)
    ratios = [ratio for ratio, _ in schedule]
    assert len(schedule) == 69 and sum(retrained for _, retrained in schedule) == 23
    assert (
        ratios[:3] == [0.99, 0.855, 0.85] and ratios[59:61] == [0.15, 0.132] and ratios[-1] == 0.02
    )
    assert [retrained for _, retrained in schedule] == [
        False,
        False,
        True,
    ] * 23  # 69 ratios in 23 groups of 3
    assert (config.training.epochs, config.retraining.epochs, config.num_nets) == (182, 182, 3)


def test_groups_as_array_split_makes_them(small_config):
    config = experiment.load_config(
        small_config, ["pruning.keep_ratios=[.9, .8, .7, .6, .5]", "pruning.retrain_count=2"]
    )
    assert [retrained for _, retrained in experiment.schedule(config)] == [
        False,
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("schedule", "expected"), [("cascade", [False, True]), ("oneshot", [False, False])]
)
def test_what_each_step_starts_from(small_config, schedule, expected):
    config = experiment.load_config(small_config, [f"pruning.schedule={schedule}"])
    assert [step.from_previous for step in steps(config)] == expected


def test_train_prunes_nothing_and_no_retraining_is_possible(small_config):
    assert (
        experiment.schedule(experiment.load_config(small_config, ["pruning.schedule=train"])) == []
    )
    config = experiment.load_config(small_config, ["pruning.retrain_count=0"])
    assert experiment.schedule(config) == [(0.5, False), (0.2, False)]
