"""Evaluating nets: the numbers, the size of a batch, and that nothing is evaluated twice."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from experiment.config.loading import load_config
from experiment.config.schema import DatasetPart
from experiment.core.seeding import Stream
from experiment.data.loading import load_data
from experiment.nets.building import build_network
from experiment.runs.driver import run
from experiment.training import evaluation
from experiment.training.evaluation import evaluate, evaluation_batch, largest_layer_bytes
from experiment.training.trainer import Trainer


@pytest.fixture(scope="module")
def data():
    return load_data(DatasetPart(name="digits"), Stream(0))


def digits_net(name: str) -> nn.Module:
    with Stream(0).as_global():
        return build_network(name, input_shape=(1, 8, 8), num_classes=10)


def test_the_numbers_are_those_of_all_images_at_once(data, monkeypatch):
    net = digits_net("resnet20")
    monkeypatch.setattr(evaluation, "LARGEST_BATCH", 64)  # 360 images: a part of a batch is left
    found = evaluate(net, data.test, 10)
    [(images, labels)] = data.test.batches(len(data.test))
    with torch.no_grad():
        outputs = net.eval()(images)
    ranks = (outputs > outputs.gather(1, labels[:, None])).sum(1)
    assert found.loss == pytest.approx(float(cross_entropy(outputs, labels)), rel=1e-5)
    assert found.accuracy == pytest.approx(float((ranks == 0).float().mean()))
    assert found.top5 == pytest.approx(float((ranks < 5).float().mean()))


def test_the_mode_of_the_net_is_left_as_it_was(data):
    net = digits_net("resnet20")
    net.bn1.eval()
    evaluate(net, data.test, 10)
    assert net.training and not net.bn1.training


def test_a_layer_takes_its_inputs_and_outputs(small_net, images):
    example = (images[:1], None)
    # the first BatchNorm: 8 channels of 8 x 8 pixels in and out, 4 bytes each
    assert largest_layer_bytes(small_net, example) == 2 * 8 * 64 * 4
    assert largest_layer_bytes(nn.Linear(64, 32), (torch.zeros(1, 64), None)) == (64 + 32) * 4


@pytest.mark.parametrize(
    ("threads", "layer_bytes", "expected"),
    [(1, 2**16, 64), (2, 2**16, 128), (1, 2**16 + 1, 32), (1, 10, 512), (1, 2**30, 32)],
)
def test_a_batch_fits_into_the_caches(data, monkeypatch, threads, layer_bytes, expected):
    monkeypatch.setattr(evaluation, "largest_layer_bytes", lambda net, example: layer_bytes)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert evaluation_batch(nn.Linear(2, 2), data.test) == expected


def test_nothing_is_evaluated_twice(small_config, tmp_path, monkeypatch):
    """Unpruned, and at each of two ratios before and after retraining; and after each epoch."""
    evaluated = Counter()
    evaluate_split = Trainer.evaluate

    def counted(trainer, net, split):
        evaluated["validation" if split is trainer.data.validation else "test"] += 1
        return evaluate_split(trainer, net, split)

    monkeypatch.setattr(Trainer, "evaluate", counted)
    config = load_config(small_config, ["pruning.methods=[WT]", "training.epochs=3"])
    run(config, tmp_path / "r")
    epochs = 3 * (1 + 2)
    assert evaluated == {"validation": epochs + 2, "test": 1 + 2 * 2}
