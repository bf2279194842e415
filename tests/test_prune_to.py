"""From error to sparsity: the tests on held-out images, by hand, by simulation and on real nets."""

import math

import numpy
import pytest
import torch
from scipy import stats
from torch import nn

import experiment
from experiment.certification.holdout_tests import (
    accuracy_drop_p_value,
    disagreement_p_value,
    images_needed,
    losses,
)
from experiment.core.errors import UserError
from experiment.data.sets.digits import digits

REPETITIONS = 2_000


def test_losses_by_hand():
    labels = numpy.array([0, 0, 1, 1, 2])
    before = numpy.array([0, 0, 1, 0, 0])
    after = numpy.array([0, 1, 2, 1, 1])
    assert losses("accuracy_drop", before, after, labels).tolist() == [0, 1, 1, -1, 0]
    assert losses("disagreement", before, after, labels).tolist() == [0, 1, 1, 1, 1]


def test_the_binomial_tail_by_hand():
    """P(Bin(3, 0.5) <= 1) = 1/8 + 3/8."""
    assert disagreement_p_value(1, 3, 0.5) == pytest.approx(0.5)
    assert disagreement_p_value(0, 100, 0.03) == pytest.approx(0.97**100)


def betting_by_hand(drops, at_most: float, confidence: float) -> float:
    """The same test, image by image, as the paper writes it."""
    null = (1 - at_most) / 2
    capital = most = 1.0
    total, squares, variance = 0.5, 0.25, 0.25
    for index, drop in enumerate(drops, 1):
        stake = math.sqrt(2 * math.log(1 / (1 - confidence)) / (variance * len(drops)))
        value = (1 - drop) / 2
        capital *= 1 + min(stake, 0.75 / null) * (value - null)
        most = max(most, capital)
        total += value
        squares += (value - total / (index + 1)) ** 2
        variance = squares / (index + 1)
    return min(1.0, 1 / most)


@pytest.mark.parametrize("at_most", [0.005, 0.02, 0.2])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
def test_betting_is_what_an_independent_loop_computes(at_most, share):
    random = numpy.random.default_rng(0)
    drops = random.choice([-1, 0, 1], size=400, p=[share / 3, 1 - share, 2 * share / 3])
    expected = betting_by_hand(drops, at_most, 0.95)
    assert accuracy_drop_p_value(drops, at_most, 0.95) == pytest.approx(expected, rel=1e-9)
    together = accuracy_drop_p_value(numpy.stack([drops, drops[::-1]]), at_most, 0.95)
    assert together.shape == (2,) and together[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("at_most", "share"), [(0.005, 0.02), (0.02, 0.05), (0.05, 0.3)])
def test_at_the_boundary_the_promise_is_broken_no_more_often_than_allowed(at_most, share):
    """The expected drop is the limit itself, where mistakes are likeliest."""
    random = numpy.random.default_rng(1)
    worse = (share + at_most) / 2
    chances = [share - worse, 1 - share, worse]
    drops = random.choice([-1, 0, 1], size=(REPETITIONS, 2_500), p=chances)
    broken = int((accuracy_drop_p_value(drops, at_most, 0.95) <= 0.05).sum())
    assert broken <= stats.binom.ppf(0.999, REPETITIONS, 0.05)
    changed = random.binomial(2_500, at_most, size=REPETITIONS)
    broken = int((stats.binom.cdf(changed, 2_500, at_most) <= 0.05).sum())
    assert broken <= stats.binom.ppf(0.999, REPETITIONS, 0.05)


@pytest.mark.parametrize(("count", "low", "high"), [(1_000, 0.40, 0.60), (2_500, 0.83, 0.94)])
def test_power(count, low, high):
    """With 2% of predictions changing and no drop, one point is certified about that often."""
    random = numpy.random.default_rng(2)
    drops = random.choice([-1, 0, 1], size=(REPETITIONS, count), p=[0.01, 0.98, 0.01])
    power = float((accuracy_drop_p_value(drops, 0.01, 0.95) <= 0.05).mean())
    assert low < power < high
    assert images_needed("accuracy_drop", drops[0], 0.01, 0.95) > 0
    assert images_needed("accuracy_drop", numpy.array([1, 1, 0, 0]), 0.3, 0.95) is None


def net_with_noise(size: int = 40):
    """A net of two classes that decides by the sum of its inputs, each by a weight of its own."""
    net = nn.Sequential(nn.Linear(size, 2))
    with torch.no_grad():
        scale = torch.linspace(1, 0.02, size)
        net[0].weight.copy_(torch.stack([-scale, scale]))
        net[0].bias.zero_()
    return net.eval()


def draws(count: int, generator: torch.Generator, size: int = 40):
    inputs = torch.randn(count, size, generator=generator)
    labels = (net_with_noise(size)(inputs)).argmax(1)
    flipped = torch.rand(count, generator=generator) < 0.1
    return inputs, torch.where(flipped, 1 - labels, labels)


@torch.no_grad()
def test_the_promise_of_the_whole_sequence():
    """A sequence of nets with known true losses: 2,000 times another holdout set is drawn.

    Nets are the same in each repetition, so their losses are computed once, on many images.
    """
    generator = torch.Generator().manual_seed(0)
    net = net_with_noise()
    inputs, labels = draws(200_000, generator)
    ratios = [0.9, 0.7, 0.5, 0.4, 0.3, 0.2]
    before = net(inputs).argmax(1).numpy()
    drops = []
    for ratio in ratios:
        pruned = experiment.prune(net, [inputs[:8]], method="WT", keep_ratio=ratio).net
        drops.append(
            losses("accuracy_drop", before, pruned(inputs).argmax(1).numpy(), labels.numpy())
        )
    true = [float(one.mean()) for one in drops]
    assert true == sorted(true) and true[0] < 0.02 < true[-1]
    at_most = 0.02
    random = numpy.random.default_rng(3)
    passed = numpy.ones(REPETITIONS, dtype=bool)
    last = numpy.full(REPETITIONS, -1)
    chosen = random.integers(0, len(labels), size=(REPETITIONS, 1_000))
    for index, one in enumerate(drops):
        passed &= accuracy_drop_p_value(one[chosen], at_most, 0.95) <= 0.05
        last[passed] = index
    is_broken = (last >= 0) & (numpy.array([*true, 0.0])[last] > at_most)
    assert int(is_broken.sum()) <= stats.binom.ppf(0.999, REPETITIONS, 0.05)
    assert float((last >= 0).mean()) > 0.5  # power: most repetitions certify something


@pytest.fixture(scope="module")
def trained():
    """A small net trained on digits, S, and images set aside."""
    splits = digits().load()
    torch.manual_seed(0)
    net = experiment.build_network("lenet300_100", input_shape=(1, 8, 8), num_classes=10)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        for images, targets in splits.train.subset(torch.arange(800)).training_batches(
            64, generator
        ):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), targets).backward()
            optimizer.step()
    sample = list(splits.train.subset(torch.arange(800, 864)).batches(32))
    holdout = list(splits.train.subset(torch.arange(864, 1437)).batches(100))
    return net.eval(), sample, holdout


def test_a_net_pruned_as_far_as_is_guaranteed(trained):
    net, sample, holdout = trained
    found = experiment.prune_to(
        net, sample, holdout, method="WT", at_most=0.05, keep_ratios=[0.8, 0.5, 0.3, 0.2, 0.1, 0.05]
    )
    table = found.tested
    assert table["passes"].tolist() == [True] * (len(table) - 1) + [bool(table["passes"].iloc[-1])]
    [*_, last] = table[table["passes"]].to_dict("records")
    assert found.keep_ratio == last["keep_ratio"] < 0.6
    assert last["p_value"] <= 0.05 and last["accuracy_drop"] < 0.05
    assert (table["images"] == 573).all()
    expected = experiment.prune(net, sample, method="WT", keep_ratio=last["keep_ratio_requested"])
    assert all(torch.equal(found.masks[name], mask) for name, mask in expected.masks.items())
    assert "with 95% confidence its accuracy drop is at most 0.05" in repr(found)
    stricter = experiment.prune_to(
        net,
        sample,
        holdout,
        method="WT",
        at_most=0.05,
        confidence=0.9999,
        keep_ratios=[0.8, 0.5, 0.3, 0.2, 0.1, 0.05],
    )
    assert stricter.keep_ratio >= found.keep_ratio


def test_disagreement_and_the_order_of_images(trained):
    net, sample, holdout = trained
    found = experiment.prune_to(
        net,
        sample,
        holdout,
        method="WT",
        measure="disagreement",
        at_most=0.1,
        keep_ratios=[0.5, 0.02],
    )
    assert found.tested["passes"].tolist() == [True, False]
    assert found.keep_ratio == pytest.approx(0.5, abs=0.01)
    again = experiment.prune_to(
        net,
        sample,
        holdout[::-1],
        method="WT",
        measure="disagreement",
        at_most=0.1,
        keep_ratios=[0.5, 0.02],
    )
    assert again.tested["p_value"].tolist() == found.tested["p_value"].tolist()


def test_nothing_is_pruned_where_nothing_can_be_promised(trained):
    """Sixty images cannot show that half a point is not exceeded; how many could, is told."""
    net, sample, holdout = trained
    found = experiment.prune_to(net, sample, holdout[:1], method="WT", at_most=0.005)
    assert found.keep_ratio == 1.0 and found.tested["passes"].tolist() == [False]
    assert (
        found.tested["images_needed"].iloc[0] is None or found.tested["images_needed"].iloc[0] > 0
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"at_most": 0}, "at_most must be a number between 0 and 1, not 0"),
        ({"confidence": 95}, "confidence must be a number between 0 and 1, not 95"),
        ({"keep_ratios": [0.2, 0.5]}, "keep_ratios must be falling numbers"),
        ({"keep_ratios": []}, "keep_ratios must be falling numbers"),
        ({"keep_ratios": 0.5}, "keep_ratios must be falling numbers"),
        ({"measure": "accuracy_dro"}, "did you mean 'accuracy_drop'?"),
        ({"holdout": [torch.rand(4, 1, 8, 8)]}, r"holdout must be batches of \(inputs, labels\)"),
    ],
)
def test_bad_arguments(trained, arguments, expected):
    net, sample, holdout = trained
    with pytest.raises(UserError, match=expected):
        experiment.prune_to(net, sample, arguments.pop("holdout", holdout), **arguments)
