"""What many tests need: small nets, and a small experiment that takes about a second."""

from pathlib import Path

import pytest
import torch
from torch import nn

from experiment.core.files import write_whole
from experiment.reporting.plots import run as run_plots

torch.set_num_threads(
    1
)  # small nets gain nothing from two, and lose much where others compute beside them

ROOT = Path(__file__).parent.parent


SMALL = """
network: {name: lenet5}
dataset: {name: digits}
training: {epochs: 2, batch_size: 64, optimizer: {name: SGD, lr: 0.05}}
pruning:
  methods: [SiPP, WT]
  keep_ratios: [0.5, 0.2]
"""

CORRUPTED = "evaluation: {corruptions: [gaussian_noise, contrast], severities: [1, 5]}"


@pytest.fixture
def small_config(tmp_path) -> Path:
    """A YAML file of an experiment that runs in about a second."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """A YAML file of an experiment that `whole_runs` runs, with all kinds of tasks."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    text = SMALL.replace("lr: 0.05", "lr: 0.02")  # teams of processes differ by rounding
    path.write_text(f"{text}\nnum_nets: 2\ncheckpoints: all\n{CORRUPTED}\n")
    return path


@pytest.fixture(scope="session")
def alone(small, tmp_path_factory) -> Path:
    """The results of that experiment, from one process."""
    from whole_runs import run_here

    results = tmp_path_factory.mktemp("alone")
    assert run_here(small, results).returncode == 0
    return results


class SmallNet(nn.Module):
    """Two convolutions with BatchNorm, one of them grouped, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, groups=2)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))


@pytest.fixture
def small_net() -> nn.Module:
    torch.manual_seed(0)
    return SmallNet()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


DRAW_ALL = run_plots.draw_all


def leave_out_figures(*arguments) -> Path:
    """Takes the place of `draw_all`: the main figure's files, without content."""
    *_, folder = arguments
    path = folder / f"{run_plots.MAIN}.png"
    for one in (path, path.with_suffix(".pdf")):
        write_whole(one, b"not drawn")
    return path


@pytest.fixture(scope="session", autouse=True)
def no_figures():
    """Runs draw no figures, which take longer than all else that small runs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_plots, "draw_all", leave_out_figures)
        yield


@pytest.fixture
def all_figures(monkeypatch):
    """Lets runs draw all their figures."""
    monkeypatch.setattr(run_plots, "draw_all", DRAW_ALL)
