"""Certificates: by hand, and against fresh points."""

import pandas
import pytest
import torch
from test_run import launch, only_run
from torch import nn

import experiment
from experiment import guarantee


def test_certificates_and_errors_by_hand():
    """One neuron with weights 4, 2, 1, -1 on the sample (1, 1, 1, 1): sensitivities 4/7, 2/7, 1/7, and 1."""
    net = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[4.0, 2.0, 1.0, -1.0]]))
    sample, fresh = torch.ones(1, 4), torch.tensor([[1.0, 1, 1, 1], [0, 0, 8, 1], [0, 0, 0, 1]])
    row = experiment.certify(net, [sample], [fresh], method="SiPP", keep_ratio=0.75).iloc[0]
    # The weight 1 is dropped: certificate 3/7 for the positive unit, 0 for the negative one.
    assert row.certified_max == pytest.approx(3 / 7) and row.certified_median == pytest.approx(1.5 / 7)
    # Errors: (1/7, 0), (1, 0), and at the third point the positive unit sees nothing.
    assert row.measured_max == 1 and row.units == 2 and row.points == 3
    # At the second point the weight 1 makes up all of the unit, more than 3 x 1/7: beyond, and above its certificate.
    assert (row.pairs_within_deterministic, row.pairs_within_random, row.pairs_beyond) == (4, 0, 1)
    assert (row.exceeding_within_deterministic, row.exceeding_beyond) == (0, 1)
    assert (row.contributions, row.contributions_beyond) == (3 + 3 + 1 + 1 + 1, 1)


@pytest.mark.parametrize("method", ["SiPP", "SiPPRand", "SiPPHybrid", "WT"])
def test_within_the_sensitivities_no_certificate_is_exceeded(small_net, method):
    generator = torch.Generator().manual_seed(5)
    sample, fresh = torch.randn(24, 3, 8, 8, generator=generator), torch.randn(40, 3, 8, 8, generator=generator)
    table = experiment.certify(small_net, [sample], [fresh], method=method, keep_ratio=0.4)
    assert table["layer"].tolist() == ["conv1", "conv2", "fc"]
    assert table["exceeding_within_deterministic"].sum() == 0 and table["exceeding_within_random"].sum() == 0
    assert table["pairs_beyond"].sum() > 0  # so that the split is seen to matter
    assert (table["measured_max"] >= table["measured_p95"]).all()
    if method == "SiPPRand":
        assert table["pairs_within_random"].sum() > 0


def test_the_command_writes_table_and_plot_and_takes_the_trained_net(small_config, tmp_path, capsys):
    assert launch(small_config, tmp_path / "r", "--set", "pruning.schedule=oneshot", "--set",
                  "pruning.retrain_count=0", "--set", "pruning.methods=[SiPP, SiPPRand]") == 0
    arguments = [str(small_config), "--results", str(tmp_path / "r"), "--device", "cpu", "--fresh", "20",
                 "--set", "pruning.schedule=oneshot", "--set", "pruning.retrain_count=0",
                 "--set", "pruning.methods=[SiPP, SiPPRand]", "--sample-sizes", "4", "40"]
    before = (only_run(tmp_path / "r") / "training.csv").read_bytes()
    assert guarantee.main(arguments) == 0
    directory = only_run(tmp_path / "r")
    assert (directory / "training.csv").read_bytes() == before
    table = pandas.read_csv(directory / "guarantee.csv")
    assert len(table) == 2 * 2 * 2 * 5  # sizes, methods, ratios, layers
    assert table["exceeding_within_deterministic"].sum() == 0
    beyond = table.groupby("sample_size")["contributions_beyond"].sum()
    assert beyond[4] > beyond[40]  # a larger sample leaves fewer surprises
    assert (directory / "plots" / "guarantee.png").stat().st_size > 5000
    assert capsys.readouterr().out.splitlines()[-1].startswith("plot: ")
    assert guarantee.main([*arguments, "--fresh", "0"]) == 2
