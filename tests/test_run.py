"""Whole experiments, small: the files that they write, and the same numbers every time."""

import inspect
import json
import subprocess
import sys

import pandas
import pytest
import torch
from conftest import DRAW_ALL, ROOT, SMALL
from whole_runs import run_here

from experiment.config.loading import load_config
from experiment.main import main
from experiment.reporting.plots import run as run_plots
from experiment.runs.driver import run
from experiment.runs.paths import results_directory
from experiment.runs.results import read_state

TIMES = ["prune_seconds", "retrain_seconds"]


def launch(config, results, *arguments) -> int:
    return main([str(config), "--results", str(results), "--device", "cpu", *arguments])


def only_run(results):
    return next(results.rglob("results.csv")).parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two nets, with all figures, and what was printed."""
    directory = tmp_path_factory.mktemp("finished")
    config = directory / "small.yaml"
    config.write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_plots, "draw_all", DRAW_ALL)
        done = run_here(config, directory / "r", "--set", "num_nets=2")
    assert done.returncode == 0
    return only_run(directory / "r"), done, config


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The directory of a run of the small configuration, with all its nets."""
    directory = tmp_path_factory.mktemp("undisturbed")
    (directory / "small.yaml").write_text(SMALL)
    run(load_config(directory / "small.yaml", ["checkpoints=all"]), directory / "r")
    return directory / "r"


def test_the_files_of_a_run(finished):
    directory, done, config = finished
    names = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    figures = [run_plots.MAIN]
    for others in (run_plots.OF_PRUNED, run_plots.OF_EPOCHS, run_plots.OF_LAYERS):
        figures += others
    drawn = {f"plots/{figure}{suffix}" for figure in figures for suffix in (".png", ".pdf")}
    assert len(drawn) == 2 * 8
    files = {"config.yaml", "results.csv", "training.csv", "environment.json", "log.txt"}
    assert files | drawn <= names
    assert all((directory / name).stat().st_size > 5000 for name in drawn)
    assert (
        done.stdout.splitlines()[-1] == f"plot: {directory / 'plots' / 'accuracy_vs_sparsity.png'}"
    )
    assert directory.parent.name == "small"
    assert directory.name == load_config(config, ["num_nets=2"]).run_id()
    assert {"torch", "device", "git_commit"} <= json.loads(
        (directory / "environment.json").read_text()
    ).keys()


def test_results_are_tidy(finished):
    rows = pandas.read_csv(finished[0] / "results.csv")
    assert rows.columns.tolist()[:9] == [
        "network",
        "dataset",
        "method",
        "net_seed",
        "repetition",
        "step",
        "keep_ratio_requested",
        "keep_ratio",
        "prune_ratio",
    ]
    assert len(rows) == 2 * (1 + 2 * 2)
    reference = rows[rows.method == "reference"]
    assert (reference.keep_ratio == 1).all() and (reference.flop_keep_ratio == 1).all()
    pruned = rows[rows.method != "reference"]
    assert pruned.method.unique().tolist() == ["SiPP", "WT"]
    missed = (pruned.keep_ratio / pruned.keep_ratio_requested - 1).abs()
    assert ((missed <= 0.005) | pruned.note.notna()).all() and missed.max() < 0.02
    assert (pruned.prune_ratio == 1 - pruned.keep_ratio).all()
    assert pruned.flop_keep_ratio.between(0, 1, inclusive="neither").all()
    assert rows.test_accuracy.between(0, 1).all() and (rows.test_top5 >= rows.test_accuracy).all()
    assert (pruned.test_accuracy > 0.3).all()  # two epochs are not much, but far above chance
    training = pandas.read_csv(finished[0] / "training.csv")
    assert len(training) == 2 * 2 * (1 + 2 * 2)
    assert (training.learning_rate == 0.05).all()


def test_masks_survive_retraining_and_a_cascade_is_nested(undisturbed):
    steps = undisturbed / "steps" / "net0" / "repetition0" / "0-SiPP"
    earlier = None
    for index in (1, 2):
        pruned = read_state(steps / f"{index:03d}-prune.safetensors")
        retrained = read_state(steps / f"{index:03d}-retrain.safetensors")
        for name, mask in pruned.masks.items():
            assert torch.equal(mask, retrained.masks[name])
            assert (retrained.tensors[name][~mask] == 0).all()
            assert earlier is None or not (mask & ~earlier[name]).any()
        changed = [
            name
            for name in pruned.masks
            if not torch.equal(pruned.tensors[name], retrained.tensors[name])
        ]
        assert len(changed) == len(pruned.masks)  # retraining did train
        earlier = pruned.masks


def numbers(directory):
    return pandas.read_csv(directory / "results.csv").drop(columns=TIMES)


def test_the_same_configuration_gives_the_same_numbers(small_config, undisturbed, tmp_path):
    run(load_config(small_config), tmp_path / "again")
    pandas.testing.assert_frame_equal(
        numbers(undisturbed), numbers(tmp_path / "again"), check_exact=True
    )


def test_an_interrupted_run_goes_on_with_the_same_numbers(
    small_config, undisturbed, tmp_path, monkeypatch, capsys
):
    config = load_config(small_config)
    from experiment.training.trainer import Trainer

    calls, fit = [], Trainer.fit_together

    def dies_at_the_third_training(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*arguments, **keywords)

    monkeypatch.setattr(Trainer, "fit_together", dies_at_the_third_training)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "broken")
    with (tmp_path / "broken" / "results.csv").open("a") as file:
        file.write("lenet5,digits,Si")  # the line that was being written
    run(config, tmp_path / "broken")
    assert len(calls) == 3 + 3  # five trainings in all, one of them tried twice
    pandas.testing.assert_frame_equal(
        numbers(undisturbed), numbers(tmp_path / "broken"), check_exact=True
    )
    before = (tmp_path / "broken" / "results.csv").read_bytes()
    capsys.readouterr()
    run(config, tmp_path / "broken")
    assert len(calls) == 6 and (tmp_path / "broken" / "results.csv").read_bytes() == before
    printed = capsys.readouterr().out
    assert "5 rows found before: see results.csv" in printed
    assert "unpruned: test accuracy" not in printed and "step 1" not in printed


def test_a_failing_method_does_not_take_the_others_with_it(
    small_config, tmp_path, monkeypatch, capsys
):
    from experiment.methods.sipp import SiPP

    scores = SiPP.scores

    def fails_later(self, analysis, stream):
        if len(analysis.batches) > 1:
            raise ValueError("no such luck")
        return scores(self, analysis, stream)

    monkeypatch.setattr(SiPP, "scores", fails_later)
    assert launch(small_config, tmp_path / "r") == 1
    directory = only_run(tmp_path / "r")
    rows = pandas.read_csv(directory / "results.csv")
    assert rows.method.tolist() == ["reference", "WT", "WT"]
    line = failing_line(fails_later)
    reason = f"ValueError: no such luck (tests/test_run.py, line {line})"
    log = directory / "log.txt"
    told = f"net 0  SiPP  repetition 0: failed: {reason}; traceback in {log}"
    assert f"failed: {small_config}: {told}" in capsys.readouterr().err
    assert "Traceback" in log.read_text()
    [failure] = pandas.read_csv(directory / "failures.csv").to_dict("records")
    assert failure == {
        "method": "SiPP",
        "net_seed": 0,
        "repetition": 0,
        "step": 1,
        "task": "prune",
        "reason": reason,
        "num_given_up": 7,
    }
    monkeypatch.undo()
    assert launch(small_config, tmp_path / "r") == 0  # tried again
    assert not (directory / "failures.csv").exists()
    assert len(pandas.read_csv(directory / "results.csv")) == 5


def failing_line(function) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, text in enumerate(lines) if "raise" in text)


def test_a_method_that_changes_the_net_is_refused_and_harms_no_other(
    small_config, undisturbed, tmp_path, monkeypatch
):
    from experiment.methods.sipp import SiPP

    def scores(self, analysis, stream):
        return {name: weight.abs_() for name, weight in analysis.weights.items()}

    monkeypatch.setattr(SiPP, "scores", scores)
    outcome = run(load_config(small_config), tmp_path / "r")
    (failure,) = outcome.failures
    assert "method SiPP changes what it was given: parameter conv1.weight, " in failure
    assert failure.endswith("and 2 more; it must compute with copies")
    without_sipp = numbers(undisturbed).query("method != 'SiPP'").reset_index(drop=True)
    one, other = (
        table.dropna(axis="columns", how="all") for table in (without_sipp, numbers(tmp_path / "r"))
    )
    pandas.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_net_whose_evaluation_fails_is_given_up_and_the_others_go_on(
    small_config, tmp_path, monkeypatch
):
    from experiment.runs.engines import worker

    execute = worker.execute

    def fails_once(task, inputs, workplace):
        if task.key == "net0/evaluate":
            raise RuntimeError("out of memory")
        return execute(task, inputs, workplace)

    monkeypatch.setattr(worker, "execute", fails_once)
    outcome = run(load_config(small_config, ["num_nets=2"]), tmp_path / "r")
    [failure] = outcome.failures
    assert failure.startswith(
        "net 0: failed: RuntimeError: out of memory (tests/test_run.py, line "
    )
    assert outcome.plot.exists()
    rows = pandas.read_csv(tmp_path / "r" / "results.csv")
    assert rows.net_seed.unique().tolist() == [1] and len(rows) == 5


@pytest.mark.parametrize("schedule", ["train", "cascade"])
def test_a_net_that_does_not_fit_the_images_is_bad_input(small_config, tmp_path, capsys, schedule):
    arguments = ["--set", "network.name=test_run:Misfit", "--set", f"pruning.schedule={schedule}"]
    assert launch(small_config, tmp_path / "r", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "the net cannot run on the batch" in error


class Misfit(torch.nn.Module):
    def __init__(self, *, num_classes: int):
        super().__init__()
        self.linear = torch.nn.Linear(3, num_classes)

    def forward(self, images):
        return self.linear(images.flatten(1))


def test_epochs_of_an_interrupted_training_are_replaced(small_config, tmp_path, monkeypatch):
    """Those of the second attempt belong to the net, on a GPU with other numbers than the first."""
    from experiment.training.trainer import Trainer

    evaluate = Trainer.evaluate
    calls = []

    def interrupted_in_the_second_epoch(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(Trainer, "evaluate", interrupted_in_the_second_epoch)
    config = load_config(small_config, ["pruning.methods=[WT]", "pruning.keep_ratios=[0.5]"])
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "r")
    path = tmp_path / "r" / "training.csv"
    rows = pandas.read_csv(path)
    assert rows["epoch"].tolist() == [1]
    rows.assign(train_loss=123.0).to_csv(path, index=False)
    run(config, tmp_path / "r")
    rows = pandas.read_csv(path)
    assert rows["epoch"].tolist() == [1, 2, 1, 2]
    assert (rows["train_loss"] < 100).all()


def test_a_damaged_shared_net_is_trained_again(small_config, tmp_path):
    config = load_config(small_config, ["pruning.schedule=train"])
    run(config, tmp_path / "a", nets=tmp_path / "nets")
    (net,) = (tmp_path / "nets").rglob("*.safetensors")
    net.unlink()
    assert run(config, tmp_path / "b", nets=tmp_path / "nets").failures == []
    tables = [
        pandas.read_csv(tmp_path / name / "results.csv").drop(columns=TIMES) for name in ("a", "b")
    ]
    pandas.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_diverging_training_is_reported(small_config, tmp_path, capsys):
    assert launch(small_config, tmp_path / "r", "--set", "training.optimizer.lr=1e30") == 1
    error = capsys.readouterr().err
    assert "the training loss is not finite after epoch 1" in error and "Traceback" not in error


def test_oneshot_starts_every_ratio_from_the_unpruned_net(small_config, tmp_path):
    config = load_config(
        small_config,
        ["pruning.schedule=oneshot", "pruning.retrain_count=0", "pruning.methods=[WT]"],
    )
    run(config, tmp_path / "many")
    run(
        config.model_copy(
            update={
                "pruning": config.pruning.model_copy(
                    update={"keep_ratios": config.pruning.keep_ratios[1:]}
                )
            }
        ),
        tmp_path / "one",
    )
    many, one = (
        pandas.read_csv(tmp_path / name / "results.csv").iloc[-1] for name in ("many", "one")
    )
    assert many.test_loss == one.test_loss and not many.retrained


def test_train_only(small_config, tmp_path):
    assert launch(small_config, tmp_path / "r", "--set", "pruning.schedule=train") == 0
    assert pandas.read_csv(only_run(tmp_path / "r") / "results.csv").method.tolist() == [
        "reference"
    ]


def test_dry_run_tells_the_cost_and_trains_nothing(capsys, tmp_path):
    assert launch(ROOT / "paper/sipp/cifar/cascade/resnet20.yaml", tmp_path / "r", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert (
        "3 trainings of 182 epochs, 1035 prunings, 345 retrainings of 182 epochs; "
        "63336 epochs in all" in printed
    )
    assert "272,474 parameters; sample size |S| = 183" in printed
    assert not (tmp_path / "r").exists()


def test_bad_input_ends_with_code_2_and_one_line(small_config, tmp_path, capsys):
    assert launch(small_config, tmp_path / "r", "--set", "sed=1") == 2
    error = capsys.readouterr().err
    assert (
        error.count("\n") == 1 and "did you mean 'seed'" in error and not (tmp_path / "r").exists()
    )


def test_help_answers_without_torch():
    code = (
        "import sys, experiment.main\n"
        "try: experiment.main.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--dry-run" in done.stdout


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/paper/sipp/cifar/x.yaml", "r/sipp/cifar/x/1"),
        ("/a/paper/b/paper/x.yaml", "r/x/1"),
        ("/a/b/x.yaml", "r/x/1"),
    ],
)
def test_where_results_go(path, expected):
    assert str(results_directory(path, "1", "r")) == expected
