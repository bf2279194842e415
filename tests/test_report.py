"""report.html: what it says of a run, what it must not let through, and where it is written."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pandas
import pytest
from conftest import ROOT, SMALL
from made_up_runs import made_up_layers, made_up_rows, made_up_run

from experiment.__main__ import main
from experiment.config.loading import load_config
from experiment.config.sweeps import load_sweep
from experiment.reporting.measures import judged
from experiment.reporting.plots.colours import SHIPPED_COLOURS
from experiment.reporting.report.curves import points, series, unpruned
from experiment.reporting.report.headline import explanation, headline, status
from experiment.reporting.report.page import data, page
from experiment.reporting.report.sections import settings, times, total_times
from experiment.runs.driver import run
from experiment.runs.lock import locked
from experiment.runs.report import write_report

NASTY = '</script><script>alert("x")</script><!--'


def points_of(method: str, rows: pandas.DataFrame) -> list[dict]:
    pruned = judged(rows)
    return points(pruned[pruned["method"] == method])


# What is said


def test_the_headline_names_the_method_that_can_be_pruned_most():
    # A margin of 2.5 points allows SiPP two steps (80%), and WT one (50%).
    told = headline([made_up_run(margin=0.025)])
    assert told == "SiPP keeps 89.0% ± 1.4 at 80.0% pruned"
    assert (
        "at most 2.5 points above that of the unpruned one, whose accuracy is 91.0%"
        in explanation([made_up_run(margin=0.025)])
    )
    assert "over 2 nets" in explanation([made_up_run()])


def test_of_methods_that_are_pruned_equally_the_most_accurate_one_is_named():
    assert headline([made_up_run(margin=0.5)]) == "SiPP keeps 88.0% ± 1.4 at 90.0% pruned"


def test_a_single_net_has_no_spread():
    alone = made_up_run(made_up_rows(num_nets=1), margin=0.025)
    assert headline([alone]) == "SiPP keeps 88.0% at 80.0% pruned"
    assert "single net" in explanation([alone])


def test_if_nothing_is_commensurate_the_closest_method_is_named():
    told = headline([made_up_run(margin=0.001)])
    assert told.startswith("No method stays within the margin; SiPP comes closest: 1.0 points")
    assert told.endswith("at 50.0% pruned")


def test_before_anything_is_pruned_the_unpruned_net_is_told():
    rows = made_up_rows(methods=())
    going_on = made_up_run(rows, state="running", num_expected=14)
    assert headline([going_on]) == "The unpruned net has 91.0% ± 1.4; nothing is pruned yet"
    assert headline([made_up_run(rows)]).endswith("; no net was pruned")


def test_without_rows_nothing_is_claimed():
    nothing = made_up_run(pandas.DataFrame(), state="running", num_expected=14)
    assert headline([nothing]) == "No net has been measured yet"
    failed = made_up_run(pandas.DataFrame(), state="failed", num_expected=14)
    assert headline([failed]) == "No net was measured"
    for content in (nothing, failed):
        assert "0 of 14 nets" in status(content)
        assert data([content])["series"] == []
        assert "</html>" in page([content], "title")


def test_a_run_in_progress_says_so():
    some = made_up_run(
        made_up_rows(), margin=0.025, state="running", num_expected=40, seconds_left=125.0
    )
    assert headline([some]).startswith("So far, SiPP keeps")
    assert status(some).startswith("Running: 14 of 40 nets are measured, about 2 min left")
    text = page([some], "title")
    assert re.search(r'<progress max="40" value="14"', text)


def test_nets_whose_unpruned_one_is_not_measured_yet_are_left_out():
    rows = made_up_rows()
    rows = rows[~((rows["method"] == "reference") & (rows["net_seed"] == 1))]
    some = made_up_run(rows, margin=0.025, state="running")
    assert headline([some]) == "So far, SiPP keeps 88.0% at 80.0% pruned"
    difference = points_of("SiPP", rows)[0]["mean"]["difference"]
    assert difference == pytest.approx(-0.01)
    assert headline([made_up_run(rows, margin=0.001, state="running")]).startswith("So far, no")
    alone = made_up_run(rows[rows["method"] != "reference"], state="running")
    assert headline([alone]) == "Pruned nets are measured, but no unpruned one yet"
    assert "</html>" in page([alone], "title")


def test_failures_are_told_with_their_reasons():
    failure = {
        "method": "WT",
        "net_seed": 1,
        "repetition": 0,
        "step": 2,
        "task": "prune",
        "reason": f"no weights {NASTY}",
        "num_given_up": 3,
    }
    failed = made_up_run(state="failed", failures=pandas.DataFrame([failure]))
    assert status(failed).startswith("Failed: 1 task;")
    shown = text_of(page([failed], "title"))
    assert "prune, net 1, WT, step 2" in shown and f"no weights {NASTY}" in shown


# What is drawn


def test_points_are_means_and_deviations_over_nets():
    first, second, third = points_of("WT", made_up_rows())
    assert (first["step"], first["nets"]) == (1, 2)
    assert first["mean"]["test_accuracy"] == pytest.approx((0.88 + 0.90) / 2)
    assert first["deviation"]["test_accuracy"] == pytest.approx(0.02 / 2**0.5, abs=1e-6)
    assert first["mean"]["difference"] == pytest.approx(-0.02)
    assert first["deviation"]["difference"] == pytest.approx(0.0, abs=1e-6)  # that of each net
    assert second["mean"]["prune_ratio"] == pytest.approx(0.8)
    assert second["mean"]["flop_reduction"] == pytest.approx(0.4)
    assert third["mean"]["accuracy_before_retraining"] == pytest.approx(0.85 - 0.1)
    assert unpruned(made_up_run())["test_accuracy"] == pytest.approx(0.91)


def test_repetitions_of_a_net_are_averaged_first():
    rows = made_up_rows()
    again = rows[rows["method"] == "WT"].assign(repetition=1)
    again = again[again["net_seed"] == 0].assign(test_accuracy=0.5)
    first = points_of("WT", pandas.concat([rows, again]))[0]
    assert first["nets"] == 2
    assert first["mean"]["test_accuracy"] == pytest.approx(((0.88 + 0.5) / 2 + 0.90) / 2)


def test_a_single_net_has_no_band():
    assert points_of("WT", made_up_rows(num_nets=1))[0]["deviation"]["test_accuracy"] is None


def test_methods_have_the_colours_of_the_figures_and_looks_of_their_own():
    curves = series([made_up_run()])
    assert [curve["colour"] for curve in curves] == [SHIPPED_COLOURS[m] for m in ("SiPP", "WT")]
    assert len({curve["look"] for curve in curves}) == 2
    joint = series([made_up_run(label="one"), made_up_run(label="two")])
    assert [(curve["run"], curve["look"]) for curve in joint] == [(0, 0), (0, 0), (1, 1), (1, 1)]
    assert joint[0]["colour"] == joint[2]["colour"] != joint[1]["colour"]


def test_shares_of_layers_are_passed_on_or_left_out():
    assert data([made_up_run()])["layers"] == [[]]
    [[first, second]] = data([made_up_run(layers=made_up_layers())])["layers"]
    assert (first["method"], second["method"]) == ("SiPP", "WT")
    assert first["layers"] == ["conv1", "fc"] and first["steps"] == [1, 2, 3]
    assert first["ratios"] == [[0.5, 0.2, 0.1], [0.25, 0.1, 0.05]]


def test_settings_that_differ_from_the_defaults_are_marked():
    found = {entry.name: entry for entry in settings([made_up_run(margin=0.02)])}
    margin = found["pruning.commensurate_margin"]
    assert (margin.values, margin.default, margin.is_changed) == (["0.02"], "0.005", True)
    assert not found["num_nets"].is_changed
    text = page([made_up_run()], "title")
    assert text.count('<tr class="changed">') == 1


def test_settings_of_several_runs_are_told_apart_where_they_differ():
    runs = [made_up_run(label="a", margin=0.02), made_up_run(label="b", margin=0.01)]
    found = {entry.name: entry for entry in settings(runs)}
    assert found["pruning.commensurate_margin"].values == ["0.02", "0.01"]
    assert len(found["num_nets"].values) == 1


def test_times_are_sums_by_phase():
    told = {row["method"]: row["cells"] for row in times([made_up_run()])}
    assert told == {
        "reference": ["20 s", "", ""],
        "SiPP": ["", "6 s", "1 min"],
        "WT": ["", "6 s", "1 min"],
    }
    assert total_times([made_up_run()]) == ["20 s", "12 s", "2 min"]


# What must not get through


class Reader(HTMLParser):
    """The elements of a page, and its text outside of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.elements: list[tuple[str, dict]] = [("", {})]
        self.texts: list[str] = []
        self.data = ""

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, text):
        tag, attributes = self.elements[-1]
        if tag == "script" and attributes.get("id") == "data":
            self.data += text
        elif tag not in ("script", "style"):
            self.texts.append(text)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


def text_of(text: str) -> str:
    return "".join(read(text).texts)


def test_names_never_become_elements_nor_end_the_data():
    nasty = made_up_run(
        made_up_rows(methods=(NASTY, "WT"), note=NASTY),
        label=NASTY,
        directory=NASTY,
        layers=made_up_layers(methods=(NASTY,)).assign(layer=NASTY),
        environment={NASTY: NASTY},
    )
    plain = read(page([made_up_run(environment={"a": "b"}), made_up_run()], "title"))
    found = read(page([nasty, made_up_run()], NASTY, left_out=[]))
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
    held = json.loads(found.data)
    assert held["runs"][0] == NASTY and held["series"][0]["method"] == NASTY
    assert "<" not in found.data and "&" not in found.data
    assert NASTY in "".join(found.texts)


def test_the_page_names_no_other_file_and_its_policy_allows_none():
    text = page([made_up_run()], "title")
    found = read(text)
    links = [
        value
        for _, attributes in found.elements
        for name, value in attributes.items()
        if name in ("src", "href", "action", "srcset")
    ]
    assert links == ["data:,", "#results"]
    assert not re.search(r"@import|url\(", text)
    [policy] = [
        attributes["content"]
        for _, attributes in found.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    names = {name for _, attributes in found.elements for name in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]


def test_missing_and_infinite_numbers_can_be_held():
    rows = made_up_rows()
    rows.loc[3, "test_loss"] = float("inf")
    rows.loc[4, "test_loss"] = float("nan")
    held = json.loads(read(page([made_up_run(rows)], "title")).data)
    losses = [
        row[[c["name"] for c in held["table"]["columns"]].index("test_loss")]
        for row in held["table"]["rows"]
    ]
    assert losses[3] is None and losses[4] is None and losses[0] == pytest.approx(0.1)


def test_a_thousand_rows_make_less_than_a_megabyte():
    nets = 1000 // (9 * 3 + 1) + 1
    rows = made_up_rows(methods=list(SHIPPED_COLOURS)[:9], num_nets=nets)
    rows["test_loss"] = rows["test_loss"] / 3  # with all digits
    rows["note"] = "no weights are left in conv1; the output is the same for all samples"
    assert len(rows) >= 1000
    assert len(page([made_up_run(rows)], "title").encode()) < 1_000_000


# Where it is written


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of one net, and what it came to."""
    results = tmp_path_factory.mktemp("results")
    path = results / "small.yaml"
    path.write_text(SMALL)
    config = load_config(path, [])
    return run(config, results / "small" / config.run_id())


def test_a_run_writes_its_report_when_it_ends(finished):
    directory = finished.plot.parents[1]
    assert finished.report == directory / "report.html"
    shown = text_of(finished.report.read_text())
    assert "Done: 5 of 5 nets are measured." in shown and "lenet5 on digits" in shown


def test_the_command_writes_it_anew(finished, tmp_path, capsys):
    directory = finished.report.parent
    before = finished.report.read_text()
    finished.report.unlink()
    assert main(["report", str(directory)]) == 0
    assert capsys.readouterr().out == f"report: {directory / 'report.html'}\n"
    assert finished.report.read_text() == before
    other = tmp_path / "deep" / "other.html"
    assert main(["report", str(directory), "-o", str(other)]) == 0
    assert other.read_text() == before


def test_runs_below_a_directory_are_reported_together(finished, tmp_path):
    for name in ("one", "two", "three"):
        shutil.copytree(finished.report.parent, tmp_path / name)
    (tmp_path / "three" / "results.csv").write_text("nonsense")
    path = write_report(tmp_path)
    held = json.loads(read(path.read_text()).data)
    assert sorted(held["runs"]) == ["one", "two"]
    assert len(held["table"]["rows"]) == 10 and held["table"]["columns"][0]["name"] == "run"
    shown = text_of(path.read_text())
    assert "2 of 2 runs are done" in shown
    assert re.search(r"Left out: .*three.results\.csv: is not a table of results", shown)


def test_a_sweep_is_reported_with_what_was_swept(tmp_path, capsys):
    path = tmp_path / "small.yaml"
    sweep = "sweep: {grid: {pruning.methods: [[WT], [SNIP]]}}"
    path.write_text(f"{SMALL}\n{sweep}\n")
    assert main(["run", str(path), "--results", str(tmp_path / "r"), "--device", "cpu"]) == 0
    [directory] = (tmp_path / "r" / "small").glob("sweep-*")
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2] == f"report: {directory / 'report.html'}"
    held = json.loads(read((directory / "report.html").read_text()).data)
    assert held["runs"] == ["methods=[WT]", "methods=[SNIP]"]
    assert [curve["method"] for curve in held["series"]] == ["WT", "SNIP"]
    for found in directory.parent.glob("*/report.html"):
        assert found.stat().st_size > 10_000
    (directory / "runs.json").write_text("[")
    assert main(["report", str(directory)]) == 2
    assert "runs.json: cannot be read; run the sweep again" in capsys.readouterr().err


def test_a_sweep_of_which_no_run_could_begin_has_no_report(tmp_path, capsys):
    path = tmp_path / "small.yaml"
    path.write_text(f"{SMALL}\nsweep: {{grid: {{seed: [0, 1]}}}}\n")
    with contextlib.ExitStack() as locks:
        for combination in load_sweep(path, []).combinations:
            locks.enter_context(locked(tmp_path / "r" / "small" / combination.config.run_id()))
        assert main(["run", str(path), "--results", str(tmp_path / "r"), "--device", "cpu"]) == 3
    printed = capsys.readouterr()
    assert "error" not in printed.err and "report:" not in printed.out


def test_a_locked_run_is_running_until_it_is_concluded(finished, tmp_path):
    directory = finished.report.parent
    with locked(directory):
        running = write_report(directory, tmp_path / "running.html").read_text()
        over = write_report(directory, tmp_path / "over.html", is_concluded=True).read_text()
    assert "Running: 5 of 5" in text_of(running) and "Done: 5 of 5" in text_of(over)


def test_what_holds_no_run_or_is_damaged_is_told_in_one_line(finished, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    shutil.copytree(finished.report.parent, tmp_path / "damaged")
    (tmp_path / "damaged" / "config.yaml").write_text("network: [")
    for name in ("empty", "missing", "damaged"):
        assert main(["report", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_told_in_one_line(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["report", str(finished.report.parent), "-o", str(tmp_path / "file" / "r")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("failed: cannot write") and told.count("\n") == 1


def test_a_report_needs_neither_torch_nor_matplotlib(finished):
    code = (
        "import sys; from experiment.__main__ import main; main(sys.argv[1:]); "
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(finished.report.parent)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
