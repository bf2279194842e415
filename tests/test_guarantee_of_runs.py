"""Guarantees in experiments: images set aside, tests of pruned nets, and what is told of them."""

import dataclasses
from types import SimpleNamespace

import numpy
import pandas
import pytest
import torch
from scipy import stats

import experiment
from experiment.certification.holdout_tests import can_pass, fewest_images, p_value
from experiment.config.loading import load_config
from experiment.config.schema import Guarantee
from experiment.core.seeding import Stream
from experiment.data.loading import load_data
from experiment.main import main
from experiment.reporting.comparison import settings_that_differ
from experiment.reporting.guaranteed import guaranteed_nets, promise, with_guarantees
from experiment.reporting.records import REFERENCE, Place
from experiment.reporting.report.sections import guarantees
from experiment.reporting.summary import summarise
from experiment.reporting.summary_text import summary_text
from experiment.reporting.tables import load_holdout, load_results
from experiment.runs.holdout import all_doubts, holdout_row
from experiment.runs.records import EvaluatedRecord, from_json, to_json
from experiment.runs.tasks import Prune
from experiment.runs.workplace import Workplace

SETTINGS = "guarantee={loss: accuracy_drop, at_most: 0.1, confidence: 0.95}"


@pytest.fixture
def tiny(small_config):
    """A function from overrides to a configuration."""
    return lambda *overrides: load_config(small_config, list(overrides))


def evaluated(classes, correct) -> EvaluatedRecord:
    return EvaluatedRecord(
        validation_accuracy=0.5,
        test_accuracy=0.5,
        test_top5=1.0,
        test_loss=1.0,
        constant_output=False,
        holdout_classes=classes,
        holdout_correct=correct,
    )


PLACE = Place(method="SiPP", net_seed=0, repetition=0, step=1)


def test_a_test_by_hand():
    """Three of four predictions change: right to wrong twice, wrong to another wrong class once."""
    before = evaluated([0, 1, 2, 3], [True, True, False, True])
    after = evaluated([1, 0, 0, 3], [False, False, False, True])
    row = holdout_row(PLACE, before, after, Guarantee(loss="disagreement", at_most=0.9))
    assert row.observed == 0.75 and row.images == 4 and not row.passes
    assert row.p_value == pytest.approx(1 - 0.9**4)  # P(at most 3 of 4)
    assert row.images_needed > 4
    row = holdout_row(PLACE, before, after, Guarantee(at_most=0.4))
    assert row.observed == 0.5 and row.images_needed is None


def test_records_of_predictions_survive_storage():
    record = evaluated([0, 1], [True, False])
    assert from_json(to_json(record)) == record
    without = dataclasses.replace(record, holdout_classes=None, holdout_correct=None)
    assert from_json(to_json(without)) == without
    with pytest.raises(TypeError):
        from_json({**to_json(record), "holdout_classes": [0, "1"]})


@pytest.mark.parametrize("measure", ["accuracy_drop", "disagreement"])
@pytest.mark.parametrize("at_most", [0.005, 0.03, 0.5])
def test_the_fewest_images(measure, at_most):
    fewest = fewest_images(measure, at_most, 0.95)
    assert can_pass(measure, fewest, at_most, 0.95)
    assert not can_pass(measure, fewest - 1, at_most, 0.95)
    if measure == "disagreement":  # (1 - at_most)^n <= 0.05
        assert fewest == int(numpy.ceil(numpy.log(0.05) / numpy.log(1 - at_most)))


def test_more_images_than_anyone_has():
    assert fewest_images("disagreement", 1e-8, 0.95) is None


def made_up(passes: dict[str, list[bool]]) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Rows of results.csv and holdout.csv of one net: at each step half of the net is left."""
    rows = [{"method": REFERENCE, "step": 0, "prune_ratio": 0.0, "test_accuracy": 0.9}]
    tests = []
    for method, of_method in passes.items():
        for step, is_passing in enumerate(of_method, 1):
            accuracy = 0.9 - 0.01 * step
            size = 1 - 0.5**step
            place = {"method": method, "step": step}
            rows.append({**place, "prune_ratio": size, "test_accuracy": accuracy})
            tests.append({**place, "passes": is_passing, "loss": "accuracy_drop"})
    results = pandas.DataFrame(rows).assign(
        net_seed=0,
        repetition=0,
        retrained=False,
        validation_accuracy=0.9,
        flop_keep_ratio=0.5,
        constant_output=False,
        empty_layers=0,
    )
    tested = pandas.DataFrame(tests).assign(
        net_seed=0, repetition=0, at_most=0.05, confidence=0.95, images=10
    )
    return results, tested


def test_the_last_net_before_the_first_that_fails():
    rows, tests = made_up(
        {"SiPP": [True, True, False, True], "WT": [False, True, True], "FT": [True, True]}
    )
    found = guaranteed_nets(rows, tests).set_index("method")
    assert found["prune_ratio"].to_dict() == {"SiPP": 0.75, "WT": 0.0, "FT": 0.75}
    assert found.loc["SiPP", "test_drop"] == pytest.approx(0.02)
    assert found.loc["WT", "test_accuracy"] == 0.9 and found.loc["WT", "test_drop"] == 0
    shuffled = tests.sample(frac=1, random_state=0)
    assert guaranteed_nets(rows, shuffled).set_index("method").equals(found)


def test_a_summary_with_guarantees():
    rows, tests = made_up({"SiPP": [True, False], "WT": [False, False]})
    summary = summarise(rows, 0.005)
    assert with_guarantees(summary, rows, tests.head(0)).equals(summary)
    found = with_guarantees(summary, rows, tests).set_index("method")
    assert found["prune_ratio_guaranteed_mean"].to_dict() == {"SiPP": 0.5, "WT": 0.0}
    assert found["test_accuracy_drop_guaranteed_mean"]["SiPP"] == pytest.approx(0.01)
    text = summary_text(found.reset_index())
    assert "guaranteed, by tests on images set aside: at most 5 points less accurate" in text
    assert text.splitlines()[3].split()[-2:] == ["50.0%", "1.0%"]


def test_runs_without_a_guarantee_beside_others():
    """As in a sweep that switches the guarantee on and off."""
    rows, tests = made_up({"SiPP": [True, False]})
    plain = summarise(rows, 0.005)
    together = pandas.concat([with_guarantees(plain, rows, tests), plain], ignore_index=True)
    assert summary_text(together).splitlines()[-1].split()[-2:] == ["-", "-"]


@pytest.mark.parametrize("loss", ["accuracy_drop", "disagreement"])
def test_sentences_of_the_report(loss):
    """A mean over nets is guaranteed of no single net."""
    rows, tests = made_up({"SiPP": [True, False]})
    tests["loss"] = loss
    both = [
        pandas.concat([table, table.assign(net_seed=1)], ignore_index=True)
        for table in (rows, tests)
    ]
    for (results, holdout), each in (((rows, tests), ""), (both, ", for each net by itself")):
        summary = with_guarantees(summarise(results, 0.005), results, holdout)
        [line] = guarantees([SimpleNamespace(label="", summary=summary)])
        spread = " ± 0.0" if each else ""
        assert line == (
            f"SiPP: 50.0%{spread} pruned; guaranteed: {promise(loss, 0.05, 0.95)}{each}; drop of "
            f"the accuracy on the test set: 1.0%{spread}"
        )


def test_settings_of_a_run_with_and_without_a_guarantee():
    table = settings_that_differ({"a": {"guarantee": {"at_most": 0.1}}, "b": {"guarantee": None}})
    assert table.to_numpy().tolist() == [["guarantee.at_most", 0.1, ""]]
    table = settings_that_differ({"a": {"guarantee": None}, "b": {"guarantee": "x"}})
    assert table["key"].tolist() == ["guarantee"]


def test_promises_in_words():
    assert promise("accuracy_drop", 0.005, 0.95) == (
        "at most 0.5 points less accurate, with 95% confidence"
    )
    assert promise("disagreement", 0.01, 0.99) == (
        "at most 1% of the predictions change, with 99% confidence"
    )


def test_what_is_set_aside_has_no_part_in_anything_else(tiny):
    config = tiny(SETTINGS)
    data = load_data(config.dataset, Stream(config.seed))
    workplace = Workplace(data)
    choosing, holdout = workplace.divided(config.seed)
    images = [split.images.flatten(1) for split in (choosing.validation, holdout)]
    assert len(images[0]) == len(images[1]) == 72
    both = torch.cat(images)
    assert sorted(map(tuple, both.tolist())) == sorted(
        map(tuple, data.validation.images.flatten(1).tolist())
    )
    prune = next(task for task in experiment.tasks(config) if isinstance(task, Prune))
    size = workplace.sample_size(prune)
    assert size == 36  # half of the half
    sample = workplace.data_of(prune).sample(size, workplace.sample_stream(prune))
    drawn = torch.cat([batch for batch, _ in sample])
    aside = next(iter(holdout.batches(len(holdout))))[0]
    assert not (drawn[:, None] == aside[None]).flatten(2).all(2).any()


def test_images_outside_of_the_sample(tiny):
    data = load_data(tiny().dataset, Stream(0))
    sample = torch.cat([batch for batch, _ in data.sample(50, Stream(3))])
    rest = next(data.sample_and_rest(50, Stream(3))[1].batches(1000))[0]
    assert len(sample) + len(rest) == len(data.validation)
    assert not (sample[:, None] == rest[None]).flatten(2).all(2).any()


def test_run_ids(tiny):
    plain = tiny().run_id()
    assert tiny("guarantee=null").run_id() == plain
    guaranteed = tiny(SETTINGS).run_id()
    assert guaranteed != plain
    assert tiny("guarantee={loss: disagreement, at_most: 0.2}").run_id() == guaranteed


def test_trained_nets_are_shared_with_runs_without_a_guarantee(tiny):
    [first, other] = (experiment.tasks(config)[0] for config in (tiny(), tiny(SETTINGS)))
    assert first.fingerprint() == other.fingerprint()


def test_a_run_with_a_guarantee(small_config, tmp_path, capsys):
    command = [str(small_config), "--results", str(tmp_path), "--device", "cpu"]
    limit = ["--set", "guarantee.at_most=0.6"]
    assert main([*command, "--set", SETTINGS, *limit]) == 0
    out = capsys.readouterr().out
    assert "set aside for tests of the guarantee: 72 validation images" in out
    assert "guaranteed, by tests on images set aside: at most 60 points less accurate" in out
    [run] = (path.parent for path in tmp_path.rglob("holdout.csv"))
    rows = load_results(run)
    tests = load_holdout(run)
    pruned = rows[rows["method"] != REFERENCE]
    keys = ["method", "net_seed", "repetition", "step"]
    assert tests[keys].values.tolist() == pruned[keys].values.tolist()
    assert (tests["passes"] == (tests["p_value"] <= 0.05)).all() and (tests["images"] == 72).all()
    summary = pandas.read_csv(run / "summary.csv")
    assert (summary["guarantee_at_most"] == 0.6).all()
    before = (run / "results.csv").read_bytes()

    assert main([*command, "--set", SETTINGS, "--set", "guarantee.loss=disagreement"]) == 0
    assert (run / "results.csv").read_bytes() == before  # the same nets, tested otherwise
    again = load_holdout(run)
    assert (again["loss"] == "disagreement").all()
    changed = (again["observed"] * 72).round().astype(int)
    assert numpy.allclose(again["p_value"], stats.binom.cdf(changed, 72, 0.1))
    assert "at most 10% of the predictions change" in (run / "report.html").read_text()


def test_a_run_that_is_carried_on_has_the_same_tests(small_config, tmp_path):
    command = [str(small_config), "--results", str(tmp_path), "--set", SETTINGS]
    assert main(command) == 0
    [table] = tmp_path.rglob("holdout.csv")
    before = table.read_bytes()
    for record in sorted((table.parent / "steps").rglob("*evaluate*.json"))[::2]:
        record.unlink()
    table.unlink()
    assert main(command) == 0
    assert table.read_bytes() == before


def test_too_few_images_are_told_of(small_config):
    config = load_config(small_config, ["guarantee={}"])
    [line] = all_doubts(config, 1293, 144)
    assert line.startswith(
        "guarantee: no net can pass with the 72 images set aside, half of the validation images; "
        "even if no prediction changes it takes 822"
    )
    assert not all_doubts(config, 1293, 2000)
    assert p_value("accuracy_drop", numpy.zeros(822, dtype=int), 0.005, 0.95) <= 0.05


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("guarantee={at_most: 0}", "guarantee.at_most: 0 is wrong"),
        ("guarantee={confidence: 1}", "guarantee.confidence: 1 is wrong"),
        ("guarantee={loss: accuracy}", "guarantee.loss: 'accuracy' is not allowed"),
        ("pruning.schedule=train", "guarantee: with pruning.schedule train there are no pruned"),
    ],
)
def test_bad_settings(small_config, capsys, override, expected):
    overrides = ["--set", "guarantee={}", "--set", override]
    assert main([str(small_config), "--dry-run", *overrides]) == 2
    assert expected in capsys.readouterr().err
