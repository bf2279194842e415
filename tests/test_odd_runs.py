"""Runs and sweeps that are not as most are: what is shown of them is right, and nothing fails."""

import json

import pandas
import pytest
from made_up_runs import made_up_rows, made_up_run

import experiment
from experiment.commands.diff import settings_of
from experiment.config.loading import load_config
from experiment.core.dependencies import Dependency, Kind
from experiment.reporting.plots.curves_of_runs import draw
from experiment.reporting.report.headline import headline
from experiment.runs.driver import run
from experiment.runs.found import found_run
from experiment.runs.ledger import Ledger
from experiment.runs.plotting import plot_runs
from experiment.runs.tasks import Prune
from experiment.trackers.mlflow import mlflow as MlflowTracker

SWEPT_NETWORKS = """
dataset: {name: digits}
training: {epochs: 1, batch_size: 64}
pruning: {methods: [WT], keep_ratios: [0.5]}
sweep:
  grid:
    network: [{name: lenet5}, {name: lenet300_100}]
"""


def test_a_run_without_rows_beside_one_that_loses_too_much():
    lossy = made_up_run(made_up_rows(methods=("WT",)), margin=0.001)
    empty = made_up_run(pandas.DataFrame(), label="other", state="failed", num_expected=3)
    assert "o method stays within the margin; WT" in headline([lossy, empty])


def test_a_net_that_is_itself_a_layer(tmp_path, monkeypatch, all_figures):
    (tmp_path / "barenet.py").write_text(
        "from torch import nn\n\n\nclass Bare(nn.Linear):\n"
        "    def __init__(self, input_shape, num_classes):\n        super().__init__(64, 10)\n\n"
        "    def forward(self, x):\n        return super().forward(x.flatten(1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = {
        "network": {"name": "barenet:Bare"},
        "training": {"epochs": 1},
        "pruning": {"methods": ["WT"], "keep_ratios": [0.5]},
    }
    found = experiment.run(config, results=tmp_path / "results", device="cpu")
    assert found.report.is_file() and (found.directory / "plots" / "layers.png").is_file()


def test_figures_are_not_written_through_a_link(small_config, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "album.2024").mkdir(parents=True)
    (elsewhere / "link.png").symlink_to(small_config)
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "plots").symlink_to(elsewhere)
    run(load_config(small_config), directory, "cpu")
    assert sorted(one.name for one in elsewhere.iterdir()) == ["album.2024", "link.png"]
    assert (directory / "plots" / "accuracy_vs_sparsity.png").is_file()
    assert f"{directory / 'plots'}: is a link; moved to" in capsys.readouterr().err


def test_a_sweep_from_python_has_a_report_and_the_failures_of_its_runs(tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text(
        "from experiment.pruning.method import ScoreMethod\n\n\nclass Fails(ScoreMethod):\n"
        "    calls = 0\n\n    def scores(self, analysis, stream):\n"
        "        Fails.calls += 1\n        if Fails.calls > 2:\n"
        "            raise ValueError('no more')\n        return analysis.weights\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = {
        "network": {"name": "lenet5"},
        "training": {"epochs": 1},
        "pruning": {"methods": ["WT", "failing:Fails"], "keep_ratios": [0.5]},
        "sweep": {"grid": {"seed": [0, 1]}},
    }
    found = experiment.run(config, results=tmp_path / "results", device="cpu")
    assert found.report.is_file() and "report.html" in found._repr_html_()
    assert len(found.results) == 5 and len(found.failures) == 1
    assert "no more" in found.failures["reason"].iloc[0]


def test_a_sweep_over_networks_keeps_the_rows_of_each(tmp_path):
    path = tmp_path / "networks.yaml"
    path.write_text(SWEPT_NETWORKS)
    found = experiment.run(path, results=tmp_path / "results", device="cpu")
    assert len(found.results) == 4
    assert len(found.plot().axes[0].get_legend_handles_labels()[1]) >= 2


def test_a_directory_is_drawn_although_one_of_its_runs_has_just_begun(small_config, tmp_path):
    run(load_config(small_config), tmp_path / "runs" / "a", "cpu")
    begun = tmp_path / "runs" / "b"
    begun.mkdir()
    for name in ("config.yaml", "environment.json"):
        (begun / name).write_text((tmp_path / "runs" / "a" / name).read_text())
    path = plot_runs(
        [tmp_path / "runs"], x="prune_ratio", y="test_accuracy", target=tmp_path / "figure.png"
    )
    assert path.stat().st_size > 5000


def test_losses_of_unpruned_nets_are_told_apart():
    runs = {
        "a": made_up_rows(methods=("WT",)).assign(test_loss=0.0412),
        "b": made_up_rows(methods=("WT",)).assign(test_loss=0.0438),
    }
    labels = draw(runs, y="loss").axes[0].get_legend_handles_labels()[1]
    assert "unpruned, a (0.0412)" in labels and "unpruned, b (0.0438)" in labels


def test_an_interrupted_run_says_so_in_its_report(small_config, tmp_path, monkeypatch):
    store_new = Ledger.store_new

    def interrupted_at_pruning(ledger, task, result):
        if isinstance(task, Prune):
            raise KeyboardInterrupt
        return store_new(ledger, task, result)

    monkeypatch.setattr(Ledger, "store_new", interrupted_at_pruning)
    with pytest.raises(KeyboardInterrupt):
        run(load_config(small_config), tmp_path / "run", "cpu")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Interrupted" in page and "Running:" not in page


def test_the_time_left_of_a_rewinding_run(small_config, tmp_path):
    directory = tmp_path / "run"
    overrides = ["pruning.schedule=rewind", "pruning.rewind_epoch=2", "training.epochs=4"]
    config = load_config(small_config, [*overrides, "pruning.methods=[WT]"])
    run(config, directory, "cpu")
    found = found_run(directory)
    assert found.seconds_left() == 0
    rows = pandas.read_csv(directory / "training.csv")
    assert len(rows) == 4 + 2 * 2
    rows[:-2].to_csv(directory / "training.csv", index=False)
    found = found_run(directory)
    assert found.seconds_left() == pytest.approx(2 * rows["seconds"][:-2].mean())


def test_contents_and_names_of_the_same_images_are_two_things(small_config, tmp_path):
    directory = tmp_path / "run"
    run(load_config(small_config), directory, "cpu")
    described = [
        Dependency(kind, "images", digest, "the images in x")
        for kind, digest in ((Kind.FILES, "1"), (Kind.CONTENTS, "2"))
    ]
    identity = json.loads((directory / "identity.json").read_text())
    identity["dependencies"]["dataset"] = [vars(one) for one in described]
    (directory / "identity.json").write_text(json.dumps(identity))
    found = settings_of(found_run(directory))["depends on"]
    assert found["dataset: the images in x"] == "1"
    assert found["dataset: what is in the images in x"] == "2"


def test_an_experiment_of_mlflow_that_another_run_has_just_made():
    exceptions = pytest.importorskip("mlflow.exceptions")

    class Client:
        asked = 0

        def get_experiment_by_name(self, name):
            self.asked += 1
            return None if self.asked == 1 else type("Found", (), {"experiment_id": "7"})

        def create_experiment(self, name):
            raise exceptions.MlflowException("already exists")

    tracker = MlflowTracker()
    tracker.client = Client()
    assert tracker._experiment_id() == "7"
