"""What `--dry-run --time` tells, and the benchmark of training, on hardly any images."""

import math

import pandas
import pytest
import torch
from conftest import SMALL
from torch import nn

from benchmarks import training as training_benchmark
from experiment.config.loading import load_config
from experiment.config.sweeps import load_sweep
from experiment.data.loading import open_dataset
from experiment.main import main
from experiment.pruning.method import ScoreMethod
from experiment.runs import timing
from experiment.runs.cost import Images, hours
from experiment.runs.dry_run import Estimate, describe_estimates, describe_time
from experiment.runs.speeds import MeasuredSpeeds
from experiment.runs.timing import PruningSpeed, TrainingSpeed

HOUR = 3600
TWICE_AS_FAST = TrainingSpeed(HOUR / 2, 64)
TINY = """
network: {name: lenet300_100}
dataset: {name: digits}
training: {epochs: 2, batch_size: 64}
pruning:
  methods: [WT]
  keep_ratios: [0.5]
"""


class GivenSpeeds(MeasuredSpeeds):
    """Speeds that are simple to add up, in hours: what is measured is given instead."""

    def __init__(self, bfloat16=TWICE_AS_FAST):
        super().__init__("cpu")
        self.bfloat16 = bfloat16

    def images(self, config):
        return Images(train=100, validation=10, test=7)

    def training_speeds(self, config, settings):
        return {"float32": TrainingSpeed(HOUR, 64), "bfloat16": self.bfloat16}

    def evaluation(self, config):
        return HOUR / 10

    def pruning_speeds(self, config, task):
        return PruningSpeed(5 * HOUR), PruningSpeed(2 * HOUR)


@pytest.fixture
def quick(monkeypatch):
    """Measurements of a moment."""
    monkeypatch.setattr(timing, "ROUNDS", 1)
    monkeypatch.setattr(timing, "ROUND_SECONDS", 0.001)
    monkeypatch.setattr(timing, "FEW_SAMPLES", (2, 3))


def configured(tmp_path, text, *overrides):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return load_config(path, overrides)


def planned(tmp_path, capsys, text, *arguments):
    """The exit code, what is printed, and the error."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    code = main([str(path), "--device", "cpu", "--dry-run", "--time", *arguments])
    return code, *capsys.readouterr()


def test_the_hours_of_a_cascade(tmp_path):
    config = configured(tmp_path, SMALL, "num_nets=2")
    # 2 nets train for 2 epochs; 2 methods at 2 ratios prune and retrain each for the default of 2:
    # 4 + 16 epochs of 100 images.
    found = hours([config], GivenSpeeds(), "float32")
    assert found.training == 20 * 100
    # 10 validation images after each epoch and for each of 8 nets that were pruned only; 7 test
    # images for these, 8 retrained and 2 unpruned ones; ten images an hour.
    assert found.evaluation == pytest.approx((20 * 10 + 8 * 10 + 18 * 7) / 10)
    assert found.pruning == 8 * 5  # each from another net
    assert found.total == pytest.approx(found.training + found.evaluation + found.pruning)
    assert hours([config], GivenSpeeds(), "bfloat16").training == 10 * 100


def test_methods_that_prune_the_same_net_again_find_what_is_known(tmp_path):
    config = configured(tmp_path, SMALL, "pruning.schedule=oneshot", "pruning.retrain_count=0")
    assert hours([config], GivenSpeeds(), "float32").pruning == 2 * (5 + 2)
    twice = configured(
        tmp_path, SMALL, "pruning.schedule=oneshot", "pruning.retrain_count=0", "num_repetitions=2"
    )
    assert hours([twice], GivenSpeeds(), "float32").pruning == 2 * 2 * (5 + 2)


def test_a_rewound_retraining_costs_the_epochs_that_are_left(tmp_path):
    config = configured(tmp_path, SMALL, "pruning.schedule=rewind", "pruning.rewind_epoch=1")
    assert hours([config], GivenSpeeds(), "float32").training == (2 + 4 * 1) * 100


def test_a_sweep_counts_shared_trainings_once(tmp_path):
    path = tmp_path / "a.yaml"
    schedule = "pruning.schedule=oneshot", "pruning.retrain_count=0"
    path.write_text(SMALL + "sweep: {grid: {pruning.delta: [1, 2, 3]}}\n")
    configs = [run.config for run in load_sweep(path, schedule).combinations]
    found = hours(configs, GivenSpeeds(), "float32")
    assert found.training == 2 * 100
    # The unpruned net is tested in each run: 3 x (1 + 4) nets; its epochs are validated once.
    assert found.evaluation == pytest.approx((2 * 10 + 3 * 4 * 10 + 3 * 5 * 7) / 10)
    assert found.pruning == 3 * 2 * (5 + 2)


def test_the_table_and_the_precision_that_is_faster(tmp_path):
    config = configured(tmp_path, SMALL, "pruning.retrain_count=0")
    speeds = GivenSpeeds()
    estimate = Estimate.of([config], "a.yaml", speeds)
    # 200 training; 2 + 4 times 10 validation images, 5 x 7 test images; 4 prunings
    total = 200 + 9.5 + 20
    assert f"| `a.yaml` | lenet5 | 1 | 2 | {total:.0f} | {total - 100:.0f} | 1.77 |" == estimate.row
    assert describe_estimates([estimate, estimate]).splitlines()[2:] == [estimate.row] * 2
    told = describe_time([config], estimate, speeds).splitlines()
    assert all(line.startswith("# ") for line in told)
    assert "# training in bfloat16 is 2.00 times as fast here as in float32" == told[-1]
    assert "# bfloat16: 130 hours (100 training, 9.5 evaluation, 20 pruning)" in told


def test_a_precision_that_fails_is_told_in_its_place(tmp_path):
    config = configured(tmp_path, SMALL)
    speeds = GivenSpeeds(TrainingSpeed(failure="RuntimeError: not implemented for 'BFloat16'"))
    estimate = Estimate.of([config], "a.yaml", speeds)
    told = describe_time([config], estimate, speeds)
    assert "bfloat16 fails: RuntimeError: not implemented for 'BFloat16'\n" in told
    assert told.endswith("# bfloat16: not possible here")
    assert estimate.row.endswith("| - | - |")


def test_the_times_of_prunings_lie_on_a_line():
    speed = PruningSpeed.between({32: 1.0, 192: 2.6})
    assert speed.at(32) == pytest.approx(1.0)
    assert speed.at(132) == pytest.approx(2.0)
    falling = PruningSpeed.between({32: 3.0, 192: 2.6})  # noise
    assert falling.at(32) == falling.at(1000) == 2.6


def test_the_command_measures_and_writes_nothing(tmp_path, capsys, quick):
    before = set(tmp_path.iterdir()) | {tmp_path / "a.yaml"}
    code, printed, _ = planned(tmp_path, capsys, TINY, "--results", str(tmp_path / "r"))
    assert code == 0 and set(tmp_path.iterdir()) == before
    lines = printed.splitlines()
    for beginning in (
        "# time on cpu with ",
        "# training by SGD, batches of 64: float32 ",
        "# evaluation: ",
        "# pruning once: WT ",
        "# float32: ",
        "# bfloat16: ",
        "# training in ",
    ):
        assert sum(line.startswith(beginning) for line in lines) == 1, beginning


def test_several_files_end_with_a_table_and_one_without_data_is_left_out(tmp_path, capsys, quick):
    paths = [tmp_path / f"{name}.yaml" for name in "abc"]
    for path in paths:
        path.write_text(TINY)
    missing = "dataset: {name: ImageFolder, root: nowhere, image_size: 8}"
    paths[1].write_text(TINY.replace("dataset: {name: digits}", missing))
    arguments = ["--device", "cpu", "--dry-run", "--time"]
    assert main([*map(str, paths), *arguments]) == 2
    printed, error = capsys.readouterr()
    assert error.count("\n") == 1 and "b.yaml: dataset ImageFolder: no folder nowhere" in error
    rows = [line for line in printed.splitlines() if line.startswith("| `")]
    assert [row.split(" | ")[1:4] for row in rows] == [["lenet300_100", "2", "4"]] * 2
    assert rows[0].split("` | ")[1] == rows[1].split("` | ")[1]  # measured once


def test_time_without_dry_run_is_refused(small_config, capsys):
    assert main([str(small_config), "--time"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "add --dry-run" in error


class NotInBfloat16(nn.Module):
    """A net that cannot be trained in mixed precision."""

    def __init__(self, *, input_shape, num_classes):
        super().__init__()
        self.linear = nn.Linear(math.prod(input_shape), num_classes)

    def forward(self, images):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("out of memory\nwith details")
        return self.linear(images.flatten(1))


class NotAtAll(NotInBfloat16):
    """A net that cannot be run."""

    def forward(self, images):
        raise RuntimeError("out of memory\nwith details")


class FailingMethod(ScoreMethod):
    """A method that cannot be used."""

    def scores(self, analysis, stream):
        raise RuntimeError("no idea\nwith details")


def test_failures_are_told_in_one_line(tmp_path, capsys, quick):
    text = TINY.replace("lenet300_100", f"'{__name__}:NotInBfloat16'")
    text = text.replace("[WT]", f"[WT, '{__name__}:FailingMethod']")
    code, printed, error = planned(tmp_path, capsys, text)
    assert code == 0 and "Traceback" not in printed + error
    assert "; bfloat16 fails: RuntimeError: out of memory\n" in printed
    assert f"# pruning by {__name__}:FailingMethod fails: RuntimeError: no idea\n" in printed
    assert "# pruning once: WT " in printed and printed.endswith("# bfloat16: not possible here\n")


def test_a_net_that_cannot_be_run_is_an_error_of_one_line(tmp_path, capsys, quick):
    text = TINY.replace("lenet300_100", f"'{__name__}:NotAtAll'").replace(
        "[WT]", "[WT]\n  sample_size: 4"
    )
    code, _, error = planned(tmp_path, capsys, text)
    assert code == 2 and error.count("\n") == 1 and "out of memory" in error


def test_long_steps_are_measured_with_fewer_images(tmp_path, capsys, quick, monkeypatch):
    monkeypatch.setattr(timing, "LONGEST_STEP", 0.0)
    _, printed, _ = planned(tmp_path, capsys, TINY)
    assert printed.count(" images/s (measured in batches of 2)") == 2


def test_several_nets_at_once_share_the_time(tmp_path, quick):
    config = configured(tmp_path, TINY, "nets_at_once=2")
    data = timing.random_data(MeasuredSpeeds("cpu").shape(config), 1, torch.device("cpu"))
    workplace = timing.Workplace(data)
    clock = timing.StepClock(workplace.device, timed_steps=2 * 3)
    trainer = timing._trainer(workplace, 64 * (clock.warm_up_steps + 3), clock)
    settings = config.training.model_copy(update={"epochs": 1})
    fits = [timing._fit(workplace, config.network, settings, seat) for seat in range(2)]
    speed = timing._speed(trainer, fits, clock)
    start, warm, end = clock.readings
    assert start < warm < end and clock.remaining == 0
    assert speed.seconds_per_image == pytest.approx((end - warm) / (2 * 3 * 64))


@pytest.mark.parametrize("name", ["digits", "CIFAR10", "CIFAR100", "MNIST", "ImageNet"])
def test_shipped_data_sets_know_how_many_test_images_they_have(tmp_path, name):
    options = "" if name == "digits" else f", root: {tmp_path}"
    config = configured(
        tmp_path, f"network: {{name: lenet5}}\ndataset: {{name: {name}{options}}}\n"
    )
    shape = open_dataset(config.dataset).shape()
    assert shape.num_test == {"digits": 360, "ImageNet": 50_000}.get(name, 10_000)


def test_the_benchmark_of_training(tmp_path):
    path = tmp_path / "training.csv"
    arguments = ["--images", "130", "--rounds", "1", "--workers", "0", "--without-compile"]
    assert training_benchmark.main([*arguments, "--network", "lenet5", "--csv", str(path)]) == 0
    table = pandas.read_csv(path)
    ours = table[table.what == "train, our Trainer"]
    assert ours[["precision", "nets"]].values.tolist() == [
        ["float32", 1],
        ["float32", 2],
        ["bfloat16", 1],
        ["bfloat16", 2],
    ]
    assert (table.images_per_second > 0).all()
    computing = table[table.what != training_benchmark.MASKS]
    assert (computing.share_of_peak > 0).all()
    for task in ("train", "evaluate"):
        rate = table.set_index("what").images_per_second
        rows = table[table.what.str.startswith(task)]
        for column, what in (("to_recipe", ""), ("to_recipe_without_loading", " without loading")):
            expected = rows.images_per_second / rate[f"{task}, usual recipe{what}"]
            assert rows[column].tolist() == pytest.approx(expected.tolist())
