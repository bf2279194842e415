"""Budgets of units, draws, and the methods that sample."""

import math

import numpy
import pytest
import scipy.optimize
import torch
from torch import nn

import experiment
from experiment.allocation.bernstein import bernstein_error
from experiment.allocation.optimal import allocate
from experiment.allocation.sampling import Appearances, draw_counts, draws_needed, first_appearances
from experiment.allocation.units import channel_groups, signed_weights
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.nets.layers import PrunableLayer
from experiment.pruning.analysis import Analysis
from experiment.pruning.prune import named_method
from experiment.pruning.pruner import Pruner
from experiment.pruning.unit_sampling import Sampler
from experiment.pruning.weight_units import sensitivity_units


def units_of(importance, negative=None, filters=1, patches=1, kernel_size=1):
    """The units of the weights of one layer."""
    importance = numpy.asarray(importance, dtype=float).reshape(-1)
    if negative is None:
        negative = numpy.zeros(len(importance), dtype=bool)
    inputs = len(importance) // filters // kernel_size
    layer = PrunableLayer(
        name="layer",
        parameter="layer.weight",
        kind="Conv1d",
        shape=torch.Size([filters, inputs, kernel_size]),
        transposed=False,
        num_patches=patches,
        num_outputs=1,
        flops=1,
    )
    return signed_weights(importance, numpy.asarray(negative).reshape(-1), [layer], delta=1e-16)


def random_instance(seed, size):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.exp(6 * torch.rand(size, generator=generator, dtype=torch.float64) - 2)
    importance = 1 / torch.randint(1, 64, (size,), generator=generator).double()
    capacity = torch.randint(1, 200, (size,), generator=generator).double()
    return scale, importance, capacity


@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_allocation_agrees_with_a_generic_convex_solver(seed, share):
    scale, importance, capacity = random_instance(seed, 12)
    budget = share * float(capacity.sum())
    ours = allocate(scale, importance, capacity, budget)

    def relative_error(kept):
        return 3 / ((1 + 6 * kept.clamp(min=1e-12) / scale).sqrt() - 1)

    def objective(kept):
        return float((importance * relative_error(torch.from_numpy(kept))).sum())

    def gradient(kept):
        s = (1 + 6 * torch.from_numpy(kept).clamp(min=1e-12) / scale).sqrt()
        return (-9 * importance / (scale * s * (s - 1) ** 2)).numpy()

    start = numpy.minimum(capacity.numpy() * share, capacity.numpy())
    solved = scipy.optimize.minimize(
        objective,
        start,
        jac=gradient,
        method="SLSQP",
        bounds=[(1e-6, float(n)) for n in capacity],
        constraints={
            "type": "ineq",
            "fun": lambda kept: budget - kept.sum(),
            "jac": lambda kept: -numpy.ones(12),
        },
        options={"ftol": 1e-14, "maxiter": 2000},
    )
    assert float(ours.sum()) == pytest.approx(budget, rel=1e-9)
    assert (ours <= capacity + 1e-9).all() and (ours > 0).all()
    # The solver may stop early, or violate its constraints by a rounding error: ours must be no
    # worse, and no different.
    assert objective(ours.numpy()) <= solved.fun * (1 + 1e-6)
    assert objective(ours.numpy()) == pytest.approx(solved.fun, rel=1e-6)


@pytest.mark.parametrize("share", [1e-4, 0.5, 0.999])
def test_allocation_meets_the_optimality_conditions_at_size(share):
    scale, importance, capacity = random_instance(5, 20_000)
    kept = allocate(scale, importance, capacity, share * float(capacity.sum()))
    s = (1 + 6 * kept / scale).sqrt()
    slope = 9 * importance / (scale * s * (s - 1) ** 2)
    free = kept < capacity
    assert float(slope[free].max() / slope[free].min()) == pytest.approx(1, abs=1e-6)
    assert not (~free).any() or slope[~free].min() >= slope[free].max() * (1 - 1e-6)


def test_allocation_at_the_edges():
    scale, importance, capacity = (
        torch.tensor([2.0, 0.0, 1.0]),
        torch.ones(3),
        torch.tensor([4.0, 5.0, 6.0]),
    )
    assert allocate(scale, importance, capacity, 100).tolist() == [4, 0, 6]
    assert allocate(scale, importance, capacity, 0).tolist() == [0, 0, 0]
    assert allocate(scale, importance, capacity, 5)[1] == 0
    assert allocate(
        torch.ones(4), torch.ones(4), torch.full((4,), 9.0), 6
    ).tolist() == pytest.approx([1.5] * 4)


def test_scale_and_certificate_by_hand():
    units = units_of([[0.5, 0.25, 0.25], [0.1, 0.2, 0.0]], filters=2, patches=15, kernel_size=3)
    assert units.total.tolist() == pytest.approx([1.0, 0, 0.3, 0])
    assert units.capacity.tolist() == [3, 0, 2, 0]
    # alpha / 3 = 2 * 3 * T * ln(8 * 16 * 3 / 1e-16) / 3
    assert units.allocation_scale[0] == pytest.approx(2 * math.log(8 * 16 * 3 / 1e-16))
    assert units.error_weight.tolist() == [0.5] * 4
    # b = 3 * 1 * ln(2 / (2 / e)) / 3 = 1; e(4) = 6 / (sqrt(25) - 1)
    total = numpy.array([1.0])
    assert bernstein_error(total, numpy.array([4.0]), 2 / math.e)[0] == pytest.approx(1.5)
    assert bernstein_error(total, numpy.array([0.0]), 0.1)[0] == math.inf


def test_units_of_channels_by_hand():
    """Two groups of 3 and 2 channels: one unit each, with the mathematics of weights."""
    units = channel_groups(numpy.array([3.0, 1, 0, 1, 3]), [3, 2], [15, 1], [9, 1], delta=1e-16)
    assert units.num_units == 2 and units.unit.tolist() == [0, 0, 0, 1, 1]
    assert units.total.tolist() == [4, 4] and units.capacity.tolist() == [2, 2]
    assert units.probability.tolist() == [0.75, 0.25, 0, 0.25, 0.75]
    assert units.rank.tolist() == [0, 1, 2, 1, 0]
    alpha = [24 * math.log(8 * 16 * 9 / 1e-16), 24 * math.log(8 * 2 / 1e-16)]
    assert units.alpha.tolist() == pytest.approx(alpha)


def test_draws_of_units_follow_each_other():
    """Each layer and each group has its own items, rows and draws, in the order of the units."""
    units = channel_groups(numpy.array([1.0, 1, 0, 2, 0]), [3, 2], [1, 1], [1, 1], delta=0.1)
    first = first_appearances(units, numpy.random.default_rng(0))
    assert min(first[:2]) == 1 and first[2] == math.inf and first[3:].tolist() == [1, math.inf]
    counts = draw_counts(units, first, numpy.array([7.0, 5.0]), numpy.random.default_rng(1))
    assert counts[:2].sum() == 7 and counts[2:].tolist() == [0, 5, 0]


def test_unused_rows_of_random_numbers_only_move_the_stream():
    units = channel_groups(numpy.array([1.0, 2, 3]), [3], [1], [1], delta=0.1)
    one_row, two_rows = numpy.random.default_rng(0), numpy.random.default_rng(0)
    exponential, uniform = two_rows.exponential(size=(2, 3))[:1], 1 - two_rows.random((2, 3))[:1]
    race = numpy.argsort(exponential / units.probability)[0]
    found = first_appearances(units, numpy.random.default_rng(0), unused_rows=1)
    assert numpy.argsort(found).tolist() == race.tolist() and found[race[0]] == 1
    unseen = 1 - units.probability[race[0]]
    assert found[race[1]] == 2 + numpy.floor(numpy.log(uniform[0, 1]) / numpy.log(1 - unseen))
    assert not numpy.array_equal(found, first_appearances(units, one_row))


def test_ranks_break_ties_by_index():
    assert units_of([0.2, 0.5, 0.2, 0.5]).rank.tolist() == [2, 0, 3, 1]
    assert units_of([0.2, 0.5, 0.2, 0.5], negative=[True, False, True, True]).rank.tolist() == [
        1,
        0,
        2,
        0,
    ]


@pytest.mark.parametrize("kept", [0.3, 1, 2.7, 3.9])
def test_draws_are_the_fewest_that_are_expected_to_find_so_many(kept):
    units = units_of([0.7, 0.2, 0.09, 0.01])
    draws = draws_needed(units, numpy.array([kept, 0.0]))[0]

    def expected(number):
        return (1 - (1 - units.probability) ** number).sum()

    assert (
        draws == int(draws)
        and expected(draws) >= kept - 1e-9
        and (draws == 0 or expected(draws - 1) < kept)
    )


def test_draws_by_hand():
    uniform = units_of([1.0] * 4)  # expected after N draws: 4 (1 - 0.75^N) = 1, 1.75, 2.3125
    assert [draws_needed(uniform, numpy.array([m, 0.0]))[0] for m in (1, 1.75, 1.76, 2.3)] == [
        1,
        2,
        3,
        3,
    ]
    assert draws_needed(units_of([1.0, 0.0]), numpy.array([0.4, 0.0]))[0] == 1


def slow_draws(probability, kept):
    """The smallest N, by doubling and halving, with which `kept` items are expected."""

    def is_enough(number):
        found = -numpy.expm1(number * numpy.log1p(-probability))
        return found.sum() >= kept * (1 - 1e-12)

    low, high = 0, 1
    while not is_enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


@pytest.mark.parametrize("seed", range(3))
def test_draws_of_many_units_agree_with_a_search_one_unit_at_a_time(seed):
    random = numpy.random.default_rng(seed)
    importance = random.random((12, 40)) ** random.integers(1, 4, (12, 1))
    importance[random.random((12, 40)) < 0.2] = 0
    units = units_of(importance, negative=random.random((12, 40)) < 0.4, filters=12)
    kept = random.random(24) * numpy.maximum(units.capacity - 0.5, 0)
    kept[random.random(24) < 0.2] = 0
    draws = draws_needed(units, kept)
    for unit in range(24):
        probability = units.probability[units.unit == unit]
        expected = slow_draws(probability, kept[unit]) if kept[unit] > 0 else 0
        assert draws[unit] == expected


def test_units_with_vanishing_probabilities_stay_as_they_are():
    sampler = Sampler(units_of([1.0, 1e-22, 1e-22]), Stream(0))
    draws = sampler.draws(numpy.array([2.4, 0.0]))
    assert draws[0] == numpy.inf and (sampler.factors(draws) == 1).all()


def simulate(units, draws, runs, seed=0):
    """counts of a single unit in many independent runs, [runs, weights]."""
    random = numpy.random.default_rng(seed)
    rows = []
    for _ in range(runs):
        first = first_appearances(units, random)
        rows.append(draw_counts(units, first, draws, random))
        assert ((rows[-1] > 0) == (first <= draws[units.unit])).all()
    return numpy.array(rows)


def test_counts_are_multinomial():
    probability = numpy.array([0.55, 0.3, 0.1, 0.05])
    number, runs = 7, 6000
    drawn = simulate(units_of(probability), numpy.array([number, 0.0]), runs)
    assert (drawn.sum(1) == number).all()
    error = numpy.sqrt(number * probability * (1 - probability) / runs)
    assert (numpy.abs(drawn.mean(0) - number * probability) < 4 * error).all()
    covariance = number * (numpy.diag(probability) - numpy.outer(probability, probability))
    assert numpy.abs(numpy.cov(drawn.T) - covariance).max() < 0.1
    missing = (drawn == 0).mean(0)
    assert missing == pytest.approx((1 - probability) ** number, abs=4 * 0.5 / math.sqrt(runs))
    # not only the margins: how often exactly (4, 2, 1, 0) comes
    share = (drawn == [4, 2, 1, 0]).all(1).mean()
    exact = 105 * 0.55**4 * 0.3**2 * 0.1
    assert share == pytest.approx(exact, abs=4 * math.sqrt(exact / runs))


def test_more_draws_never_lose_a_weight():
    first = first_appearances(units_of(numpy.geomspace(1, 1e-6, 50)), numpy.random.default_rng(0))
    assert sorted(first)[0] == 1 and len(set(first)) == 50 and numpy.isfinite(first).all()


def test_the_bernstein_certificate_holds_in_simulation():
    """With failure probability 0.1, at most a tenth of the samples may err by e(N) or more."""
    random = numpy.random.default_rng(3)
    weights, point = random.exponential(size=30), random.exponential(size=30)
    contributions = weights * point / (weights @ point)
    sensitivities = contributions * random.uniform(1 / 3, 1, 30)  # g <= C s with C = 3
    units = units_of(sensitivities)
    for number in (20, 200):
        drawn = simulate(units, numpy.array([number, 0.0]), 1500, seed=number)
        estimates = (drawn / (number * units.probability) * contributions).sum(1)
        bound = bernstein_error(units.total, numpy.array([number, 0.0]), 0.1)[0]
        assert (numpy.abs(estimates - 1) >= bound).mean() <= 0.1
        assert estimates.mean() == pytest.approx(1, abs=5 * estimates.std() / math.sqrt(1500))


@pytest.fixture
def wide():
    """A net with units large enough that the hybrid samples some of them, and data for it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(400, 6), nn.ReLU(), nn.Linear(6, 3)), torch.rand(16, 400)


@pytest.mark.parametrize("method", ["SiPPRand", "SiPPHybrid"])
def test_sampled_weights_average_to_the_originals(wide, method):
    net, inputs = wide
    analysis, runs = Analysis(net, [inputs], delta=0.1), 600  # so that the hybrid samples, too
    original, units = analysis.flat.weights(net).double(), sensitivity_units(analysis)
    ratios = []
    for run in range(runs):
        prepared = METHODS.build(method, {}).prepare(analysis, Stream(run))
        decision = prepared.decide(prepared.choose(1500))
        ratios.append(torch.where(decision.kept, decision.factors.double(), 0))
    sampled = numpy.isfinite(decision.draws)[units.unit] & (units.importance > 0)
    sampled = torch.from_numpy(sampled)
    assert sampled.sum() > 1000 and (original[sampled] != 0).all()
    ratios = torch.stack(ratios)[:, sampled]  # of the new to the original weight
    # The estimate of each weight has variance (1 / p - 1) / N: compare means in terms of it.
    draws = decision.draws[units.unit][sampled]
    probability = units.probability[sampled]
    error = (ratios.mean(0).numpy() - 1) / numpy.sqrt((1 / probability - 1) / draws / runs)
    assert abs(error.mean()) < 0.15 and 0.9 < error.std() < 1.1 and abs(error).max() < 6


@pytest.mark.parametrize("method", ["SiPPRand", "SiPPHybrid"])
def test_sampling_is_a_function_of_the_seed(wide, method):
    net, inputs = wide
    one, again, other = (
        experiment.prune(net, [inputs], method=method, keep_ratio=0.5, seed=seed, delta=0.1)
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(one.masks[name], again.masks[name]) for name in one.masks)
    assert torch.equal(one.net[0].weight, again.net[0].weight)
    assert any(not torch.equal(one.masks[name], other.masks[name]) for name in one.masks)


def test_units_stay_as_they_are_where_all_is_kept():
    torch.manual_seed(0)
    net = nn.Linear(20, 4)
    pruned = experiment.prune(net, [torch.rand(5, 20)], method="SiPPRand", keep_ratio=1.0)
    assert torch.equal(pruned.net.weight, net.weight) and pruned.keep_ratio == 1


@pytest.mark.parametrize("method", ["SiPPRand", "SiPPHybrid"])
def test_weights_without_importance_fill_what_is_left_of_the_budget(method):
    torch.manual_seed(0)
    net, images = nn.Linear(10, 4), torch.rand(5, 10)
    images[:, 5:] = 0  # half of the inputs are always 0
    for keep_ratio, count in ((1.0, 44), (0.75, 33)):
        pruned = experiment.prune(net, [images], method=method, keep_ratio=keep_ratio)
        assert sum(int(mask.sum()) for mask in pruned.masks.values()) == count
        assert pruned.masks["weight"][:, :5].all()


@pytest.mark.parametrize("method", ["SiPP", "SiPPRand", "SiPPHybrid"])
@pytest.mark.parametrize("name", ["resnet20", "lenet300_100"])
def test_the_keep_ratio_is_met(name, method):
    torch.manual_seed(0)
    shape = (3, 16, 16) if name == "resnet20" else (1, 28, 28)
    net = experiment.build_network(name, input_shape=shape, num_classes=10)
    pruner = Pruner(net, [torch.rand(8 if name == "resnet20" else 64, *shape)])
    for keep_ratio in (0.9, 0.5, 0.1, 0.02):
        pruned = pruner.prune(named_method(method), keep_ratio, Stream(0))
        assert pruned.keep_ratio == pytest.approx(keep_ratio, rel=0.005), pruned.note


def test_compact_appearances_are_exact():
    inf = numpy.inf
    values = numpy.array([1, 2**24 + 1, inf, 2**32 - 2, 2**32 - 1, 2**32, 3e15 + 1, inf, 7])
    blocks = [values[:4].copy(), values[4:].copy()]
    compact = Appearances.of(blocks, len(values))
    for start in range(len(values)):
        for stop in range(start, len(values) + 1):
            numpy.testing.assert_array_equal(compact[start:stop], values[start:stop])


def test_units_are_the_same_in_parts_of_any_size(monkeypatch):
    """Weights of both signs, of two layers, in parts of one output."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    batches = [torch.rand(6, 7)]
    results = []
    for size in (2**18, 1):
        monkeypatch.setattr("experiment.allocation.units.ITEMS_AT_ONCE", size)
        pruned = experiment.prune(net, batches, method="SiPPRand", keep_ratio=0.6)
        results.append(pruned.net.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
