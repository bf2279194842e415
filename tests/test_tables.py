"""The tables of a run: what is written is read back, whatever it holds."""

import dataclasses
import math
import random
import struct

import pandas
import pytest

import experiment
from experiment.reporting.records import ResultRecord, TrainingRecord
from experiment.reporting.tables import RESULTS, TRAINING, result_table, training_table

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


def test_a_row_that_is_there_is_not_added_again(tmp_path):
    table = result_table(tmp_path)
    table.add(RECORD)
    table.add(record(test_accuracy=0.1))
    before = (tmp_path / RESULTS).read_bytes()
    assert len(table) == 1
    again = result_table(tmp_path)
    assert len(again) == 1
    again.add(RECORD)
    assert (tmp_path / RESULTS).read_bytes() == before
    for other in ({"method": "SiPP"}, {"net_seed": 1}, {"repetition": 1}, {"step": 2}):
        again.add(record(**other))
    assert len(again) == 5
    assert len(experiment.load_results(tmp_path)) == 5


def test_rows_that_are_there_twice_are_written_once(tmp_path):
    """Two processes that ran in one directory have both written them."""
    for _ in range(2):
        result_table(tmp_path).add(RECORD)
    path = tmp_path / RESULTS
    header, row = path.read_text().splitlines()
    path.write_text("\n".join([header, row, row]) + "\n")
    assert len(result_table(tmp_path)) == 1
    assert path.read_text().splitlines() == [header, row]


def test_epochs_are_told_apart_by_their_number(tmp_path):
    epoch = TrainingRecord(
        **{name: getattr(RECORD, name) for name in ("method", "net_seed", "repetition", "step")},
        epoch=1,
        learning_rate=0.1,
        train_loss=math.inf,
        train_accuracy=0.5,
        validation_loss=2.0,
        validation_accuracy=0.5,
        seconds=1.0,
    )
    table = training_table(tmp_path)
    for number in (1, 2, 2):
        table.add(dataclasses.replace(epoch, epoch=number))
    assert len(table) == len(training_table(tmp_path)) == 2
    assert pandas.read_csv(tmp_path / TRAINING)["epoch"].tolist() == [1, 2]
    table.add(dataclasses.replace(epoch, epoch=3, step=2))
    table.add_again(dataclasses.replace(epoch, train_loss=1.0), counted_by="epoch")
    rows = pandas.read_csv(tmp_path / TRAINING)
    assert rows[["step", "epoch"]].to_numpy().tolist() == [[2, 3], [1, 1]]
    assert rows["train_loss"].tolist() == [math.inf, 1.0]


@pytest.mark.parametrize("note", [None, "short", 'of "two"\nlines, with a\nthird'])
def test_a_half_written_last_row_is_dropped_and_written_anew(tmp_path, note):
    path = tmp_path / RESULTS
    table = result_table(tmp_path)
    table.add(RECORD)
    one_row = path.read_bytes()
    table.add(record(step=2, note=note))
    two_rows = path.read_bytes()
    for length in range(len(one_row), len(two_rows)):
        path.write_bytes(two_rows[:length])
        assert len(experiment.load_results(tmp_path)) == 1
        reopened = result_table(tmp_path)
        assert len(reopened) == 1
        assert path.read_bytes() == one_row
        reopened.add(record(step=2, note=note))
        assert path.read_bytes() == two_rows


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: b"\xff" + content,
        lambda content: content.replace(b"test_loss", b"loss"),
        lambda content: content.replace(b",WT,", b",WT,WT,"),
        lambda content: content.replace(b",WT,", b","),
        lambda content: content.replace(b",WT,", b',"WT"T,'),
        lambda content: content + b"\n",
        lambda content: content.replace(b",WT,", b',"WT,'),
    ],
)
def test_a_damaged_file_is_begun_anew(tmp_path, damage):
    path = tmp_path / RESULTS
    header = result_table(tmp_path).path.read_bytes()
    table = result_table(tmp_path)
    table.add(RECORD)
    content = path.read_bytes()
    path.write_bytes(damage(content))
    table = result_table(tmp_path)
    assert len(table) == 0
    assert path.read_bytes() == header
    table.add(RECORD)
    assert path.read_bytes() == content


@pytest.mark.parametrize("text", AWKWARD)
def test_texts_round_trip(tmp_path, text):
    table = result_table(tmp_path)
    table.add(record(note=text))
    table.add(record(method=text, step=2))
    assert len(result_table(tmp_path)) == 2
    rows = experiment.load_results(tmp_path)
    assert rows["note"][0] == text
    assert rows["method"][1] == text


def test_empty_notes_are_missing_values(tmp_path):
    table = result_table(tmp_path)
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
    table = result_table(tmp_path)
    for step, number in enumerate(numbers):
        table.add(record(step=step, test_loss=number))
    rows = experiment.load_results(tmp_path)
    assert rows["test_loss"].to_numpy().tobytes() == struct.pack(f"<{len(numbers)}d", *numbers)
    assert rows["step"].tolist() == list(range(len(numbers)))


def test_columns_have_the_types_that_the_record_declares(tmp_path):
    table = result_table(tmp_path)
    table.add(record(test_accuracy=1.0, method="3"))
    rows = experiment.load_results(tmp_path)
    assert list(rows) == table.columns
    kinds = {"net_seed": "i", "step": "i", "test_accuracy": "f", "retrained": "b"}
    assert {name: rows[name].dtype.kind for name in kinds} == kinds
    assert rows["method"].tolist() == ["3"]
    assert rows.iloc[0]["keep_ratio"] == RECORD.keep_ratio


def test_swept_columns_are_numbers_truth_values_or_texts(tmp_path):
    table = result_table(tmp_path)
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
    result_table(tmp_path).add(RECORD)
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
