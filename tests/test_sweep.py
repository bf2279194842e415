"""Sweeps: their combinations, mistakes in them, what their runs share, and their table and plot."""

import json

import numpy
import pandas
import pytest
import yaml
from conftest import ROOT, SMALL

import experiment
from experiment.allocation.bernstein import bernstein_error
from experiment.allocation.units import channel_groups
from experiment.config.loading import load_config
from experiment.config.sweeps import load_sweep
from experiment.core.errors import UserError
from experiment.main import main
from experiment.reporting.plots.sweep import sweep_accuracy_vs_sparsity
from experiment.runs.tasks import Train
from experiment.training.trainer import Trainer

DELTAS = "sweep: {grid: {pruning.delta: [10, 1.0e-16]}}\n"
ONESHOT = """
network: {name: lenet300_100}
training: {epochs: 1, batch_size: 64, optimizer: {lr: 0.05}}
pruning: {schedule: oneshot, retrain_count: 0, methods: [SiPP, SiPPHybrid], keep_ratios: [0.5, 0.3]}
"""


def write(path, text):
    path.write_text(text)
    return path


def settings(path, *overrides):
    return [combination.settings for combination in load_sweep(path, overrides).combinations]


def launch(config, results, *arguments):
    return main([str(config), "--results", str(results), "--device", "cpu", *arguments])


@pytest.fixture
def trainings(monkeypatch):
    """The labels of all trainings that are made."""
    labels, fit = [], Trainer.fit_together

    def counted(trainer, fits):
        if fits[0].label == "preflight":
            return fit(trainer, fits)
        labels.extend(one.label for one in fits)
        return fit(trainer, fits)

    monkeypatch.setattr(Trainer, "fit_together", counted)
    return labels


def test_a_grid_gives_all_combinations(tmp_path):
    path = write(
        tmp_path / "a.yaml", SMALL + "sweep: {grid: {pruning.delta: [10, 1e-3], seed: [0, 4]}}\n"
    )
    sweep = load_sweep(path, ["seed=9", "num_nets=2"])
    assert [(run.config.pruning.delta, run.config.seed) for run in sweep.combinations] == [
        (10, 0),
        (10, 4),
        (1e-3, 0),
        (1e-3, 4),
    ]
    assert {run.config.num_nets for run in sweep.combinations} == {2}
    assert [run.label for run in sweep.combinations][1:3] == [
        "delta=10, seed=4",
        "delta=0.001, seed=0",
    ]
    alone = load_config(write(tmp_path / "b.yaml", SMALL), ["pruning.delta=10", "num_nets=2"])
    assert sweep.combinations[0].config == alone  # an ordinary configuration with its own run id
    assert load_sweep(tmp_path / "b.yaml") is None and load_sweep(path, ["sweep=null"]) is None


def test_a_list_gives_joint_settings_and_the_rest_as_configured(tmp_path):
    first = "{training.epochs: 1, training.optimizer.lr: 0.2}"
    sweep = f"sweep: {{list: [{first}, {{pruning.methods: [WT]}}]}}\n"
    path = write(tmp_path / "a.yaml", SMALL + sweep)
    first, second = load_sweep(path).combinations
    assert (first.config.training.epochs, first.config.training.optimizer.momentum) == (1, 0.9)
    assert [method.name for method in second.config.pruning.methods] == ["WT"]
    assert first.label == "epochs=1, lr=0.2, methods=[SiPP, WT]"
    assert second.label == "epochs=2, lr=0.05, methods=[WT]"


def test_a_mistake_outside_of_the_sweep_is_reported_once(tmp_path):
    with pytest.raises(UserError) as error:
        load_sweep(write(tmp_path / "a.yaml", SMALL + "num_nets: 0\n" + DELTAS))
    assert str(error.value).count("num_nets: 0 is wrong") == 1


def test_a_sweep_over_pruning_trains_once_and_makes_one_table_and_plot(tmp_path, trainings, capsys):
    path = write(tmp_path / "a.yaml", ONESHOT + DELTAS)
    assert launch(path, tmp_path / "r", "--set", "num_nets=2") == 0
    assert trainings == ["net 0: training", "net 1: training"]
    (directory,) = (tmp_path / "r" / "a").glob("sweep-*")
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == f"plot: {directory / 'plots' / 'accuracy_vs_sparsity.png'}"
    )
    assert (directory / "plots" / "accuracy_vs_sparsity.png").exists()
    rows = pandas.read_csv(directory / "results.csv")
    assert rows.columns[0] == "pruning.delta" and rows["pruning.delta"].unique().tolist() == [
        10,
        1e-16,
    ]
    assert len(rows) == 2 * 2 * (1 + 2 * 2)
    summary = pandas.read_csv(directory / "summary.csv")
    assert summary[["pruning.delta", "method"]].to_numpy().tolist() == [
        [10, "SiPP"],
        [10, "SiPPHybrid"],
        [1e-16, "SiPP"],
        [1e-16, "SiPPHybrid"],
    ]
    assert yaml.safe_load((directory / "config.yaml").read_text())["sweep"] == {
        "grid": {"pruning.delta": [10, 1e-16]}
    }
    again = load_sweep(directory / "config.yaml")
    assert again.sweep_id() == directory.name
    assert (
        launch(path, tmp_path / "r", "--set", "num_nets=2") == 0 and len(trainings) == 2
    )  # nothing is done again


def test_shared_nets_give_the_same_numbers_and_runs_do_not_need_them_afterwards(
    tmp_path, trainings
):
    path = write(tmp_path / "a.yaml", ONESHOT)
    launch(path, tmp_path / "r", "--set", "pruning.delta=1")
    launch(
        path, tmp_path / "r", "--set", "pruning.keep_ratios=[0.4]", "--set", "retraining.epochs=2"
    )
    assert len(trainings) == 1
    launch(path, tmp_path / "r", "--set", "training.optimizer.lr=0.01")
    launch(path, tmp_path / "r", "--set", "seed=1")
    launch(
        path,
        tmp_path / "alone",
        "--set",
        "pruning.keep_ratios=[0.4]",
        "--set",
        "retraining.epochs=2",
    )
    assert len(trainings) == 4
    run_id = load_config(path, ["pruning.keep_ratios=[0.4]", "retraining.epochs=2"]).run_id()
    tables = [
        pandas.read_csv(tmp_path / name / "a" / run_id / "results.csv") for name in ("r", "alone")
    ]
    times = ["prune_seconds", "retrain_seconds"]
    pandas.testing.assert_frame_equal(
        *(table.drop(columns=times) for table in tables), check_exact=True
    )
    for net in (tmp_path / "r" / ".nets").rglob("*.*"):
        net.unlink()
    launch(path, tmp_path / "r", "--set", "pruning.delta=1")
    assert len(trainings) == 4


def test_a_rewind_takes_the_trained_net_and_trains_up_to_its_early_checkpoint(tmp_path, trainings):
    path = write(tmp_path / "a.yaml", ONESHOT)
    rewind = [
        argument
        for override in (
            "pruning.schedule=rewind",
            "pruning.methods=[WT]",
            "pruning.retrain_count=1",
            "training.epochs=2",
        )
        for argument in ("--set", override)
    ]
    launch(path, tmp_path / "r", "--set", "training.epochs=2")
    assert launch(path, tmp_path / "r", *rewind) == 0
    assert trainings.count("net 0: training") == 2
    (rows,) = (
        pandas.read_csv(found)
        for found in (tmp_path / "r").rglob("training.csv")
        if "schedule: rewind" in (found.parent / "config.yaml").read_text()
    )
    assert rows.query("method == 'reference'")["epoch"].tolist() == [1, 2]


def test_an_interrupted_sweep_goes_on(tmp_path, monkeypatch, trainings):
    text = ONESHOT.replace("retrain_count: 0, methods: [SiPP, SiPPHybrid]", "methods: [WT]")
    path = write(tmp_path / "a.yaml", text + "sweep: {grid: {retraining.epochs: [1, 2]}}\n")
    counted = Trainer.fit_together

    def dies(*arguments, **keywords):
        if len(trainings) == 4:
            trainings.append("died")
            raise KeyboardInterrupt
        return counted(*arguments, **keywords)

    monkeypatch.setattr(Trainer, "fit_together", dies)
    assert launch(path, tmp_path / "broken") == 130
    assert not list((tmp_path / "broken" / "a").glob("sweep-*"))
    assert launch(path, tmp_path / "broken") == 0
    assert len(trainings) == 1 + 2 * 2 + 1 and trainings.count("net 0: training") == 1
    (directory,) = (tmp_path / "broken" / "a").glob("sweep-*")
    assert pandas.read_csv(directory / "results.csv")[
        "retraining.epochs"
    ].value_counts().tolist() == [3, 3]


def test_a_run_that_fails_does_not_take_the_others_with_it(tmp_path, capsys):
    path = write(
        tmp_path / "a.yaml", ONESHOT + "sweep: {grid: {training.optimizer.lr: [1.0e+30, 0.05]}}\n"
    )
    assert launch(path, tmp_path / "r") == 1
    (directory,) = (tmp_path / "r" / "a").glob("sweep-*")
    assert pandas.read_csv(directory / "results.csv")[
        "training.optimizer.lr"
    ].unique().tolist() == [0.05]
    assert "the training loss is not finite" in capsys.readouterr().err


def test_dry_run_counts_shared_trainings_once(tmp_path, capsys):
    text = SMALL + "num_nets: 2\nsweep: {grid: {training.epochs: [2, 3], pruning.delta: [1, 2]}}\n"
    assert launch(write(tmp_path / "a.yaml", text), tmp_path / "r", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "# run 4 of 4: epochs=3, delta=2; run id " in printed
    # Two nets for each number of epochs; 4 runs x 2 nets x 2 methods x 2 ratios, all retrained.
    assert (
        "4 trainings (what runs share counts once), 32 prunings, 32 retrainings; 90 epochs in all"
        in printed
    )
    assert not (tmp_path / "r").exists()


def test_the_shipped_sweep_follows_the_paper():
    runs = load_sweep(
        ROOT / "paper" / "sipp" / "digits" / "sweep" / "lenet300_100.yaml"
    ).combinations
    assert [run.config.pruning.delta for run in runs] == [10, 1, 1e-4, 1e-16, 1e-32]
    trainings = [
        task for run in runs for task in experiment.tasks(run.config) if isinstance(task, Train)
    ]
    assert len({task.fingerprint() for task in trainings}) == 3
    assert not any(retrained for run in runs for _, retrained in experiment.schedule(run.config))


def test_forty_five_curves(tmp_path):
    def rows(shift):
        return pandas.DataFrame(
            [
                {
                    "network": "n",
                    "dataset": "d",
                    "method": method,
                    "net_seed": net,
                    "step": step,
                    "retrained": False,
                    "prune_ratio": step / 10,
                    "test_accuracy": 0.9 - shift * step / 100 - net / 100,
                }
                for net in (0, 1)
                for method in ("reference", "SiPP", "SiPPRand", "WT")
                for step in range(1, 5)
            ]
        )

    path = sweep_accuracy_vs_sparsity(
        [(f"delta=1e-{index}", rows(index)) for index in range(15)], tmp_path / "p"
    )
    assert path.exists() and path.with_suffix(".pdf").exists()


def test_a_delta_that_claims_nothing_breaks_nothing(images, small_net):
    units = channel_groups(numpy.array([0.5, 0.25]), [1, 1], [1, 1], [1, 1], delta=1e6)
    assert (units.allocation_scale > 0).all()
    assert numpy.isinf(bernstein_error(units.total, numpy.full(2, 100), 2)).all()
    assert numpy.isfinite(bernstein_error(units.total, numpy.full(2, 100), 1.99)).all()


def test_sweep_is_in_the_schema_and_never_in_the_run_id(tmp_path):
    schema = json.loads((ROOT / "paper" / "config.schema.json").read_text())
    assert [form.get("required") for form in schema["properties"]["sweep"]["anyOf"]] == [
        ["grid"],
        ["list"],
        None,
    ]
    with_sweep, without = (
        write(tmp_path / "a.yaml", SMALL + DELTAS),
        write(tmp_path / "b.yaml", SMALL),
    )
    assert load_config(with_sweep).run_id() == load_config(without).run_id()
    assert settings(with_sweep) == [{"pruning.delta": 10}, {"pruning.delta": 1e-16}]
