"""Nets that pruning has made useless are reported, and a minimum per layer prevents them."""

import warnings

import pandas
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

import experiment
from experiment.core.registry import METHODS
from experiment.main import main
from experiment.nets.collapse import has_constant_output
from experiment.reporting.summary import summarise
from experiment.reporting.summary_text import fault_lines


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def bottleneck() -> nn.Module:
    """Small outer weights, so that magnitude pruning removes them before any in the middle."""
    net = nn.Sequential(
        nn.Linear(10, 20, bias=False),
        nn.ReLU(),
        nn.Linear(20, 200, bias=False),
        nn.ReLU(),
        nn.Linear(200, 10, bias=False),
    )
    with torch.no_grad():
        net[0].weight.mul_(1e-3)
        net[4].weight.mul_(1e-3)
    return net


def quietly(net, batches, **options):
    with warnings.catch_warnings(action="ignore"):
        return experiment.prune(net, batches, **options)


def test_prune_warns_of_a_dead_net():
    with pytest.warns(
        UserWarning, match="degenerate: .*no weights are left in 0; the output is the same"
    ):
        pruned = experiment.prune(
            nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9)),
            [torch.randn(5, 9)],
            method=ByIndex(),
            keep_ratio=0.4,
        )
    assert pruned.empty_layers == ["0"] and pruned.constant_output and not pruned.constant_before
    assert "no weights are left in 0; the output is the same for all samples" in pruned.note
    assert pruned.note in repr(pruned)


class ByIndex(METHODS.get("WT")):
    """Keep the last weights."""

    def scores(self, analysis, stream):
        number = sum(weight.numel() for weight in analysis.weights.values())
        return analysis.flat.split(torch.arange(number).float())


def test_a_healthy_net_has_no_note():
    net = nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9))
    pruned = experiment.prune(net, [torch.randn(5, 9)], method="WT", keep_ratio=0.7)
    assert pruned.note is None and pruned.empty_layers == [] and not pruned.constant_output


def test_a_net_that_was_constant_before_pruning_is_noted_as_such():
    net = nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9))
    nn.init.zeros_(net[2].weight)
    pruned = experiment.prune(net, [torch.randn(5, 9)], method="WTLayer", keep_ratio=0.9)
    assert "the same for all samples, as it was before pruning" in pruned.note


@pytest.mark.parametrize(
    ("batches", "constant"),
    [
        ([torch.rand(4, 3)], False),
        ([torch.rand(1, 3)], False),
        ([torch.rand(1, 3), torch.rand(1, 3)], False),
        ([-torch.rand(4, 3)], True),
        ([-torch.rand(2, 3), torch.rand(1, 3)], False),
    ],
)
def test_outputs_are_compared_over_all_samples(batches, constant):
    net = nn.Linear(3, 2)
    nn.init.uniform_(net.weight)
    assert has_constant_output(nn.Sequential(nn.ReLU(), net), batches) == constant


def test_outputs_for_tokens_are_compared():
    embedding = nn.Embedding(9, 4)
    assert not has_constant_output(embedding, [torch.tensor([[1, 2, 3]])])
    nn.init.ones_(embedding.weight)
    assert has_constant_output(embedding, [torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])])


@pytest.mark.parametrize(
    "method",
    ["WT", "SiPP", "SiPPRand", "SiPPHybrid", "SNIP", "Wanda", "Random", "L1Sampling", "SynFlow"],
)
@pytest.mark.parametrize("keep_ratio", [0.3, 0.03])
def test_no_layer_dies_where_a_minimum_is_asked_for(method, keep_ratio):
    net, inputs = bottleneck(), torch.randn(8, 10)
    pruned = experiment.prune(
        net,
        [(inputs, torch.arange(8))],
        method=method,
        keep_ratio=keep_ratio,
        loss=functional.cross_entropy,
        min_kept_per_layer=3,
    )
    assert pruned.layers["kept_weights"].min() >= 3 and not pruned.empty_layers
    assert not pruned.constant_output or method != "WT"  # with other methods, neurons may be silent
    assert pruned.keep_ratio == pytest.approx(keep_ratio, rel=0.05)
    kept = {name: parameter != 0 for name, parameter in pruned.net.named_parameters()}
    assert all((kept[name] == mask).all() for name, mask in pruned.masks.items())


def test_no_layer_of_a_deep_residual_net_dies_where_a_minimum_is_asked_for(images):
    net = experiment.build_network("resnet20", input_shape=(3, 8, 8), num_classes=10)
    dead = quietly(net, [images], method="WT", keep_ratio=0.01)
    alive = experiment.prune(net, [images], method="WT", keep_ratio=0.01, min_kept_per_layer=2)
    assert len(dead.empty_layers) >= 5 and alive.empty_layers == []
    assert alive.layers["kept_weights"].min() >= 2 and alive.keep_ratio == pytest.approx(
        0.01, rel=0.02
    )
    assert not alive.constant_output


def test_a_minimum_of_none_changes_nothing(small_net, images):
    plain = experiment.prune(small_net, [images], method="SiPP", keep_ratio=0.5)
    zero = experiment.prune(
        small_net, [images], method="SiPP", keep_ratio=0.5, min_kept_per_layer=0
    )
    assert all(torch.equal(mask, zero.masks[name]) for name, mask in plain.masks.items())


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(6, 20, batch_first=True), nn.Linear(20, 4)

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])


@pytest.mark.parametrize("method", ["SiPP", "FT"])
def test_a_note_says_that_most_of_a_net_is_not_prunable(method):
    if method == "FT":
        with pytest.raises(
            experiment.UserError, match="no filter that could be removed as a whole"
        ):
            quietly(Recurrent(), [torch.randn(3, 5, 6)], method=method, keep_ratio=0.3)
        return
    pruned = quietly(Recurrent(), [torch.randn(3, 5, 6)], method=method, keep_ratio=0.3)
    assert (
        "of the 2324 parameters are not prunable (lstm.weight_hh_l0: recurrent layers are not "
        "pruned, lstm.weight_ih_l0: recurrent" in pruned.note
    )


@pytest.mark.parametrize("name", ["squeezenet1_1", "regnet_x_400mf"])
def test_filters_reach_a_third_of_nets_that_are_mostly_convolutions(name):
    net = torchvision.models.get_model(name, num_classes=10)
    pruned = quietly(net, [torch.randn(2, 3, 64, 64)], method="FT", keep_ratio=0.3)
    assert pruned.keep_ratio == pytest.approx(0.3, rel=0.005) and not pruned.size_note


def test_functional_convolutions_are_prunable():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(8, 3, 3, 3))
            self.fc = nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(torch.relu(functional.conv2d(x, self.kernel)).mean((2, 3)))

    pruned = experiment.prune(
        Functional(), [torch.randn(4, 3, 6, 6)], method="SiPP", keep_ratio=0.3
    )
    assert pruned.layers["layer"].tolist() == ["kernel", "fc"]
    assert pruned.keep_ratio == pytest.approx(0.3, abs=0.005)


def test_a_summary_counts_nets_that_no_longer_work():
    common = {
        "net_seed": 0,
        "repetition": 0,
        "flop_keep_ratio": 1.0,
        "retrained": False,
        "validation_accuracy": 0.9,
    }
    rows = pandas.DataFrame(
        [
            common
            | {
                "method": method,
                "step": step,
                "prune_ratio": prune_ratio,
                "test_accuracy": 0.9,
                "empty_layers": empty,
                "constant_output": constant,
            }
            for method, step, prune_ratio, empty, constant in (
                ("reference", 0, 0.0, 0, False),
                ("WT", 1, 0.8, 0, False),
                ("WT", 2, 0.97, 2, False),
                ("WT", 3, 0.99, 5, True),
                ("SiPP", 1, 0.8, 0, False),
            )
        ]
    )
    summary = summarise(rows, 0.005)
    assert fault_lines(summary) == [
        "WT: pruned nets whose output is the same for all samples: 1, the first at prune ratio 99%",
        "WT: pruned nets that have layers without weights: 2, the first at prune ratio 97%",
    ]


def test_a_run_reports_where_its_nets_die(small_config, tmp_path, capsys):
    arguments = [
        str(small_config),
        "--results",
        str(tmp_path),
        "--device",
        "cpu",
        "--set",
        "pruning.methods=[WT]",
        "--set",
        "pruning.keep_ratios=[0.5, 0.0005]",
        "--set",
        "pruning.retrain_count=0",
    ]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    results = pandas.read_csv(next(tmp_path.rglob("results.csv")))
    assert results["empty_layers"].tolist()[:2] == [0, 0] and results["empty_layers"].iloc[2] >= 1
    assert results["constant_output"].tolist() == [False, False, True]
    assert "the output is the same for all samples" in results["note"].iloc[2]
    assert "; the output is the same for all samples]" in shown
    assert "WT: pruned nets whose output is the same for all samples: 1, the" in shown
    summary = pandas.read_csv(next(tmp_path.rglob("summary.csv")))
    assert summary["nets_with_constant_output"].tolist() == [1]
    assert main([*arguments, "--set", "pruning.min_kept_per_layer=2"]) == 0
    layers = [pandas.read_csv(path)["empty_layers"].max() for path in tmp_path.rglob("results.csv")]
    assert sorted(layers)[0] == 0
