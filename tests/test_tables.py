"""The tables of a run: what is written is read back, whatever it holds."""

import dataclasses
import math
import random
import struct

import pandas
import pytest

import experiment
from experiment.reporting.records import ResultRecord, TrainingRecord
from experiment.reporting.tables import RESULTS, TRAINING, Table, result_table, training_table

RECORD = ResultRecord(
    network="lenet5",
    dataset="digits",
    method="WT",
    net_seed=0,
    repetition=0,
    step=1,
    keep_ratio_requested=0.1,
    keep_ratio=1 / 3,
    prune_ratio=2 / 3,
    flop_keep_ratio=0.5,
    retrained=True,
    accuracy_before_retraining=0.25,
    validation_accuracy=0.5,
    test_accuracy=0.75,
    test_top5=1.0,
    test_loss=1e-300,
    prune_seconds=0.1,
    retrain_seconds=2.5,
    empty_layers=0,
    constant_output=False,
    note=None,
)
AWKWARD = [
    "commas, and, more",
    'a "quoted" word, and "',
    "two\nlines",
    '"\n"',
    "\r",
    "windows\r\nlines\r\n",
    "a line end that is none: \u2028, \x0b, \x85",
    " spaces ",
    "Erdős, Rényi",
    "NA",
    "None",
    "1.0",
]


def record(**changes):
    return dataclasses.replace(RECORD, **changes)


def refusal(directory) -> str:
    with pytest.raises(experiment.UserError) as caught:
        experiment.load_results(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def new_table(directory) -> Table:
    table = result_table(directory)
    table.rewrite([])
    return table


def test_a_table_is_written_anew_and_appended_to(tmp_path):
    path = tmp_path / RESULTS
    path.write_bytes(b"\xff whatever was there before")
    table = result_table(tmp_path)
    table.rewrite([RECORD, record(step=2)])
    assert len(table) == 2
    table.add(record(step=3))
    assert len(table) == 3
    assert experiment.load_results(tmp_path)["step"].tolist() == [1, 2, 3]
    once = path.read_bytes()
    table.rewrite([RECORD, record(step=2), record(step=3)])
    assert path.read_bytes() == once


def test_rows_are_removed_by_their_values(tmp_path):
    epoch = TrainingRecord(
        **{name: getattr(RECORD, name) for name in ("method", "net_seed", "repetition", "step")},
        epoch=1,
        learning_rate=0.1,
        train_loss=math.inf,
        train_accuracy=0.5,
        validation_loss=1 / 3,
        validation_accuracy=0.5,
        seconds=1.0,
    )
    table = training_table(tmp_path)
    table.rewrite([dataclasses.replace(epoch, epoch=number) for number in (1, 2, 3)])
    before = (tmp_path / TRAINING).read_text().splitlines()
    table.remove(lambda row: row["epoch"] == "2" and row["method"] == "WT")
    assert len(table) == 2
    assert (tmp_path / TRAINING).read_text().splitlines() == [before[0], before[1], before[3]]


@pytest.mark.parametrize("note", [None, "short", 'of "two"\nlines, with a\nthird'])
def test_a_half_written_last_row_is_not_read(tmp_path, note):
    path = tmp_path / RESULTS
    table = new_table(tmp_path)
    table.add(RECORD)
    one_row = path.read_bytes()
    table.add(record(step=2, note=note))
    two_rows = path.read_bytes()
    for length in range(len(one_row), len(two_rows)):
        path.write_bytes(two_rows[:length])
        assert len(experiment.load_results(tmp_path)) == 1


def test_a_row_that_is_there_twice_is_read_once(tmp_path):
    new_table(tmp_path).rewrite([RECORD, RECORD])
    assert len(experiment.load_results(tmp_path)) == 1


@pytest.mark.parametrize("text", AWKWARD)
def test_texts_round_trip(tmp_path, text):
    table = new_table(tmp_path)
    table.add(record(note=text))
    table.add(record(method=text, step=2))
    rows = experiment.load_results(tmp_path)
    assert rows["note"][0] == text
    assert rows["method"][1] == text


def test_empty_notes_are_missing_values(tmp_path):
    table = new_table(tmp_path)
    table.add(RECORD)
    assert experiment.load_results(tmp_path)["note"].isna().tolist() == [True]
    table.add(record(step=2, note="dead"))
    assert experiment.load_results(tmp_path)["note"].isna().tolist() == [True, False]


def test_numbers_read_back_to_the_same_bits(tmp_path):
    generator = random.Random(0)
    numbers = [0.1, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan]
    while len(numbers) < 1000:
        (number,) = struct.unpack("<d", generator.randbytes(8))
        if not math.isnan(number):
            numbers.append(number)
    table = new_table(tmp_path)
    for step, number in enumerate(numbers):
        table.add(record(step=step, test_loss=number))
    rows = experiment.load_results(tmp_path)
    assert rows["test_loss"].to_numpy().tobytes() == struct.pack(f"<{len(numbers)}d", *numbers)
    assert rows["step"].tolist() == list(range(len(numbers)))


def test_columns_have_the_types_that_the_record_declares(tmp_path):
    table = new_table(tmp_path)
    table.add(record(test_accuracy=1.0, method="3"))
    rows = experiment.load_results(tmp_path)
    assert list(rows) == table.columns
    kinds = {"net_seed": "i", "step": "i", "test_accuracy": "f", "retrained": "b"}
    assert {name: rows[name].dtype.kind for name in kinds} == kinds
    assert rows["method"].tolist() == ["3"]
    assert rows.iloc[0]["keep_ratio"] == RECORD.keep_ratio


def test_swept_columns_are_numbers_truth_values_or_texts(tmp_path):
    table = new_table(tmp_path)
    table.add(RECORD)
    table.add(record(step=2))
    rows = experiment.load_results(tmp_path)
    swept = {
        "seed": [0, 4],
        "pruning.delta": [1e-16, 0.1],
        "training.optimizer.nesterov": [True, False],
        "pruning.sample_size": [math.nan, 7.0],
        "pruning.schedule": ["cascade", "oneshot"],
    }
    together = pandas.concat([pandas.DataFrame(swept), rows], axis="columns")
    together.to_csv(tmp_path / RESULTS, index=False)
    pandas.testing.assert_frame_equal(experiment.load_results(tmp_path), together, check_exact=True)


def test_what_is_no_result_is_refused_in_one_line(tmp_path):
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: no such directory"
    assert (
        refusal(str(tmp_path)) == f"{tmp_path}: has no results.csv, which a run or a sweep writes"
    )
    assert refusal(None) == "load_results needs the directory of a run or a sweep, not None"
    path = tmp_path / RESULTS
    path.mkdir()
    assert refusal(tmp_path) == f"{path}: cannot be read: Is a directory"
    path.rmdir()
    new_table(tmp_path).add(RECORD)
    content = path.read_text()
    assert refusal(path) == f"{path}: is a file; give the directory that holds it"
    for wrong, reason in (
        ("", "it is empty"),
        ("a,b\n1,2\n", "it has no column network"),
        (content.replace("test_loss", "loss"), "it has no column test_loss"),
        (content.replace(",WT,", ",WT,1,"), "row 1 has 22 values for 21 columns"),
        (content.replace("1e-300", "low"), "Unable to convert column test_loss to type"),
        (content.replace(",WT,0,", ",WT,x,"), "Unable to convert column net_seed to type"),
    ):
        path.write_text(wrong)
        assert refusal(tmp_path).startswith(f"{path}: is not a table of results: {reason}")
    path.write_bytes(b"\xff\xfe")
    assert "is not a table of results: " in refusal(tmp_path)


def test_the_line_for_people():
    assert record(note="small").line == (
        "net 0  WT  repetition 0  step 1: kept 33.33% (requested 10.00%), test accuracy 75.00% "
        "(25.00% before retraining, 2 s)  [small]"
    )
    assert record(method="reference", step=0).line == (
        "net 0  unpruned: test accuracy 75.00%, trained in 2 s"
    )
