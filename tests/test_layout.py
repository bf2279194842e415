"""The layout of nets in memory: what is laid out, what is not, and that nothing else changes."""

import pytest
import torch
from conftest import SmallNet
from torch import nn

from experiment.config.schema import DatasetPart, NetworkPart
from experiment.core.seeding import Stream
from experiment.data.loading import load_data
from experiment.nets import layout
from experiment.nets.state import NetState
from experiment.runs.workplace import Workplace


class Viewing(nn.Module):
    """A net that takes for granted that channels come before pixels."""

    num_features = 144

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(self.num_features, 4)

    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.view(len(x), -1))


@pytest.fixture
def batch(images):
    return images, torch.zeros(len(images), dtype=torch.long)


def test_convolutions_have_their_channels_last(small_net, batch):
    expected = small_net.eval()(batch[0])
    before = NetState.of(small_net)
    assert not layout.has_channels_last(small_net)
    assert layout.lay_out_for_speed(small_net, batch) is small_net
    assert layout.has_channels_last(small_net)
    images = layout.as_laid_out(batch[0], True)
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(small_net(images), expected)
    after = NetState.of(small_net)
    assert after.digest == before.digest  # what is stored does not depend on it
    assert all(tensor.is_contiguous() for tensor in after.tensors.values())


def test_loading_a_state_keeps_the_layout(small_net, batch):
    state = NetState.of(SmallNet())
    layout.lay_out_for_speed(small_net, batch)
    state.load_into(small_net)
    assert layout.has_channels_last(small_net) and NetState.of(small_net).digest == state.digest
    layout.lay_out_by_default(small_net)
    assert not layout.has_channels_last(small_net)
    assert NetState.of(small_net).digest == state.digest


class MergingSamples(Viewing):
    """A net whose views work with channels last for a single image only."""

    num_features = 24

    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.view(len(x) * 4, 6, 6).flatten(1)[:, :24]).view(len(x), -1)


class ViewingInTraining(Viewing):
    def forward(self, x):
        return super().forward(x) if self.training else self.fc(self.conv(x).flatten(1))


@pytest.mark.parametrize("kind", [MergingSamples, ViewingInTraining])
def test_nets_that_fail_for_several_images_or_in_training_are_found(images, kind):
    net = layout.lay_out_for_speed(kind(), (images[:2], None))
    assert not layout.has_channels_last(net)


def test_nets_that_cannot_run_with_channels_last_keep_their_layout(batch):
    net = Viewing()
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        layout._lay_out(Viewing(), torch.channels_last)(layout.as_laid_out(batch[0], True))
    layout.lay_out_for_speed(net, batch)
    assert not layout.has_channels_last(net) and net(batch[0]).shape == (6, 4)


def test_nets_without_convolutions_are_left_alone():
    net = nn.Linear(3, 2)
    layout.lay_out_for_speed(net, (torch.zeros(1, 3), torch.zeros(1)))
    assert not layout.has_channels_last(net)
    assert layout.as_laid_out(torch.zeros(2, 3), True).shape == (2, 3)


def test_other_devices_keep_the_default(small_net, batch, monkeypatch):
    monkeypatch.setattr(layout, "CHANNELS_LAST_DEVICES", set())
    layout.lay_out_for_speed(small_net, batch)
    assert not layout.has_channels_last(small_net)


def test_pruning_sees_the_default_layout():
    """So that a method finds the same in a run as in `experiment.prune`."""
    data = load_data(DatasetPart(name="digits"), Stream(0))
    workplace = Workplace(data)
    network = NetworkPart(name="resnet20")
    assert layout.has_channels_last(workplace.net(network))
    import experiment

    config = experiment.config.schema.Config(network=network)
    task = next(task for task in experiment.tasks(config) if hasattr(task, "method"))
    pruner = workplace.pruner(task, NetState.of(workplace.net(network)))
    assert not layout.has_channels_last(pruner.analysis.net)
