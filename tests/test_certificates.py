"""Certificates: by hand, and against fresh points."""

import pandas
import pytest
import torch
from test_run import launch, only_run
from torch import nn

import experiment
from experiment.certification.certificates import Certificates
from experiment.certification.fresh_points import FreshPoints
from experiment.core.seeding import Stream
from experiment.main import main
from experiment.nets.layers import find_layers
from experiment.pruning.prune import named_method
from experiment.pruning.pruner import Pruner


def test_certificates_and_errors_by_hand():
    """Weights 4, 2, 1, -1 on the sample (1, 1, 1, 1): sensitivities 4/7, 2/7, 1/7, 1."""
    net = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[4.0, 2.0, 1.0, -1.0]]))
    sample, fresh = torch.ones(1, 4), torch.tensor([[1.0, 1, 1, 1], [0, 0, 8, 1], [0, 0, 0, 1]])
    row = experiment.certify(net, [sample], [fresh], method="SiPP", keep_ratio=0.75).iloc[0]
    # The weight 1 is dropped: certificate 3/7 for the positive unit, 0 for the negative one.
    assert row.certified_max == pytest.approx(3 / 7)
    assert row.certified_median == pytest.approx(1.5 / 7)
    # Errors: (1/7, 0), (1, 0), and at the third point the positive unit sees nothing.
    assert row.measured_max == 1 and row.units == 2 and row.points == 3
    # At the second point the weight 1 makes up all of the unit, more than 3 x 1/7: beyond the
    # assumption, and above its certificate.
    assert (row.pairs_within_deterministic, row.pairs_within_random, row.pairs_beyond) == (4, 0, 1)
    assert (row.exceeding_within_deterministic, row.exceeding_beyond) == (0, 1)
    assert (row.contributions, row.contributions_beyond) == (3 + 3 + 1 + 1 + 1, 1)


@pytest.mark.parametrize("method", ["SiPP", "SiPPRand", "SiPPHybrid", "WT"])
def test_within_the_sensitivities_no_certificate_is_exceeded(small_net, method):
    generator = torch.Generator().manual_seed(5)
    sample, fresh = (
        torch.randn(24, 3, 8, 8, generator=generator),
        torch.randn(40, 3, 8, 8, generator=generator),
    )
    table = experiment.certify(small_net, [sample], [fresh], method=method, keep_ratio=0.4)
    assert table["layer"].tolist() == ["conv1", "conv2", "fc"]
    assert table["exceeding_within_deterministic"].sum() == 0
    assert table["exceeding_within_random"].sum() == 0
    assert table["pairs_beyond"].sum() > 0  # so that the split is seen to matter
    assert (table["measured_max"] >= table["measured_p95"]).all()
    if method == "SiPPRand":
        assert table["pairs_within_random"].sum() > 0


def test_the_command_writes_table_and_plot_and_takes_the_trained_net(
    small_config, tmp_path, capsys
):
    settings = "--set pruning.schedule=oneshot --set pruning.retrain_count=0".split() + [
        "--set",
        "pruning.methods=[SiPP, SiPPRand]",
    ]
    assert launch(small_config, tmp_path / "r", *settings) == 0
    arguments = [str(small_config), "--results", str(tmp_path / "r"), "--device", "cpu", *settings]
    arguments += "--fresh 20 --sample-sizes 4 40".split()
    before = (only_run(tmp_path / "r") / "training.csv").read_bytes()
    assert main(arguments, "guarantee") == 0
    directory = only_run(tmp_path / "r")
    assert (directory / "training.csv").read_bytes() == before
    table = pandas.read_csv(directory / "guarantee-20x8-4-40.csv")
    assert len(table) == 2 * 2 * 2 * 5  # sizes, methods, ratios, layers
    assert table["exceeding_within_deterministic"].sum() == 0
    beyond = table.groupby("sample_size")["contributions_beyond"].sum()
    assert beyond[4] > beyond[40]  # a larger sample leaves fewer surprises
    assert (directory / "plots" / "guarantee-20x8-4-40.png").stat().st_size > 5000
    assert capsys.readouterr().out.splitlines()[-1].startswith("plot: ")
    assert main([*arguments, "--fresh", "0"], "guarantee") == 2
    assert main([*arguments, "--set", "pruning.schedule=train"], "guarantee") == 2


def test_pairs_belong_to_their_certificates(small_net, images):
    """The pairs are split by the certificates at hand, not by those of an earlier call."""
    streams, fresh = Stream(0), torch.randn(30, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    layers = find_layers(small_net, [images]).prunable
    points = FreshPoints(small_net, [fresh], layers, 4, streams)
    seen = []
    for count in (1, 6, 1):
        pruner = Pruner(small_net, [images[:count]])
        table = points.compare(
            Certificates(pruner.analysis), pruner.prune(named_method("SiPP"), 0.5, streams)
        )
        seen.append(table["contributions_beyond"].sum())
    assert seen[0] == seen[2] > seen[1]


def test_nothing_is_certified_about_other_samplings(small_net, images):
    with pytest.raises(experiment.UserError, match="nothing is certified"):
        experiment.certify(small_net, [images], [images], method="L1Sampling", keep_ratio=0.5)


def test_tokens_and_grouped_convolutions_have_points_of_their_own():
    linear, conv = nn.Linear(4, 3), nn.Conv2d(4, 6, 3, groups=2)
    tokens, pictures = torch.rand(2, 5, 4), torch.rand(2, 4, 6, 6)

    def some_points(net, inputs, per_sample):
        found = FreshPoints(
            net, [inputs], find_layers(net, [inputs]).prunable, per_sample, Stream(0)
        )
        return found.points[""]

    chosen = some_points(linear, tokens, 3)
    assert chosen.shape == (1, 4, 6)
    rows = {tuple(row) for row in tokens.double().flatten(0, 1).tolist()}
    assert all(tuple(point) in rows for point in chosen[0].t().tolist())
    chosen = some_points(conv, pictures, 100)
    assert chosen.shape == (2, 18, 2 * 16)
    expected = torch.nn.functional.unfold(pictures.double(), 3).unflatten(
        1, (2, 18)
    )  # all of them, in another order
    assert torch.allclose(chosen.sum(2), expected.sum((0, 3)))
