"""Learning rates, seeds of training, and trainings that stop and go on."""

import pytest
import torch
from torch import nn

from experiment.config.schema import DatasetPart, Training
from experiment.core.seeding import Stream
from experiment.data.loading import load_data
from experiment.nets.building import build_network
from experiment.nets.layout import has_channels_last, lay_out_for_speed
from experiment.nets.masks import keep_all
from experiment.nets.state import NetState
from experiment.training.optimisation import learning_rate_factor
from experiment.training.trainer import Fit, Trainer

SGD = {"name": "SGD", "lr": 0.05, "momentum": 0.9, "nesterov": True}
ADAM = {"name": "Adam", "lr": 1e-3}


@pytest.fixture(scope="module")
def data():
    return load_data(DatasetPart(name="digits", crop_padding=1), Stream(0))


def fit(trainer: Trainer, net: nn.Module, state: NetState, settings: Training, stream, **options):
    return trainer.fit(Fit(net=net, state=state, settings=settings, stream=stream, **options))


def small_net(*middle: nn.Module) -> nn.Module:
    with Stream(0).as_global():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), *middle, nn.ReLU(), nn.Linear(16, 10))


def assert_equal_states(one: NetState, other: NetState) -> None:
    assert one.epoch == other.epoch
    for kind in ("tensors", "masks", "optimizer"):
        tensors, others = getattr(one, kind), getattr(other, kind)
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensors[name], others[name]) for name in tensors), kind


def test_learning_rate_warms_up_and_drops():
    settings = Training(epochs=10, warmup_epochs=2, lr_drops={"epochs": [4, 6], "factor": 0.1})
    factors = [
        learning_rate_factor(settings, step, steps_per_epoch=5)
        for step in (0, 4, 9, 10, 19, 20, 29, 30, 49)
    ]
    assert factors == pytest.approx([0.1, 0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_twenty_steps_give_the_golden_loss(data):
    """A number that refactoring may not move, and that any change of seeds or updates would."""
    with Stream(0).as_global():
        net = build_network("lenet300_100", input_shape=data.input_shape, num_classes=10)
    settings = Training(epochs=1, batch_size=64, optimizer={"name": "SGD", "lr": 0.05})
    _, records = fit(Trainer(data), net, NetState.of(net), settings, Stream(0))
    assert records[0].train_loss == pytest.approx(2.230998, abs=2e-4)


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["SGD", "Adam"])
@pytest.mark.parametrize("middle", [nn.Dropout(0.5), nn.BatchNorm1d(16)], ids=["dropout", "norm"])
def test_three_epochs_and_three_more_are_six(data, middle, optimizer):
    net = small_net(middle)
    settings = Training(
        epochs=6,
        batch_size=64,
        optimizer=optimizer,
        warmup_epochs=1,
        lr_drops={"epochs": [2, 5], "factor": 0.1},
    )
    trainer = Trainer(data)
    start = NetState.of(net)
    whole, records = fit(trainer, net, start, settings, Stream(1))
    half, first = fit(trainer, net, start, settings, Stream(1), until=3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(7)  # what the net held before does not matter
    torch.manual_seed(5)  # nor does torch's own generator
    continued, second = fit(trainer, net, half, settings, Stream(1))
    assert_equal_states(whole, continued)
    assert [record.epoch for record in first + second] == [1, 2, 3, 4, 5, 6]
    for record, other in zip(records, first + second):
        assert record.train_loss == other.train_loss
        assert record.learning_rate == other.learning_rate
        assert record.validation_loss == other.validation_loss


class LateLayer(nn.Module):
    """A net of which one layer takes part from the fourth step on."""

    def __init__(self):
        super().__init__()
        self.first, self.late, self.last = nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, 10)
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x):
        x = torch.relu(self.first(x.flatten(1)))
        if self.training:
            self.steps += 1
        return self.last(self.late(x) if self.steps > 3 else x)


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["SGD", "Adam"])
@pytest.mark.parametrize("kind", ["convolutions", "late layer"])
def test_any_net_goes_on_as_if_it_had_not_stopped(data, kind, optimizer):
    """Convolutions have their channels last, states have not; and some gradients come late."""
    with Stream(0).as_global():
        net = LateLayer()
        if kind == "convolutions":
            net = build_network("lenet5", input_shape=data.input_shape, num_classes=10)
    net = lay_out_for_speed(net, next(data.test.batches(2)))
    assert has_channels_last(net) == (kind == "convolutions")
    settings = Training(epochs=2, batch_size=64, optimizer=optimizer)
    start = NetState.of(net)
    whole, _ = fit(Trainer(data), net, start, settings, Stream(1))
    half, _ = fit(Trainer(data), net, start, settings, Stream(1), until=1)
    continued, _ = fit(Trainer(data), net, half, settings, Stream(1))
    assert_equal_states(whole, continued)


def test_the_optimiser_is_needed_to_go_on(data):
    """The test above would not notice a lost optimiser if the epochs were insensitive to it."""
    net = small_net()
    settings = Training(epochs=2, batch_size=64, optimizer=SGD)
    trainer = Trainer(data)
    start = NetState.of(net)
    whole, _ = fit(trainer, net, start, settings, Stream(1))
    half, _ = fit(trainer, net, start, settings, Stream(1), until=1)
    forgetful = NetState(half.tensors, half.masks, epoch=1)
    continued, _ = fit(trainer, net, forgetful, settings, Stream(1))
    assert not torch.equal(whole.tensors["1.weight"], continued.tensors["1.weight"])


def test_masked_parameters_stay_zero(data):
    net = small_net(nn.BatchNorm1d(16))
    masks = keep_all(net)
    masks["1.weight"][:, ::2] = False
    settings = Training(epochs=1, batch_size=64, optimizer=SGD)
    trained, _ = fit(Trainer(data), net, NetState.of(net, masks), settings, Stream(0))
    assert (trained.tensors["1.weight"][:, ::2] == 0).all()
    assert (trained.tensors["1.weight"][:, 1::2] != 0).any()
    assert trained.is_pruned and torch.equal(trained.masks["1.weight"], masks["1.weight"])


def test_epochs_are_told_as_they_end(data):
    net = small_net()
    told = []

    def stop_after_two(record):
        told.append(record.epoch)
        if record.epoch == 2:
            raise KeyboardInterrupt

    settings = Training(epochs=5, batch_size=64, optimizer=SGD)
    with pytest.raises(KeyboardInterrupt):
        fit(Trainer(data), net, NetState.of(net), settings, Stream(0), on_epoch=stop_after_two)
    assert told == [1, 2]


def test_equal_states_have_equal_digests():
    net = small_net(nn.BatchNorm1d(16))
    state = NetState.of(net)
    assert state.digest == NetState.of(net).digest
    masks = keep_all(net)
    masks["1.bias"][0] = False
    assert state.digest != NetState.of(net, masks).digest
    with torch.no_grad():
        net[1].bias[0] += 1e-6
    assert state.digest != NetState.of(net).digest
    assert not state.is_pruned


def test_streams_are_independent_by_name_and_reproducible():
    draws = [
        Stream(0).child(*path).generator().initial_seed()
        for path in (("a",), ("a", 1), ("b",), ("a",))
    ]
    assert draws[0] == draws[3] and len(set(draws)) == 3
    before = torch.random.get_rng_state()
    with Stream(0).as_global():
        torch.rand(3)
    assert torch.equal(before, torch.random.get_rng_state())
