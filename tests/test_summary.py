"""Commensurate accuracy, computed by hand."""

import math

import pandas
import pytest

from experiment.config.loading import load_config
from experiment.main import main
from experiment.reporting.summary import COLUMNS, summarise
from experiment.reporting.summary_text import summary_text


def row(
    method, net, step, test, validation=None, prune=0.0, flops=1.0, retrained=False, repetition=0
):
    return {
        "method": method,
        "net_seed": net,
        "repetition": repetition,
        "step": step,
        "prune_ratio": prune,
        "flop_keep_ratio": flops,
        "retrained": retrained,
        "test_accuracy": test,
        "empty_layers": int(prune > 0.95),
        "constant_output": test < 0.2,
        "validation_accuracy": test if validation is None else validation,
    }


def only(rows, margin=0.005):
    table = summarise(pandas.DataFrame(rows), margin)
    assert len(table) == 1 and table.columns.tolist() == COLUMNS
    return table.iloc[0]


def test_mean_and_deviation_over_nets_of_what_each_set_chooses():
    result = only(
        [
            row("reference", 0, 0, 0.980, 0.900),
            row("reference", 1, 0, 0.960, 0.900),
            row("SiPP", 0, 1, 0.985, 0.910, prune=0.2, flops=0.7),
            row(
                "SiPP", 0, 2, 0.975, 0.890, prune=0.4, flops=0.9
            ),  # just the margin on test; more FLOPs than step 1
            row("SiPP", 0, 3, 0.974, 0.896, prune=0.6, flops=0.5),  # validation alone allows it
            row("SiPP", 1, 1, 0.900, 0.800, prune=0.2, flops=0.7),  # neither allows any
            row("SiPP", 1, 2, 0.800, 0.700, prune=0.4, flops=0.6),
        ]
    )
    assert result["nets"] == 2 and result["commensurate_margin"] == 0.005
    expected = {
        "prune_ratio_chosen_on_test": (0.4, 0),
        "test_accuracy_chosen_on_test": (0.975, 0.960),
        "flop_reduction_chosen_on_test": (0.3, 0),
        "prune_ratio_chosen_on_validation": (0.6, 0),
        "test_accuracy_chosen_on_validation": (0.974, 0.960),
        "flop_reduction_chosen_on_validation": (0.5, 0),
    }
    for column, (first, second) in expected.items():
        assert result[f"{column}_mean"] == pytest.approx((first + second) / 2)
        assert result[f"{column}_std"] == pytest.approx(abs(first - second) / math.sqrt(2))


def test_repetitions_are_averaged_before_the_rule_is_applied():
    rows = [row("reference", 0, 0, 0.9)]
    for repetition, (first, second) in enumerate(
        [(0.91, 0.80), (0.88, 0.99)]
    ):  # means 0.895 and 0.895
        rows += [
            row("WT", 0, 1, first, prune=0.3 + 0.1 * repetition, repetition=repetition),
            row("WT", 0, 2, second, prune=0.7 + 0.1 * repetition, repetition=repetition),
        ]
    result = only(rows)
    assert result["prune_ratio_chosen_on_test_mean"] == pytest.approx(0.75)
    assert pandas.isna(result["prune_ratio_chosen_on_test_std"])  # one net has no deviation
    assert only(rows, 0.004)["prune_ratio_chosen_on_test_mean"] == 0


def test_steps_that_are_not_retrained_count_only_if_none_is():
    rows = [
        row("reference", 0, 0, 0.9),
        row("WT", 0, 1, 0.9, prune=0.5, retrained=True),
        row("WT", 0, 2, 0.9, prune=0.7),
    ]
    assert only(rows)["prune_ratio_chosen_on_test_mean"] == 0.5
    for each in rows:
        each["retrained"] = False
    assert only(rows)["prune_ratio_chosen_on_test_mean"] == 0.7


def test_a_table_for_people_and_none_without_prunings():
    rows = pandas.DataFrame(
        [row("reference", 0, 0, 0.9), row("WT", 0, 1, 0.9, prune=0.5, flops=0.25)]
    )
    assert "at most 0.5 points" in summary_text(summarise(rows, 0.005))
    assert summary_text(summarise(rows, 0.005)).splitlines()[-1].split() == [
        "WT",
        "50.0%",
        "75.0%",
        "50.0%",
        "90.0%",
    ]
    assert len(summarise(rows.head(1), 0.005)) == 0


def test_nets_are_left_out_until_the_unpruned_one_is_measured():
    rows = pandas.DataFrame(
        [
            row("reference", 0, 0, 0.9),
            row("WT", 0, 1, 0.9, prune=0.5),
            row("WT", 1, 1, 0.9, prune=0.9),
        ]
    )
    summary = summarise(rows, 0.005)
    assert summary["nets"].tolist() == [1]
    assert summary["prune_ratio_chosen_on_test_mean"].tolist() == [0.5]
    assert len(summarise(rows.tail(1), 0.005)) == 0


def test_a_run_writes_its_summary_and_the_margin_is_no_part_of_its_id(
    small_config, tmp_path, capsys
):
    overrides = ["network.name=lenet300_100", "training.epochs=1"]
    command = [
        str(small_config),
        "--results",
        str(tmp_path / "r"),
        "--device",
        "cpu",
        *(argument for override in overrides for argument in ("--set", override)),
    ]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[-1].startswith("plot: ")
        and lines[-2].startswith("report: ")
        and lines[-3].split()[0] == "WT"
        and "0.5 points" in lines[-6]
    )
    assert main([*command, "--set", "pruning.commensurate_margin=0.99"]) == 0
    (path,) = (tmp_path / "r").rglob("summary.csv")
    table, rows = pandas.read_csv(path), pandas.read_csv(path.parent / "results.csv")
    assert (
        table["method"].tolist() == ["SiPP", "WT"] and (table["commensurate_margin"] == 0.99).all()
    )
    best = rows.groupby("method")["prune_ratio"].max()
    assert table.set_index("method")["prune_ratio_chosen_on_test_mean"]["WT"] == pytest.approx(
        best["WT"]
    )
    assert path.parent.name == load_config(small_config, overrides).run_id()
