"""Suites: scores and ranks by hand, stored results, and a tiny suite with a method of one's own."""

import json
import shutil

import numpy
import pandas
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_runs import RATIOS, made_up_rows
from scipy import stats

from examples.lamp import lamp_scores
from experiment.__main__ import main as command_line
from experiment.core.columns import columns
from experiment.core.errors import UserError
from experiment.reporting.comparison import CONFIDENCE
from experiment.reporting.estimates import combined, difference, mean_of
from experiment.reporting.records import REFERENCE, ResultRecord
from experiment.reporting.suites.contest import contest
from experiment.reporting.suites.ranking import (
    DIFFERENCE_COLUMNS,
    EQUAL,
    HIGHER,
    LOWER,
    RANKING_COLUMNS,
    differences,
    ranking,
)
from experiment.reporting.suites.scores import Contestant, scores
from experiment.runs import suites
from experiment.runs.paths import results_directory
from experiment.runs.suite_files import DIFFERENCES, RANKING, RANKING_TEXT
from experiment.runs.suite_results import OVERALL, ExperimentResults, SuiteResults
from experiment.runs.suite_stored import ABOUT, StoredResults, load_stored
from experiment.runs.suites import open_suite, planned, shipped_methods, shipped_suites

SMALL_STORED = ROOT / "paper" / "suite" / "results" / "small"
TINY = """
network: {{name: lenet5}}
dataset: {{name: digits}}
training: {{epochs: 2, batch_size: 64, optimizer: {{name: SGD, lr: 0.05}}}}
retraining: {{epochs: 1}}
pruning: {{methods: [{baseline}], keep_ratios: [0.5, 0.3]}}
num_nets: {num_nets}
"""


# Estimates, against scipy


def test_a_mean_has_the_interval_of_students_t():
    estimate = mean_of([1.0, 2.0, 3.0])
    assert (estimate.mean, estimate.degrees) == (2.0, 2)
    assert estimate.variance == pytest.approx(1 / 3)
    half = 4.302653 / 3**0.5  # the quantile of t with 2 degrees of freedom at 97.5%
    assert estimate.interval(0.95) == pytest.approx((2 - half, 2 + half))


samples = st.lists(st.floats(-50, 50), min_size=2, max_size=8).filter(lambda x: numpy.std(x) > 0.1)


@settings(deadline=None)
@given(samples, samples, st.floats(0.5, 0.999))
def test_independent_means_are_compared_as_welch_does(one, other, confidence):
    found = difference(mean_of(one), mean_of(other)).interval(confidence)
    welch = stats.ttest_ind(one, other, equal_var=False).confidence_interval(confidence)
    assert found == pytest.approx((welch.low, welch.high), rel=1e-6, abs=1e-9)


def test_the_mean_over_experiments_counts_them_alike():
    found = combined([(0.5, mean_of([0.0, 2.0])), (0.5, mean_of([10.0, 10.0, 10.0, 14.0]))])
    assert found.mean == pytest.approx((1 + 11) / 2)
    assert found.variance == pytest.approx((1 + 1) / 4)  # 2 / 2 and 4 / 4, each over 2 squared
    assert found.degrees == pytest.approx((1 + 1) ** 2 / (1 / 1 + 1 / 3))


def test_a_single_net_has_no_interval_and_neither_has_what_is_made_of_it():
    single = mean_of([3.0])
    for estimate in (single, combined([(1.0, single), (1.0, mean_of([1.0, 2.0]))])):
        assert all(map(numpy.isnan, estimate.interval(0.95)))


@pytest.mark.parametrize("values", [[2.0, 2.0, 2.0], [0.1 + 0.2, 0.3, 0.3], [0.0, 0.0]])
def test_values_that_are_alike_have_no_interval(values):
    """Few multiples of one image are easily equal, which does not make their mean certain."""
    assert all(map(numpy.isnan, mean_of(values).interval(0.95)))
    one = mean_of([1.0, 2.0])
    both = combined([(1.0, one), (1.0, mean_of([2.0, 2.0, 2.0]))]).interval(0.95)
    assert both == pytest.approx([end + 2 for end in one.interval(0.95)])


# Scores


def test_scores_by_hand():
    rows = made_up_rows()  # steps cost SiPP 1, 2 and 3 points, WT 2, 4 and 6
    for method, score, pruned in (("SiPP", -2, 0.8), ("WT", -4, 0.5)):
        found = scores(rows[rows["method"].isin([method, REFERENCE])], RATIOS, margin=0.02)
        assert found["net_seed"].tolist() == [0, 1]
        assert found["score"].tolist() == pytest.approx([score] * 2)
        assert found["commensurate_prune_ratio"].tolist() == pytest.approx([pruned] * 2)
        assert found["unpruned_test_accuracy"].tolist() == pytest.approx([0.9, 0.92])
        assert found["most_kept_too_much"].tolist() == pytest.approx([0, 0])


def test_repetitions_are_averaged_before_the_score_is_made():
    rows = made_up_rows(methods=("SiPP",), num_nets=1)
    again = rows[rows["method"] == "SiPP"].assign(repetition=1)
    again["test_accuracy"] -= 0.04
    found = scores(pandas.concat([rows, again]), RATIOS, margin=0.02)
    assert found["score"].tolist() == pytest.approx([-4])


def test_nets_that_lack_a_ratio_or_their_unpruned_net_have_no_score():
    rows = made_up_rows(methods=("SiPP",), num_nets=3)
    lacks_ratio = (rows["net_seed"] == 0) & (rows["step"] == 3)
    lacks_unpruned = (rows["net_seed"] == 1) & (rows["method"] == REFERENCE)
    found = scores(rows[~lacks_ratio & ~lacks_unpruned], RATIOS, margin=0.02)
    assert found["net_seed"].tolist() == [2]


def test_repetitions_that_lack_a_ratio_are_left_out():
    rows = made_up_rows(methods=("SiPP",), num_nets=1)
    again = rows[(rows["method"] == "SiPP") & (rows["step"] < 3)].assign(repetition=1)
    again["test_accuracy"] = 0.1
    found = scores(pandas.concat([rows, again]), RATIOS, margin=0.02)
    assert found["score"].tolist() == pytest.approx([-2])


def test_a_size_above_the_one_asked_for_is_told():
    rows = made_up_rows(methods=("SiPP",), num_nets=1)
    rows.loc[rows["step"] == 2, "keep_ratio"] = 0.25  # instead of 0.2
    found = scores(rows, RATIOS, margin=0.02)
    assert found["most_kept_too_much"].tolist() == pytest.approx([0.25])


# Ranks


def contestant(method, *by_experiment, unpruned=0.9, same_nets=False, **values):
    """A method with scores per experiment `a`, `b`, ... and nets that are told by their number.

    Experiments have nets of their own, unless they are the same.
    """
    found = {}
    for place, (name, values_of_nets) in enumerate(zip("abc", by_experiment)):
        nets = range(len(values_of_nets))
        found[name] = pandas.DataFrame(
            {
                "net_seed": nets,
                "unpruned_test_accuracy": [unpruned + net / 100 for net in nets],
                "unpruned_test_loss": [0.1 if same_nets else 0.1 + place] * len(nets),
                "score": values_of_nets,
                "commensurate_prune_ratio": [0.5] * len(nets),
                "most_kept_too_much": [0.0] * len(nets),
            }
        )
    return Contestant(method, scores=found, **{"is_stored": False, **values})


def ranked_by(contestants, experiments, baseline):
    compared = contest(contestants, experiments)
    return ranking(compared, differences(compared), baseline)


NETS_DIFFER = [
    contestant("best", [-1.0, -11.0, -21.0, -31.0]),  # nets differ much, methods little
    contestant("second", [-2.1, -12.0, -21.9, -32.0], is_stored=True),
    contestant("third", [-2.0, -12.1, -22.0, -31.9]),
    contestant("Random", [-40.0, -51.0, -60.0, -69.0]),
]


def test_the_rank_table_by_hand():
    table = ranked_by(NETS_DIFFER, ["a"], "Random")
    assert table.columns.tolist() == RANKING_COLUMNS
    assert table["method"].tolist() == ["best", "second", "third", "Random"]
    ranks = list(zip(table["rank_from"], table["rank_to"]))
    assert ranks == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert table["cannot_be_told_apart_from"].tolist() == ["", "third", "second", ""]
    assert table["results"].tolist() == ["new", "stored", "new", "new"]
    assert table["score"].tolist() == pytest.approx([-16, -17, -17, -55])
    assert table["to_baseline"].tolist()[:3] == pytest.approx([39, 38, 38])
    assert numpy.isnan(table["to_baseline"].iloc[3])


def test_differences_hold_together_and_are_paired_by_net():
    pairs = differences(contest(NETS_DIFFER, ["a"]))
    assert pairs.columns.tolist() == DIFFERENCE_COLUMNS and len(pairs) == 4 * 3
    row = pairs[(pairs["method"] == "best") & (pairs["other"] == "third")].iloc[0]
    confidence = 1 - (1 - CONFIDENCE) / 3  # each method is compared with three others
    one, other = (NETS_DIFFER[index].scores["a"]["score"] for index in (0, 2))
    expected = stats.ttest_rel(one, other).confidence_interval(confidence)
    assert (row["from"], row["to"]) == pytest.approx((expected.low, expected.high))
    assert (row["verdict"], row["compared_on"]) == (HIGHER, "4 nets")
    opposite = pairs[(pairs["method"] == "third") & (pairs["other"] == "best")].iloc[0]
    assert opposite["verdict"] == LOWER
    assert opposite["difference"] == pytest.approx(-row["difference"])


def test_methods_on_other_nets_are_compared_as_on_other_nets():
    elsewhere = contestant("elsewhere", [-2.1, -12.0, -21.9, -32.0], unpruned=0.8)
    pairs = differences(contest([NETS_DIFFER[0], elsewhere], ["a"]))
    one, other = (each.scores["a"]["score"] for each in (NETS_DIFFER[0], elsewhere))
    expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval(CONFIDENCE)
    row = pairs.iloc[0]
    assert (row["from"], row["to"]) == pytest.approx((expected.low, expected.high))
    assert (row["verdict"], row["compared_on"]) == (EQUAL, "unpruned nets differ")


def test_experiments_count_alike_and_all_must_be_finished():
    one = contestant("one", [-1.0, -2.0], [-5.0, -6.0, -10.0])
    other = contestant("other", [-2.0, -2.5], [-5.0, -5.0, -5.0])
    unfinished = contestant("unfinished", [0.0, 0.0])
    table = ranked_by([one, other, unfinished], ["a", "b"], "other")
    assert table["method"].tolist() == ["other", "one"]
    assert table["score"].tolist() == pytest.approx([-(2.25 + 5) / 2, -(1.5 + 7) / 2])
    assert table["nets"].tolist() == [5, 5]
    assert table["to_baseline"].tolist()[1] == pytest.approx((0.75 - 2) / 2)
    assert ranked_by([one, other, unfinished], ["a"], "other")["method"].tolist()[0] == "unfinished"


def test_experiments_on_the_same_nets_are_one_sample_of_nets():
    """They would not be independent: what a net loses by one schedule it loses by another."""
    nets = ([-1.0, -2.0, -6.0], [-1.0, -3.0, -8.0], [-4.0, -4.0, -5.0])
    one = contestant("one", *nets[:2], same_nets=True)
    other = contestant("other", [0.0] * 3, [0.0] * 3, same_nets=True)
    [row, _] = differences(contest([one, other], ["a", "b"])).to_dict("records")
    expected = stats.ttest_1samp([-1.0, -2.5, -7.0], 0).confidence_interval(CONFIDENCE)
    assert (row["from"], row["to"]) == pytest.approx((expected.low, expected.high))
    assert row["compared_on"] == "3 nets"
    # A third experiment counts a third still, with nets of its own.
    for each, scores_there in ((one, nets[2]), (other, [0.0] * 3)):
        each.scores["c"] = contestant("c", scores_there, unpruned=0.5).scores["a"]
    [row, _] = differences(contest([one, other], ["a", "b", "c"])).to_dict("records")
    assert row["difference"] == pytest.approx((-3 - 4 - 13 / 3) / 3)
    assert row["compared_on"] == "6 nets"


def test_differences_that_are_alike_say_nothing():
    """By a hundredth of a point on each of three nets, up to rounding errors."""
    one, other = contestant("one", [0.3, -2.0, 5.01]), contestant("other", [0.31, -1.99, 5.02])
    table = ranked_by([one, other], ["a"], "other")
    assert list(zip(table["rank_from"], table["rank_to"])) == [(1, 2), (1, 2)]


def test_a_rank_holds_in_95_of_100_worlds_even_if_all_methods_are_equal():
    random, worlds = numpy.random.default_rng(0), 400
    held = 0
    for _ in range(worlds):
        nets = random.normal(scale=5, size=4)  # differ more than methods
        values = nets + random.normal(size=(5, 4))
        table = ranked_by([contestant(f"{n}", list(v)) for n, v in enumerate(values)], ["a"], "0")
        first = table[table["method"] == "0"].iloc[0]
        held += (first["rank_from"], first["rank_to"]) == (1, 5)
    assert held >= 0.92 * worlds  # three standard deviations below 95%


def test_one_net_gives_no_rank():
    table = ranked_by([contestant("one", [-1.0]), contestant("other", [-90.0])], ["a"], "other")
    assert list(zip(table["rank_from"], table["rank_to"])) == [(1, 2), (1, 2)]


@settings(deadline=None)
@given(st.permutations(range(4)))
def test_ranks_do_not_depend_on_the_order_of_methods(order):
    table = ranked_by([NETS_DIFFER[index] for index in order], ["a"], "Random")
    found = dict(zip(table["method"], zip(table["rank_from"], table["rank_to"])))
    assert found == {"best": (1, 1), "second": (2, 3), "third": (2, 3), "Random": (4, 4)}


# Shipped suites and their stored results


@pytest.mark.parametrize("name", ["small", "standard"])
def test_shipped_suites_have_nets_enough_and_their_baselines(name):
    suite = open_suite(name)
    baselines = {"weights": ["Random"], "filters": ["UniformFilters"]}
    for one in suite.experiments:
        assert one.config.num_nets >= 3
        assert one.baselines == baselines[one.removes]
    kinds = [
        {one.config.network.name for one in suite.experiments if one.removes == kind}
        for kind in baselines
    ]
    networks = {"small": {"lenet5", "resnet20"}, "standard": {"resnet20", "vgg16_bn", "wrn28_2"}}
    assert kinds == [networks[name]] * 2
    assert shipped_suites() == ["small", "standard"]


def test_without_a_method_all_shipped_ones_are_run_beside_what_removes_the_same():
    plans = planned(open_suite("small"), [])
    for plan in plans:
        assert set(plan.runs) <= set(shipped_methods())
    assert {label for plan in plans for label in plan.runs} == set(shipped_methods())
    [only] = {tuple(plan.runs) for plan in planned(open_suite("small"), ["{name: WT}"])}
    assert only == ("Random", "WT")


def test_stored_results_are_complete_and_of_the_suite_as_it_is():
    suite = open_suite("small")
    assert suite.stored == SMALL_STORED
    stored = load_stored(suite.stored)
    assert stored.rows.columns.tolist() == ["experiment", *columns(ResultRecord)]
    for plan in planned(suite, []):
        rows = stored.of(plan.experiment)
        config = plan.experiment.config
        assert set(rows["method"]) == {REFERENCE, *plan.runs}
        expected = config.num_nets * (1 + config.pruning.num_ratios * len(plan.runs))
        assert len(rows) == expected
    about = json.loads((SMALL_STORED / ABOUT).read_text())
    assert about["command"].startswith("python -m experiment suite small")
    assert {"torch", "platform", "device_name", "cpu_threads"} <= set(about["environment"])


def test_the_stored_ranking_follows_from_the_stored_results(tmp_path):
    """As if all methods had been run again with the same numbers."""
    suite = open_suite("small")
    stored = load_stored(suite.stored)
    plans = planned(suite, ["Random", "UniformFilters"])
    for plan in plans:
        config = plan.experiment.config
        for run in plan.runs.values():
            rows = stored.of(plan.experiment).drop(columns="experiment")
            names = [method.name for method in run.pruning.methods]
            folder = results_directory(str(plan.experiment.path), run.run_id(), tmp_path)
            folder.mkdir(parents=True)
            rows[rows["method"].isin([REFERENCE, *names])].to_csv(
                folder / "results.csv", index=False
            )
        assert config.num_nets == len(rows[rows["method"] == REFERENCE])
    found = SuiteResults(plans, stored, tmp_path)
    table = pandas.read_csv(SMALL_STORED / RANKING)
    for one in found.rankings:
        committed = table[
            (table["removes"] == one.removes) & (table["experiment"] == one.experiment)
        ].reset_index(drop=True)
        numbers = ["rank_from", "rank_to", "score", "to_baseline_from", "commensurate_prune_ratio"]
        assert committed["method"].tolist() == one.table["method"].tolist()
        for name in numbers:
            assert committed[name].tolist() == pytest.approx(one.table[name].tolist(), nan_ok=True)
    notes = found.standing().notes
    assert sum("the unpruned nets are the stored ones" in note for note in notes) == 4


# The command, with a tiny suite and a method of one's own


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A suite of an experiment for weights and one for filters."""
    folder = tmp_path_factory.mktemp("suites") / "tiny"
    folder.mkdir()
    (folder / "weights.yaml").write_text(TINY.format(baseline="Random", num_nets=3))
    (folder / "filters.yaml").write_text(TINY.format(baseline="UniformFilters", num_nets=2))
    return folder


def run_suite(folder, results, *arguments):
    where = ["--results", str(results), "--device", "cpu"]
    return command_line(["suite", str(folder), *where, *arguments])


@pytest.fixture(scope="module")
def ranked(tiny, tmp_path_factory):
    """The results directory after methods of both kinds were run."""
    results = tmp_path_factory.mktemp("ranked")
    methods = ["--method", "{name: WT, allocation: erk}", "--method", "FT"]
    assert run_suite(tiny, results, *methods) == 0
    return results


def test_a_method_of_ones_own_is_ranked_beside_stored_ones(tiny, ranked, tmp_path, capsys):
    results = tmp_path / "results"
    shutil.copytree(ranked, results)
    stored = shutil.copytree(ranked / "suite" / "tiny", tmp_path / "stored")
    nets = {path: path.stat().st_mtime_ns for path in (results / ".nets").rglob("*.safetensors")}
    assert len(nets) == 3  # what removes weights and what removes filters share two of them
    own = ["--method", "examples.lamp:LAMP", "--stored", str(stored)]
    assert run_suite(tiny, results, *own) == 0
    assert nets == {path: path.stat().st_mtime_ns for path in nets}
    printed = capsys.readouterr().out
    assert "weights: the unpruned nets are the stored ones; compared net by net" in printed
    assert "examples.lamp:LAMP: rank" in printed and "cannot be told apart" in printed

    directory = results / "suite" / "tiny"
    table = pandas.read_csv(directory / RANKING)
    overall = table[table["experiment"] == OVERALL]
    assert set(overall["removes"]) == {"weights"}
    by_method = dict(zip(overall["method"], overall["results"]))
    assert by_method == {
        "Random": "new",
        "examples.lamp:LAMP": "new",
        "WT(allocation=erk)": "stored",
    }
    pairs = pandas.read_csv(directory / DIFFERENCES)
    assert len(pairs[pairs["experiment"] == OVERALL]) == 6
    assert set(pairs["compared_on"]) == {"3 nets"}
    assert "methods that remove weights: weights" in (directory / RANKING_TEXT).read_text()
    report = (directory / "report.html").read_text()
    assert "Ranking" in report and "weights, stored" in report
    assert (directory / "ranking.png").stat().st_size > 1000
    rows = pandas.read_csv(directory / "results.csv")
    assert set(rows["method"]) == {REFERENCE, "Random", "examples.lamp:LAMP"}


def test_an_unpruned_net_that_only_a_later_run_has_measured_is_not_lost(tiny):
    [plan] = planned(open_suite(str(tiny)), ["WT"])
    rows = made_up_rows(methods=("Random", "WT"), num_nets=2)
    here = {name: rows[rows["method"].isin([REFERENCE, name])] for name in ("Random", "WT")}
    here["Random"] = here["Random"][here["Random"]["net_seed"] == 0]
    found = ExperimentResults(plan.experiment, {}, here, rows.head(0), False).rows
    nets = found[found["method"] == REFERENCE]["net_seed"]
    assert nets.tolist() == [0, 1] and len(found) == 2 + 3 + 2 * 3


def test_the_score_of_a_run_is_what_its_rows_say(ranked):
    directory = ranked / "suite" / "tiny"
    rows = pandas.read_csv(directory / "results.csv")
    rows = rows[rows["experiment"] == "filters"]
    unpruned = rows[rows["method"] == REFERENCE].set_index("net_seed")["test_accuracy"]
    pruned = rows[rows["method"] == "FT"]
    expected = 100 * (pruned["test_accuracy"] - pruned["net_seed"].map(unpruned)).mean()
    table = pandas.read_csv(directory / RANKING)
    found = table[(table["experiment"] == "filters") & (table["method"] == "FT")]
    assert found["score"].iloc[0] == pytest.approx(expected)


def test_other_unpruned_nets_than_the_stored_ones_are_told(tiny, ranked, tmp_path, capsys):
    stored = shutil.copytree(ranked / "suite" / "tiny", tmp_path / "stored")
    rows = pandas.read_csv(stored / "results.csv")
    rows["test_loss"] += 1e-6
    rows.to_csv(stored / "results.csv", index=False)
    code = run_suite(tiny, ranked, "--method", "FT", "--stored", str(stored))
    printed = capsys.readouterr().out
    assert code == 0
    assert "filters: the unpruned nets are not the stored ones (accuracy" in printed
    assert "filters: the baseline UniformFilters has score" in printed


def test_stored_results_of_another_version_are_not_used(tiny, ranked, tmp_path, capsys):
    stored = shutil.copytree(ranked / "suite" / "tiny", tmp_path / "stored")
    about = json.loads((stored / ABOUT).read_text())
    about["experiments"]["filters"] = "0123456789"
    (stored / ABOUT).write_text(json.dumps(about))
    assert run_suite(tiny, ranked, "--method", "SoftNet", "--stored", str(stored)) == 0
    printed = capsys.readouterr().out
    assert "filters: has changed since its results were stored" in printed
    table = pandas.read_csv(ranked / "suite" / "tiny" / RANKING)
    assert set(table["method"]) == {"UniformFilters", "SoftNet"}


def test_a_method_that_fails_is_not_ranked(tiny, tmp_path, capsys, monkeypatch):
    """It fails when it prunes the second net, of images that preflight does not have."""
    (tmp_path / "fails_on_many.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    assert run_suite(tiny, tmp_path / "results", "--method", "fails_on_many:Failing") == 1
    printed = capsys.readouterr().out
    assert "fails_on_many:Failing is not ranked" in printed
    assert "What has failed" in (tmp_path / "results/suite/tiny/report.html").read_text()


FAILING = """
from experiment.pruning.method import ScoreMethod


class Failing(ScoreMethod):
    \"\"\"Works with few images alone.\"\"\"

    def scores(self, analysis, stream):
        if sum(len(targets) for _, targets in analysis.batches) > 10:
            raise ValueError("too many images")
        return {name: weight.abs() for name, weight in analysis.weights.items()}
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smal"], "no suite 'smal'; did you mean 'small'? (there are: small, standard; or name"),
        (["small", "--method", "SiPQ"], "unknown method 'SiPQ'; did you mean 'SiPP'?"),
        (["small", "--method", "{name: WT, allocatoin: erk}"], "did you mean 'allocation'?"),
        (["small", "--method", "{name: WT"], "not valid YAML"),
        (
            ["small", "--method", "{name: SiPP, error: 0.1}"],
            "SiPP(error=0.1) decides itself how much is kept",
        ),
        (["small", "--method", "[WT, FT]"], "--method [WT, FT]: must be a name or a mapping"),
        (["small", "--method", ""], "must be a name or a mapping, such as WT"),
        (
            ["small", "--method", "no_module:Mine"],
            "cannot import method 'no_module:Mine': ModuleNotFoundError: No module named "
            "'no_module'; a class Mine in FOLDER/file.py is file:Mine, with FOLDER on PYTHONPATH",
        ),
        (["small", "--method", "folder/file.py:Mine"], "is file:Mine, with FOLDER on PYTHONPATH"),
        (["small", "--stored", "nowhere"], "nowhere: no such directory"),
        (["small", "--no-own-code", "--method", "examples.lamp:LAMP"], "--no-own-code refuses"),
        (["small", "--time"], "--time: only measures what a run would take; add --dry-run"),
    ],
)
def test_bad_input_is_told_in_one_line(arguments, message, tmp_path, capsys):
    assert command_line(["suite", *arguments, "--results", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no experiment, that is no .yaml file"),
        ({"a.yaml": "network: lenet5"}, "network"),
        ({"a.yaml": TINY.format(baseline="Random, FT", num_nets=1)}, "must remove the same"),
        (
            {"a.yaml": TINY.format(baseline="{name: SiPP, error: 0.1}", num_nets=1)},
            "a.yaml:6: pruning.methods: SiPP(error=0.1) decides itself how much is kept",
        ),
        (
            {"a.yaml": TINY.format(baseline="WT", num_nets=1) + "sweep: {grid: {seed: [0, 1]}}"},
            "a suite's experiment cannot be a sweep",
        ),
        (
            {"a.yaml": "network: {name: lenet5}\npruning: {schedule: train}"},
            "prunes nothing; a suite's experiment must prune",
        ),
    ],
)
def test_a_folder_that_is_no_suite_is_told_in_one_line(files, message, tmp_path, capsys):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert command_line(["suite", str(tmp_path), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_method_for_which_a_suite_has_no_experiment(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(TINY.format(baseline="Random", num_nets=1))
    assert command_line(["suite", str(tmp_path), "--method", "PFP", "--dry-run"]) == 2
    assert "--method PFP: removes filters, which no experiment" in capsys.readouterr().err


def test_stored_results_are_not_overwritten(tiny, ranked, tmp_path, capsys):
    results = shutil.copytree(ranked, tmp_path / "results")
    stored = results / "suite" / "tiny"
    before = (stored / "results.csv").read_bytes()
    assert run_suite(tiny, results, "--method", "WT", "--stored", f"{stored}/../tiny") == 2
    error = capsys.readouterr().err
    assert "is where this suite writes" in error and error.count("\n") == 1
    assert (stored / "results.csv").read_bytes() == before


@pytest.mark.parametrize("damage", ["{", "[]", '{"experiments": 3}'])
def test_damaged_stored_results_are_told_in_one_line(tiny, ranked, tmp_path, capsys, damage):
    stored = shutil.copytree(ranked / "suite" / "tiny", tmp_path / "stored")
    (stored / ABOUT).write_text(damage)
    assert run_suite(tiny, ranked, "--method", "WT", "--stored", str(stored)) == 2
    error = capsys.readouterr().err
    assert f"{stored / ABOUT}: cannot be read" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: pandas.concat([rows, rows]), "row {more} is there twice"),
        (lambda rows: rows.assign(method=None), "row 1 names no experiment or no method"),
        (lambda rows: rows.assign(test_accuracy=93.5), "row 1 has a test_accuracy that is not"),
        (lambda rows: rows.assign(test_accuracy=None), "row 1 has a test_accuracy that is not"),
    ],
)
def test_stored_rows_that_no_suite_has_written_are_refused(ranked, tmp_path, damage, message):
    stored = shutil.copytree(ranked / "suite" / "tiny", tmp_path / "stored")
    rows = pandas.read_csv(stored / "results.csv")
    damage(rows).to_csv(stored / "results.csv", index=False)
    with pytest.raises(UserError) as raised:
        load_stored(stored)
    assert f"results.csv: {message.format(more=len(rows) + 1)}" in str(raised.value)


def test_a_shipped_suite_named_by_its_folder_has_its_stored_results(monkeypatch):
    monkeypatch.chdir(ROOT / "paper")
    assert open_suite("suite/small").stored == open_suite("small").stored == SMALL_STORED


def test_stored_results_of_an_unknown_version_are_not_used(tiny):
    [_, experiment] = open_suite(str(tiny)).experiments
    rows = pandas.DataFrame({"experiment": [experiment.name], "method": ["WT"]})
    known = StoredResults(rows, {experiment.name: experiment.config.run_id()})
    unknown = StoredResults(rows, {})
    assert not known.is_outdated(experiment) and len(known.of(experiment)) == 1
    assert unknown.is_outdated(experiment) and not len(unknown.of(experiment))


def test_stored_results_may_lack_what_there_was_not_yet_but_not_what_ranks_need(ranked, tmp_path):
    stored = shutil.copytree(ranked / "suite" / "tiny", tmp_path / "stored")
    rows = pandas.read_csv(stored / "results.csv")
    rows.drop(columns="test_top5").to_csv(stored / "results.csv", index=False)
    found = load_stored(stored).rows
    assert found["test_top5"].isna().all() and len(found) == len(rows)
    rows.drop(columns="keep_ratio_requested").to_csv(stored / "results.csv", index=False)
    with pytest.raises(UserError, match="it has no column keep_ratio_requested"):
        load_stored(stored)


def test_an_installed_package_has_no_suites(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suites, "SHIPPED", tmp_path / "nowhere")
    assert command_line(["suite", "small"]) == 2
    assert "there are: none" in capsys.readouterr().err


def test_a_dry_run_says_what_a_suite_costs(tiny, tmp_path, capsys):
    assert run_suite(tiny, tmp_path / "results", "--method", "WT", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "run 2 of 2: method=WT" in printed and "cost of 2 runs" in printed
    assert not (tmp_path / "results").exists()


# The example of a method


def test_lamp_by_hand():
    weight = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
    expected = torch.tensor([[1 / 14, 4 / 13], [1.0, 0.0]])
    torch.testing.assert_close(lamp_scores(weight), expected)
    assert torch.equal(lamp_scores(torch.zeros(2, 2)), torch.zeros(2, 2))
