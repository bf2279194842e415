"""Learning rates, seeds of training, and the layers of the package."""

import pytest
import torch

from experiment.config.schema import DatasetPart, Training
from experiment.core.seeding import Stream
from experiment.data.loading import load_data
from experiment.nets.building import build_network
from experiment.training.trainer import Trainer, learning_rate_factor


class Silent:
    def __init__(self, total, label):
        pass

    def update(self, sums):
        pass

    def close(self):
        pass


def test_learning_rate_warms_up_and_drops():
    settings = Training(epochs=10, warmup_epochs=2, lr_drops={"epochs": [4, 6], "factor": 0.1})
    factors = [
        learning_rate_factor(settings, step, batches=5)
        for step in (0, 4, 9, 10, 19, 20, 29, 30, 49)
    ]
    assert factors == pytest.approx([0.1, 0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_twenty_steps_give_the_golden_loss():
    """A number that refactoring may not move, and that any change of seeds, data or updates would."""
    data = load_data(DatasetPart(name="digits", crop_padding=1), Stream(0))
    with Stream(0).as_global():
        net = build_network("lenet300_100", input_shape=data.input_shape, num_classes=10)
    settings = Training(epochs=1, batch_size=64, optimizer={"name": "SGD", "lr": 0.05})
    records = Trainer(data, Silent).fit(net, settings, Stream(0))
    assert records[0]["train_loss"] == pytest.approx(2.230998, abs=2e-4)


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
