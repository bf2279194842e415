"""list, show, compare, diff and clean: on a small real run, and on damaged and foreign folders."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pandas
import pytest
from conftest import ROOT, SMALL
from scipy import stats

from experiment.__main__ import main
from experiment.config.loading import load_config
from experiment.core.errors import UserError
from experiment.reporting.comparison import differences, side_by_side
from experiment.runs.driver import run
from experiment.runs.found import FoundRun, find_runs
from experiment.runs.lock import Lock


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two runs of three nets that share them: one by SiPP and WT, one by WT with more epochs."""
    results = tmp_path_factory.mktemp("results")
    path = results / "small.yaml"
    path.write_text(SMALL)
    for overrides in (
        ["num_nets=3"],
        ["num_nets=3", "pruning.methods=[WT]", "retraining.epochs=1"],
    ):
        config = load_config(path, overrides)
        assert run(config, results / "small" / config.run_id(), nets=results / ".nets").plot
    return results


@pytest.fixture
def results(made, tmp_path) -> Path:
    """A copy of these runs, to spoil."""
    shutil.copytree(made, tmp_path / "results")
    return tmp_path / "results"


def first_and_second(results: Path) -> tuple[Path, Path]:
    """The directories of the run by two methods and of the run by one."""
    runs = find_runs(results)
    runs.sort(key=lambda found: len(found.config.pruning.methods), reverse=True)
    first, second = (found.directory for found in runs)
    return first, second


def printed(capsys, *arguments, expected: int = 0) -> str:
    assert main([str(argument) for argument in arguments]) == expected
    captured = capsys.readouterr()
    return captured.err if expected else captured.out


def listed(capsys, directory) -> dict[str, dict]:
    rows = json.loads(printed(capsys, "list", directory, "--format", "json"))
    return {Path(row["run"]).name: row for row in rows}


def test_list_says_what_runs_have_found(made, capsys):
    first, second = first_and_second(made)
    rows = listed(capsys, made)
    assert set(rows) == {first.name, second.name}
    row = rows[first.name]
    assert row["run"] == f"small/{first.name}"
    assert (row["state"], row["measured nets"], row["time left"]) == ("done", "15/15", "")
    assert (row["network"], row["data"], row["schedule"]) == ("lenet5", "digits", "cascade")
    assert row["methods"] == "SiPP, WT"
    table = pandas.read_csv(first / "results.csv")
    accuracy = table.query("method == 'reference'")["test_accuracy"].mean()
    assert row["unpruned"] == f"{accuracy:.1%}"
    summary = pandas.read_csv(first / "summary.csv").set_index("method")
    ratios = summary["prune_ratio_chosen_on_test_mean"]
    assert row["best at commensurate accuracy"] == f"{ratios.idxmax()} {ratios.max():.1%}"
    text = printed(capsys, "list", made)
    assert len(text.splitlines()) == 3 and "SiPP, WT" in text
    table = pandas.read_csv(io.StringIO(printed(capsys, "list", made, "--format", "csv")))
    assert table["state"].tolist() == ["done", "done"]


def test_methods_without_results_are_listed_too(results, capsys):
    first, _ = first_and_second(results)
    rows = pandas.read_csv(first / "results.csv")
    rows = rows[rows["method"] != "SiPP"].replace({"method": {"WT": "WT(allocation=erk)"}})
    rows.to_csv(first / "results.csv", index=False)
    assert listed(capsys, results)[first.name]["methods"] == "SiPP, WT(allocation=erk)"
    assert "methods: SiPP, WT(allocation=erk)" in printed(capsys, "show", first)


def test_runs_that_differ_in_code_or_files_alone_differ(results, capsys):
    first, _ = first_and_second(results)
    shutil.copytree(first, other := first.with_name("other"))
    for directory, digest in ((first, "1234"), (other, "5678")):
        source = {"kind": "source", "name": "mine", "digest": digest, "description": "mine.py"}
        content = {"settings": "x", "dependencies": {"network": [source]}}
        (directory / "identity.json").write_text(json.dumps(content))
    [row] = json.loads(printed(capsys, "diff", first, other, "--format", "json"))
    assert row == {"key": "depends on.network: mine.py", first.name: "1234", "other": "5678"}


def test_comparing_a_single_method_says_what_would_be_right(made, capsys):
    _, second = first_and_second(made)
    text = printed(capsys, "compare", second)
    assert "there is no other method to compare with; name a second run" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_is_lost_is_told(made, tmp_path):
    def code_and_error(*arguments):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "experiment", *arguments],
                stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            )  # fmt: skip
        return done.returncode, done.stderr

    line = "failed: cannot write to standard output: No space left on device\n"
    assert code_and_error("list", str(made), "--format", "csv") == (1, line)
    # A run has its files.
    code, error = code_and_error("run", str(made / "small.yaml"), "--results", str(tmp_path))
    assert code == 0 and error.endswith(line) and list(tmp_path.rglob("summary.csv"))


def test_states(results, capsys):
    first, second = first_and_second(results)
    rows = pandas.read_csv(first / "results.csv")
    rows.iloc[:10].to_csv(first / "results.csv", index=False)
    epochs = pandas.read_csv(first / "training.csv")
    epochs.iloc[:10].assign(seconds=6.0).to_csv(first / "training.csv", index=False)
    row = listed(capsys, results)[first.name]
    assert (row["state"], row["measured nets"]) == ("interrupted", "10/15")
    # of 3 x (2 + 2 x 2 x 2) epochs, 20 are left
    assert row["time left"] == "2 min"
    lock = Lock.take(first / "run.lock")
    assert listed(capsys, results)[first.name]["state"] == "running"
    lock.release()
    failure = "method,net_seed,repetition,step,task,reason,num_given_up\nWT,0,0,1,prune,no luck,3\n"
    (second / "failures.csv").write_text(failure)
    assert listed(capsys, results)[second.name]["state"] == "failed"
    assert "no luck" in printed(capsys, "show", second)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", ""),
        ("config.yaml", "[1, 2"),
        ("config.yaml", "network: {name: 3}"),
        ("config.yaml", "\x00\x01"),
        ("results.csv", "a,b\n1,2\n"),
        ("results.csv", "\x00" * 100),
        ("failures.csv", ""),
    ],
)
def test_a_damaged_run_is_listed_as_such_and_hides_no_other(results, capsys, name, content):
    first, second = first_and_second(results)
    (first / name).write_text(content)
    rows = listed(capsys, results)
    assert (rows[first.name]["state"], rows[second.name]["state"]) == ("damaged", "done")
    error = printed(capsys, "show", first, expected=2)
    assert error.startswith("error: ") and error.count("\n") == 1 and str(first / name) in error


@pytest.mark.parametrize("command", ["show", "compare", "diff"])
def test_what_is_no_run_is_told_in_one_line(tmp_path, capsys, command):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "config.yaml").write_text("mine: yes")
    error = printed(capsys, command, tmp_path, expected=2)
    reason = "holds no run, that is no config.yaml with an environment.json"
    assert error == f"error: {tmp_path}: {reason}\n"
    error = printed(capsys, command, tmp_path / "none", expected=2)
    assert error == f"error: {tmp_path / 'none'}: no such directory\n"


def test_list_of_nothing(tmp_path, capsys):
    assert printed(capsys, "list", tmp_path, expected=2) == f"error: {tmp_path}: holds no run yet\n"
    error = printed(capsys, "list", tmp_path / "none", expected=2)
    assert error == f"error: {tmp_path / 'none'}: no such directory\n"


def test_a_directory_with_several_runs_is_not_one_of_them(made, capsys):
    error = printed(capsys, "show", made, expected=2)
    assert "holds 2 runs; name one of small/" in error and error.count("\n") == 1
    first, _ = first_and_second(made)
    error = printed(capsys, "compare", first, first / ".." / first.name, expected=2)
    assert error.endswith(": is named twice\n")


def test_show(made, capsys):
    first, _ = first_and_second(made)
    text = printed(capsys, "show", first)
    assert "state: done" in text and "keep ratios: 0.5, 0.2" in text
    settings = [line.split() for line in text.splitlines() if line.split()[:1] == ["num_nets"]]
    assert settings == [["num_nets", "3", "1"]]
    assert "largest prune ratio with an error at most 0.5 points" in text


def test_diff(made, capsys):
    first, second = first_and_second(made)
    rows = json.loads(printed(capsys, "diff", first, second, "--format", "json"))
    by_key = {row["key"]: (row[first.name], row[second.name]) for row in rows}
    assert by_key["retraining.epochs"] == (2, 1)
    assert by_key["pruning.methods[0].name"] == ("SiPP", "WT")
    assert by_key["pruning.methods[1].name"] == ("WT", "")
    assert "num_nets" not in by_key
    assert printed(capsys, "diff", first, expected=2).startswith("error: diff needs at least two")


def test_side_by_side(made):
    first, _ = first_and_second(made)
    rows = pandas.read_csv(first / "results.csv")
    table = side_by_side({"a": rows}, "test_loss").set_index(["method", "keep_ratio_requested"])
    losses = rows.query("method == 'WT' and step == 2")["test_loss"]
    found = table.loc["WT", 0.2]
    assert found["mean"] == pytest.approx(losses.mean()) and found["nets"] == 3
    assert found["deviation"] == pytest.approx(losses.std(ddof=1))
    assert ("reference", 1.0) in table.index


def table_of(accuracies: dict[str, list[list[float]]], unpruned=(0.9, 0.91, 0.92)):
    """Rows of results.csv: for each method, the accuracies of each net at 0.5 and 0.2."""
    rows = [
        {"method": "reference", "net_seed": net, "step": 0, "keep_ratio_requested": 1.0, "a": value}
        for net, value in enumerate(unpruned)
    ]
    for method, of_nets in accuracies.items():
        rows += [
            {
                "method": method,
                "net_seed": net,
                "step": 1,
                "keep_ratio_requested": ratio,
                "a": value,
            }
            for net, of_net in enumerate(of_nets)
            for ratio, value in zip((0.5, 0.2), of_net)
        ]
    return pandas.DataFrame(rows).assign(
        test_accuracy=lambda table: table["a"], test_loss=0.5, retrained=True, repetition=0
    )


def test_differences_by_hand():
    """Each net's difference is the mean over ratios; the interval is that of a paired t test."""
    base = [[0.8, 0.7], [0.82, 0.7], [0.84, 0.7]]
    better = [[0.9, 0.8], [0.91, 0.83], [0.95, 0.79]]  # by 0.1, 0.11 and 0.1
    noisy = [[0.9, 0.7], [0.7, 0.7], [0.84, 0.75]]
    rows = table_of({"WT": base, "Better": better, "Noisy": noisy})
    table = differences({"a": rows}, "test_accuracy").set_index("method")
    gains = numpy.array([0.1, 0.11, 0.1])
    expected = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    found = table.loc["Better"]
    assert found["difference"] == pytest.approx(gains.mean())
    assert (found["from"], found["to"]) == pytest.approx((expected.low, expected.high))
    assert (found["verdict"], found["nets"], found["ratios"]) == ("higher", 3, 2)
    assert table.loc["Noisy", "verdict"] == "3 nets cannot tell"
    reverse = differences({"a": rows}, "test_accuracy", "Better").set_index("method")
    assert reverse.loc["WT", "verdict"] == "lower"
    assert reverse.loc["WT", "difference"] == pytest.approx(-gains.mean())


def test_differences_need_the_same_nets():
    base = {"WT": [[0.8, 0.7], [0.82, 0.7], [0.84, 0.7]]}
    runs = {
        "a": table_of(base),
        "same": table_of(base),
        "one": table_of(base, unpruned=(0.9, 0.5, 0.5)),
        "other": table_of(base, unpruned=(0.5, 0.5, 0.5)),
    }
    table = differences(runs, "test_accuracy").set_index("run")
    assert table["verdict"].to_dict() == {
        "same": "3 nets cannot tell",
        "one": "one net cannot tell",
        "other": "no nets and ratios in common",
    }


def test_compare(made, capsys):
    first, second = first_and_second(made)
    text = printed(capsys, "compare", first, second)
    assert f"test_accuracy, difference to WT of run {first.name}:" in text
    rows = json.loads(
        printed(capsys, "compare", first, second, "--differences", "--format", "json")
    )
    assert [(row["run"], row["method"], row["nets"]) for row in rows] == [
        (first.name, "SiPP", 3),
        (second.name, "WT", 3),
    ]
    error = printed(capsys, "compare", first, "--metric", "test_acuracy", expected=2)
    assert "no column 'test_acuracy' of numbers; did you mean 'test_accuracy'?" in error
    error = printed(capsys, "compare", first, "--baseline", "SIPP", expected=2)
    assert "has no method 'SIPP'; did you mean 'SiPP'?" in error and error.count("\n") == 1


def test_many_rows_are_compared(made, capsys, tmp_path):
    """Ten thousand of them, by one command; `benchmarks` are where its time is measured."""
    first, _ = first_and_second(made)
    shutil.copytree(first, tmp_path / "run")
    rows = pandas.read_csv(first / "results.csv")
    pruned = rows[rows["method"] != "reference"]
    many = [pruned.assign(repetition=number) for number in range(1, 850)]
    pandas.concat([rows, *many]).to_csv(tmp_path / "run" / "results.csv", index=False)
    text = printed(capsys, "compare", tmp_path / "run", "--differences", "--format", "csv")
    assert len(pandas.read_csv(io.StringIO(text))) == 1


def test_clean_asks_and_spares_what_is_needed(results, capsys, monkeypatch):
    first, second = first_and_second(results)
    damaged = second / "steps" / "damaged" / "net0" / "train.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{}")
    before = sorted(results.rglob("*"))
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert "nothing was deleted" in printed(capsys, "clean", results)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))  # nobody there
    assert "nothing was deleted" in printed(capsys, "clean", results)
    assert sorted(results.rglob("*")) == before
    lock = Lock.take(first / "run.lock")
    everything = ["clean", results, "--what", "nets", "damaged", "states", "--yes"]
    printed(capsys, *everything)
    assert not damaged.exists() and list((results / ".nets").rglob("*.safetensors"))
    assert not list((second / "steps").rglob("*.safetensors"))
    assert list((first / "steps").rglob("*.safetensors"))
    lock.release()
    printed(capsys, *everything)
    assert not list(results.rglob("*.safetensors"))
    assert printed(capsys, *everything) == "nothing to delete\n"
    assert [row["state"] for row in listed(capsys, results).values()] == ["done", "done"]


def test_clean_does_not_follow_links(results, tmp_path, capsys):
    first, _ = first_and_second(results)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.safetensors").touch()
    shutil.rmtree(results / ".nets")
    (results / ".nets").symlink_to(elsewhere)
    (first / "steps" / "linked").symlink_to(elsewhere)
    printed(capsys, "clean", results, "--what", "nets", "states", "--yes")
    assert (elsewhere / "mine.safetensors").exists()


def test_tools_do_not_import_torch(made):
    code = (
        "import sys; from experiment.__main__ import main; assert main(sys.argv[1:]) == 0; "
        "assert 'torch' not in sys.modules"
    )
    first, second = first_and_second(made)
    for arguments in (
        ["list", made],
        ["show", first],
        ["compare", first, second],
        ["diff", first, second],
        ["clean", made],
    ):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input="n")
        assert done.returncode == 0, done.stderr


def test_configurations_that_are_listed_are_those_of_runs(made):
    for found in find_runs(made):
        assert found.config.run_id() == found.directory.name
    with pytest.raises(UserError, match="no such directory"):
        find_runs(made / "none")
    assert FoundRun(made / "none").state == "damaged"
