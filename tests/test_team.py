"""A team of processes learns and measures what one process does."""

import itertools
import os
from pathlib import Path

import pytest
import torch
from test_trainer import ADAM, SGD, LateLayer, fit, small_net
from torch import distributed, multiprocessing, nn
from torch.nn.functional import batch_norm

from experiment.config.schema import DatasetPart, Training
from experiment.core.seeding import Stream
from experiment.data.augmentation import Augmentation
from experiment.data.loading import load_data
from experiment.data.streamed_split import StreamedSplit
from experiment.nets.masks import keep_all
from experiment.nets.state import NetState
from experiment.training.synced_batch_norm import SyncedBatchNorm
from experiment.training.team import Team
from experiment.training.trainer import DivergedError, Trainer

BATCH = 60  # of 1293 images: the last batch has 33


def in_team(size: int, work, folder: Path, *arguments) -> list:
    """What `work(team, *arguments)` returns in each of so many processes."""
    multiprocessing.spawn(_member, (size, work, folder, *arguments), nprocs=size)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def _member(rank: int, size: int, work, folder: Path, *arguments) -> None:
    torch.set_num_threads(1)
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"
    store = distributed.FileStore(str(folder / "store"), size)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    torch.save(work(Team(rank, size), *arguments), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_each_image_is_in_one_share(size):
    teams = [Team(rank, size) for rank in range(size)]
    for count in range(1, 50):
        images = torch.arange(count)
        shares = [images[team.share(count)] for team in teams]
        weights = [team.weight(len(own), count) for team, own in zip(teams, shares)]
        if count >= 2 * size:
            assert torch.equal(torch.cat(shares), images)
            assert min(map(len, shares)) >= min(2, count)
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
        else:  # too few to be divided: each does all
            assert all(torch.equal(own, images) for own in shares)
        # Means over shares, weighted, and averaged over processes, are the mean over the batch.
        means = [own.double().mean() * weight for own, weight in zip(shares, weights)]
        assert sum(means) / size == pytest.approx(images.double().mean().item())
        counted = [len(own) for team, own in zip(teams, shares) if team.counts(len(own), count)]
        assert sum(counted) == count
        parts = [images[team.part(count)] for team in teams]
        assert torch.equal(torch.cat(parts), images)


def test_only_the_first_process_has_the_stream_of_one_process():
    streams = [Team(rank, 3).stream(Stream(0)) for rank in range(3)]
    assert streams[0] == Stream(0) and len({stream.integer() for stream in streams}) == 3


READ: list[str] = []


def read(path: str) -> torch.Tensor:
    READ.append(path)
    return torch.full((1, 4, 4), int(path), dtype=torch.uint8).cumsum(2).to(torch.uint8)


def streamed() -> StreamedSplit:
    return StreamedSplit(
        paths=tuple(str(number) for number in range(23)),
        labels=torch.arange(23),
        read=read,
        read_varied=lambda path, seed: read(path) + seed % 5,
        mean=torch.zeros(1),
        std=torch.ones(1),
        augmentation=Augmentation(crop_padding=1, horizontal_flip=True),
    )


@pytest.mark.parametrize("kind", ["in memory", "streamed"])
def test_shares_are_varied_as_in_one_process(data, kind):
    split = streamed() if kind == "streamed" else data.train.subset(torch.arange(23))
    whole = [
        (images, labels) for images, labels in split.training_batches(10, Stream(0).generator())
    ]
    READ.clear()
    read_by_each, shares = [], []
    for rank in range(2):
        drawn = split.shared_draws(10, Stream(0).generator(), Team(rank, 2).share)
        shares.append([(count, *split.varied(*draws)) for count, draws in drawn])
        read_by_each.append(list(READ))
        READ.clear()
    assert [count for count, *_ in shares[0]] == [10, 10, 3]
    for (images, labels), one, other in zip(whole, *shares):
        _, own_images, own_labels = one
        if one[0] == 3:  # not divided
            assert torch.equal(own_images, images) and torch.equal(other[1], images)
        else:
            assert torch.equal(torch.cat([own_images, other[1]]), images)
            assert torch.equal(torch.cat([own_labels, other[2]]), labels)
    if kind == "streamed":
        assert [len(paths) for paths in read_by_each] == [13, 13]  # 5 + 5 + 3 of 23
        assert len({*read_by_each[0], *read_by_each[1]}) == 23


@pytest.fixture(scope="module")
def data():
    return digits()


def digits():
    return load_data(DatasetPart(name="digits", crop_padding=1), Stream(0))


def late() -> nn.Module:
    with Stream(0).as_global():
        return LateLayer()


def masked(net: nn.Module) -> NetState:
    masks = keep_all(net)
    if "1.weight" in masks:
        masks["1.weight"][:, ::2] = False
    return NetState.of(net, masks)


TRAININGS = {  # what is trained, and whether it must give what one process gives
    "plain": (small_net, {"optimizer": ADAM}, True),
    "late layer": (late, {"optimizer": SGD}, True),
    "synced": (lambda: small_net(nn.BatchNorm1d(16)), {"sync_batchnorm": True}, True),
    "images": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(),
                              nn.Linear(144, 10)),
        {"sync_batchnorm": True, "batch_size": 430},  # the last batch has 3 images
        True,
    ),
    "not synced": (lambda: small_net(nn.BatchNorm1d(16)), {}, False),
    "dropout": (lambda: small_net(nn.Dropout(0.5)), {}, False),
}  # fmt: skip


def trainings(team: Team) -> dict:
    """Each of the trainings, twice with the same net, and an evaluation of few images."""
    found = {}
    data = digits()
    trainer = Trainer(data, team=team)
    for name, (make, options, _) in TRAININGS.items():
        with Stream(0).as_global():
            net = make()
        settings = Training(epochs=2, **{"batch_size": BATCH, "optimizer": SGD, **options})
        start = masked(net)
        first, records = fit(trainer, net, start, settings, Stream(1))
        again, _ = fit(trainer, net, start, settings, Stream(1))
        half, _ = fit(trainer, net, start, settings, Stream(1), until=1)
        resumed, _ = fit(trainer, net, half, settings, Stream(1))
        evaluation = trainer.evaluate(net, data.test.subset(torch.arange(1)))
        found[name] = (first, again.digest, resumed.digest, records, evaluation)
    with pytest.raises(DivergedError):
        settings = Training(epochs=1, optimizer={"lr": 1e30})
        fit(trainer, small_net(), NetState.of(small_net()), settings, Stream(0))
    found["hooks"] = sum(len(module._forward_hooks) for module in net.modules())
    return found


def test_a_team_trains_as_one_process_does(tmp_path):
    alone = trainings(Team())
    members = in_team(3, trainings, tmp_path)
    for name, (_, _, is_same) in TRAININGS.items():
        state, _, _, records, evaluation = alone[name]
        for first, again, resumed, own_records, own_evaluation in (one[name] for one in members):
            assert first.digest == again == resumed == members[0][name][0].digest, name
            assert own_evaluation == members[0][name][4]
            if not is_same:
                continue
            for record, other in zip(records, own_records):
                assert record.train_loss == pytest.approx(other.train_loss, abs=1e-4), name
                assert record.validation_loss == pytest.approx(other.validation_loss, abs=1e-4)
                assert record.train_accuracy == pytest.approx(other.train_accuracy, abs=2e-3)
            for key, tensor in state.tensors.items():
                torch.testing.assert_close(first.tensors[key], tensor, atol=1e-4, rtol=1e-3)
            assert own_evaluation.loss == pytest.approx(evaluation.loss, abs=1e-3)
    assert members[0]["not synced"][0].digest != alone["not synced"][0].digest


def normalised(team: Team) -> dict:
    """A share of a batch normalised, and all gradients and statistics."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(7, 3, 4, 4, generator=generator) * 3 + 100  # far from zero
    factors = torch.randn(7, 3, 4, 4, generator=generator)
    own = team.share(7)
    inputs = images[own].requires_grad_()
    weight, bias = (torch.full((3,), value, requires_grad=True) for value in (2.0, 0.5))
    mean, variance = torch.zeros(3), torch.ones(3)
    options = {"weight": weight, "bias": bias, "training": True}
    if team.is_alone:
        outputs = batch_norm(inputs, mean, variance, **options)
    else:
        with SyncedBatchNorm():
            outputs = batch_norm(inputs, mean, variance, **options)
            statistics = [mean[:, None, None], variance[:, None, None]]
            expected = (inputs - statistics[0]) / (statistics[1] + 1e-5).sqrt()
            torch.testing.assert_close(batch_norm(inputs, mean, variance), expected)
    (outputs * factors[own]).square().sum().backward()
    gradients = [inputs.grad, weight.grad, bias.grad]
    return {"outputs": outputs.detach(), "gradients": gradients, "running": [mean, variance]}


def test_batchnorm_over_processes_is_that_of_the_whole_batch(tmp_path):
    whole = normalised(Team())
    members = in_team(2, normalised, tmp_path)
    close = {"atol": 2e-4, "rtol": 2e-4}
    outputs = torch.cat([one["outputs"] for one in members])
    torch.testing.assert_close(outputs, whole["outputs"], **close)
    for one, expected in itertools.product(members, [whole]):
        for found, wanted in zip(one["running"], expected["running"]):
            torch.testing.assert_close(found, wanted, **close)
    of_inputs, of_weights, of_biases = zip(*(one["gradients"] for one in members))
    torch.testing.assert_close(torch.cat(of_inputs), whole["gradients"][0], **close)
    torch.testing.assert_close(sum(of_weights), whole["gradients"][1], **close)
    torch.testing.assert_close(sum(of_biases), whole["gradients"][2], **close)
