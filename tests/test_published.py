"""Results beside published ones: point by point, interpolated between the ratios of a run."""

import math

import pandas
import pytest

from experiment.__main__ import main
from experiment.config.loading import load_config
from experiment.reporting.published import compared_with_published, published_beside

POINT = {
    "method": "WT",
    "source": "Somebody 2020",
    "published_schedule": "iterative",
    "prune_ratio": 0.5,
    "test_accuracy": 0.90,
    "test_accuracy_deviation": 0.003,
    "unpruned_accuracy": 0.91,
}


def rows_of(accuracies: dict[int, list[float]]) -> pandas.DataFrame:
    """Rows of results.csv: for each net, the accuracies unpruned and at ratios 0.4 and 0.8."""
    return pandas.DataFrame(
        [
            {
                "method": "reference" if step == 0 else "WT",
                "net_seed": seed,
                "repetition": 0,
                "step": step,
                "prune_ratio": 0.4 * step,
                "test_accuracy": accuracy,
                "retrained": step > 0,
            }
            for seed, of_net in accuracies.items()
            for step, accuracy in enumerate(of_net)
        ]
    )


def compared(rows: pandas.DataFrame, **changes: object) -> dict:
    [row] = compared_with_published(rows, pandas.DataFrame([{**POINT, **changes}])).to_dict(
        "records"
    )
    return row


def test_a_point_by_hand():
    """At 0.5, a quarter of the way from 0.4 to 0.8: 0.895 and 0.905 for the two nets."""
    row = compared(rows_of({0: [0.91, 0.90, 0.88], 1: [0.92, 0.91, 0.89]}))
    assert row["here"] == pytest.approx(0.90)
    assert row["here_deviation"] == pytest.approx(0.01 / math.sqrt(2))
    assert row["difference"] == pytest.approx(-0.015)
    assert row["published_difference"] == pytest.approx(-0.01)
    assert row["accuracy"] == "within"
    # Both nets lose 0.015, so that the published deviation alone counts: 0.005 <= 2 x 0.003.
    assert row["to_unpruned"] == "within"
    far = compared(rows_of({0: [0.91, 0.90, 0.88], 1: [0.92, 0.91, 0.89]}), test_accuracy=0.92)
    assert far["accuracy"] == "outside" and far["to_unpruned"] == "outside"


def test_how_far_a_run_prunes_with_a_published_loss():
    """The published net loses 0.01. Of these, one loses as much at 0.4, one at 0.8, one more."""
    nets = {0: [0.91, 0.90, 0.88], 1: [0.92, 0.91, 0.91], 2: [0.92, 0.90, 0.88]}
    row = compared(rows_of(nets))
    assert row["prune_ratio_here"] == pytest.approx(0.4)
    assert row["prune_ratio_here_deviation"] == pytest.approx(0.4)
    no_loss = compared(rows_of(nets), test_accuracy=0.91)
    assert no_loss["prune_ratio_here"] == 0
    assert math.isnan(compared(rows_of(nets), method="FT")["prune_ratio_here"])


def test_between_the_unpruned_net_and_the_first_ratio():
    row = compared(rows_of({0: [0.92, 0.90, 0.5], 1: [0.92, 0.90, 0.5]}), prune_ratio=0.2)
    assert row["here"] == pytest.approx(0.91)


def test_what_cannot_be_compared_is_empty():
    rows = rows_of({0: [0.92, 0.90, 0.88], 1: [0.92, 0.90, 0.88]})
    beyond = compared(rows, prune_ratio=0.81)
    assert math.isnan(beyond["here"]) and beyond["accuracy"] is None
    assert compared(rows, method="FT")["accuracy"] is None
    assert beyond["nets"] == 0
    single = compared(rows_of({0: [0.92, 0.90, 0.88]}))
    assert single["here"] == pytest.approx(0.895) and single["accuracy"] is None
    assert compared(rows, test_accuracy_deviation=math.nan)["accuracy"] is None


def test_the_number_of_nets_that_reach_the_ratio_is_told():
    rows = rows_of({seed: [0.92, 0.90, 0.88] for seed in range(3)})
    falls_short = (rows["net_seed"] == 2) & (rows["step"] == 2)
    row = compared(rows[~falls_short])
    assert row["nets"] == 2 and row["here"] == pytest.approx(0.895)


def test_a_method_with_options_counts_as_the_method():
    rows = rows_of({0: [0.91, 0.90, 0.88], 1: [0.92, 0.91, 0.89]})
    uniform = rows[rows["step"] > 0].assign(method="WT(allocation=uniform)", test_accuracy=0.8)
    table = compared_with_published(pandas.concat([rows, uniform]), pandas.DataFrame([POINT]))
    assert table["method"].tolist() == ["WT", "WT(allocation=uniform)"]
    assert table["here"].tolist() == pytest.approx([0.90, 0.8])
    alone = compared_with_published(
        pandas.concat([rows[rows["step"] == 0], uniform]), pandas.DataFrame([POINT])
    )
    assert alone["method"].tolist() == ["WT(allocation=uniform)"]


def test_the_command(small_config, tmp_path, capsys):
    overrides = ["--set", "num_nets=2", "--set", "network.name=resnet20"]
    assert main(["run", str(small_config), "--results", str(tmp_path), *overrides]) == 0
    [run] = (path.parent for path in tmp_path.rglob("results.csv"))
    capsys.readouterr()
    assert main(["compare", str(run), "--published", "CIFAR10", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("run,method,source,published_schedule,prune_ratio,published,")
    assert all(line.startswith(f"{run.name},") for line in lines[1:])
    assert main(["plot", str(run), "--published", "CIFAR10", "-o", str(tmp_path / "p.svg")]) == 0
    assert "Liebenwein" in (tmp_path / "p.svg").read_text()
    capsys.readouterr()
    assert main(["compare", str(run), "--published"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "no published result is of the same network" in line
    assert main(["compare", str(run), "--published", "cifar10"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "'cifar10'; did you mean 'CIFAR10'? (there are: CIFAR10, ImageNet)" in line
    assert main(["compare", str(run), "--published", "--differences"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "leave out --metric, --baseline and --differences" in line


def test_another_width_is_another_network(small_config):
    overrides = ["network.name=resnet20", "pruning.methods=[WT]"]
    assert len(published_beside(load_config(small_config, overrides), "CIFAR10"))
    wider = load_config(small_config, [*overrides, "network.width=32"])
    assert not len(published_beside(wider, "CIFAR10"))


def test_runs_without_a_published_result_are_left_out(small_config, tmp_path, capsys):
    for network in ("resnet20", "lenet5"):
        overrides = ["--set", f"network.name={network}"]
        assert main(["run", str(small_config), "--results", str(tmp_path), *overrides]) == 0
    runs = sorted(str(path.parent) for path in tmp_path.rglob("results.csv"))
    capsys.readouterr()
    assert main(["compare", *runs, "--published", "CIFAR10", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len({line.partition(",")[0] for line in lines[1:]}) == 1
    figure = str(tmp_path / "p.svg")
    assert main(["plot", *runs, "--published", "CIFAR10", "-o", figure]) == 0


def test_a_run_without_retraining_is_not_compared_with_retrained_nets(small_config):
    settings = ["network.name=resnet20", "pruning.schedule=oneshot"]
    assert len(published_beside(load_config(small_config, settings), "CIFAR10"))
    without = load_config(small_config, [*settings, "pruning.retrain_count=0"])
    assert not len(published_beside(without, "CIFAR10"))
