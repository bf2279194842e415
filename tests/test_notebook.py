"""Experiments from Python and notebooks, and figures of several runs."""

import json
import subprocess
import sys

import nbclient
import nbformat
import pandas
import pytest
import yaml
from conftest import ROOT, SMALL
from made_up_runs import made_up_rows

import experiment
from experiment.__main__ import main
from experiment.core.errors import LockedError, UserError
from experiment.runs.lock import locked
from experiment.runs.run_results import RunResults

MAPPING = yaml.safe_load(SMALL)
SWEEP = {**MAPPING, "sweep": {"grid": {"seed": [0, 1]}}}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> RunResults:
    return experiment.run(MAPPING, ["training.epochs=1"], results=tmp_path_factory.mktemp("r"))


def test_a_run_returns_what_its_files_hold(found):
    pandas.testing.assert_frame_equal(found.results, experiment.load_results(found.directory))
    assert found.summary["method"].tolist() == ["SiPP", "WT"]
    assert len(found.training) == 5 and found.failures.empty
    assert found.report.is_file()
    assert repr(found).endswith(": 5 nets measured, SiPP, WT")


def test_a_run_from_python_is_that_of_the_command_line(small_config, tmp_path, capsys):
    from_python = experiment.run(small_config, ["seed=3"], results=tmp_path)
    capsys.readouterr()
    arguments = ["run", str(small_config), "--set", "seed=3", "--results", str(tmp_path)]
    assert main(arguments) == 0
    assert f"results in {from_python.directory}," in capsys.readouterr().out
    assert experiment.run(str(small_config), ["seed=3"], results=tmp_path).directory == (
        from_python.directory
    )


def test_a_sweep_returns_the_rows_of_all_its_runs(tmp_path):
    found = experiment.run(SWEEP, ["training.epochs=1"], results=tmp_path)
    assert found.results.groupby("seed").size().tolist() == [5, 5]
    assert found.summary["seed"].tolist() == [0, 0, 1, 1]
    labels = [line.get_label() for line in found.plot().axes[0].get_lines()]
    assert {"SiPP, seed=0", "WT, seed=1"} <= set(labels)


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        (5, [], "an experiment is the path of a YAML file, or a mapping such as one holds, not 5"),
        ({"netwrk": {}}, [], "netwrk: unknown key; did you mean 'network'"),
        ({"network": {"name": "lenet6"}}, [], "did you mean 'lenet5'"),
        (MAPPING, ["seed"], "--set"),
    ],
)
def test_mistakes_are_told(tmp_path, config, overrides, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        experiment.run(config, overrides, results=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_that_another_process_has_is_left_alone(found):
    with locked(found.directory), pytest.raises(LockedError):
        experiment.run(MAPPING, ["training.epochs=1"], results=found.directory.parents[1])


def test_jupyter_shows_table_figure_and_link_and_no_markup_of_names(tmp_path):
    rows = made_up_rows(["<script>alert(1)</script>"])
    rows.to_csv(tmp_path / "results.csv", index=False)
    shown = RunResults(tmp_path)._repr_html_()
    assert "<script" not in shown and "&lt;script&gt;" in shown
    assert 'src="data:image/png;base64,iVBOR' in shown and "report.html" in shown
    assert RunResults(tmp_path).plot(y="delta")._repr_png_().startswith(b"\x89PNG")


def test_a_directory_without_results_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no results\.csv"):
        RunResults(tmp_path)


def test_the_example_notebook_works(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = ROOT / "examples" / "first_experiment.ipynb"
    notebook = nbformat.read(path, as_version=4)
    committed = [cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code"]
    assert all(committed), "commit the notebook with what it shows"
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"text/html", "image/png", "application/vnd.jupyter.widget-view+json"} <= kinds
    assert list((tmp_path / "results").rglob("report.html"))


# python -m experiment plot


def test_plot_draws_a_run_into_its_directory_and_several_where_they_are_told(
    found, tmp_path, capsys, monkeypatch
):
    assert main(["plot", str(found.directory), "--y", "delta", "--log"]) == 0
    path = found.directory / "plots" / "delta_vs_prune_ratio_log.png"
    assert capsys.readouterr().out == f"plot: {path}\n" and path.is_file()
    other = experiment.run(MAPPING, ["seed=9", "training.epochs=1"], results=tmp_path)
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert main(["plot", str(found.directory), str(other.directory), "-o", "both.svg"]) == 0
    text = (tmp_path / "both.svg").read_text()
    assert "<svg" in text
    assert main(["plot", str(found.directory), str(tmp_path), "--x", "flops"]) == 0
    assert (tmp_path / "test_accuracy_vs_flops.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--y", "dleta"], "there is no y axis 'dleta'; did you mean 'delta'"),
        (["RUN", "--x", "test_loss"], "there is no x axis 'test_loss'"),
        (["RUN", "-o", "a.gif"], "-o a.gif: the file must end with .png, .pdf, .svg"),
        (["RUN", "--published"], "no published result is of the same network"),
        (["EMPTY"], "holds no run"),
        (["nowhere"], "nowhere: no such directory"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(found, tmp_path, capsys, arguments, message):
    places = {"RUN": str(found.directory), "EMPTY": str(tmp_path)}
    assert main(["plot", *(places.get(one, one) for one in arguments)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_damaged_results_are_told(found, tmp_path, capsys):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.yaml", "environment.json"):
        (copy / name).write_bytes((found.directory / name).read_bytes())
    (copy / "results.csv").write_text("a,b\n1\n")
    assert main(["plot", str(copy)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{copy / 'results.csv'}: is not a table of results" in line


def test_published_points_that_fit_are_drawn(found, tmp_path, capsys):
    """Those of ResNet-20 on CIFAR-10 under the schedule of the run."""
    config = found.directory / "config.yaml"
    copy = tmp_path / "copy"
    copy.mkdir()
    text = config.read_text().replace("lenet5", "resnet20").replace("digits", "CIFAR10")
    (copy / "config.yaml").write_text(text)
    for name in ("environment.json", "results.csv"):
        (copy / name).write_bytes((found.directory / name).read_bytes())
    assert main(["plot", str(copy), "--published", "-o", str(tmp_path / "p.svg")]) == 0
    drawn = (tmp_path / "p.svg").read_text()
    assert "WT, Renda et al. 2020" in drawn and "SiPP, Liebenwein et al. 2021a" in drawn


def test_the_published_table_says_where_each_point_comes_from():
    table = pandas.read_csv(ROOT / "paper" / "published.csv")
    assert len(table) == 288
    assert table[["source", "url", "where", "network", "dataset", "method"]].notna().all(axis=None)
    assert set(table["schedule"].dropna()) == {"cascade", "oneshot", "rewind"}
    shares = table[["prune_ratio", "flop_reduction", "test_accuracy"]]
    assert ((shares > 0) & (shares < 1) | shares.isna()).all(axis=None)
    page = (ROOT / "paper" / "published.md").read_text()
    for source, count in table.groupby("source").size().items():
        assert f"| {count} |" in page, source


def test_plots_need_no_torch(found, tmp_path):
    code = (
        "import sys, json; from experiment.__main__ import main\n"
        f"code = main(['plot', {str(found.directory)!r}, '-o', {str(tmp_path / 'a.png')!r}])\n"
        "print(json.dumps([code, 'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, False]
