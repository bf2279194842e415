"""Tighter bounds of single units: by hand, against exact laws, and how often they fail."""

import itertools
import math

import numpy
import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from test_run import launch, only_run
from torch import nn

import experiment
from experiment.allocation.bernstein import bernstein_error
from experiment.certification.binomial import binomial_error
from experiment.certification.calibrated_excess import calibrated_excess
from experiment.certification.certificates import Certificates
from experiment.certification.conformal import (
    confident_quantile,
    confident_rank,
    conformal_quantile,
    conformal_rank,
    fewest_images,
    largest_by_image,
)
from experiment.certification.envelope import worst_case
from experiment.certification.fresh_points import FreshPoints
from experiment.certification.pointwise import pointwise_error
from experiment.core.seeding import Stream
from experiment.main import main
from experiment.nets.layers import find_layers
from experiment.pruning.pruner import Pruner


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Conformal quantiles.


@pytest.mark.parametrize(
    ("num_images", "level", "rank"),
    [(19, 0.05, 19), (99, 0.05, 95), (72, 0.05, 70), (99, 0.29, 71), (1, 0.5, 1)],
)
def test_the_rank_is_the_ceiling_of_n_plus_1_times_1_minus_the_level(num_images, level, rank):
    assert conformal_rank(num_images, level) == rank
    scores = torch.arange(num_images, 0, -1.0)
    assert conformal_quantile(scores, level) == rank


def test_too_few_images_claim_nothing():
    assert conformal_quantile(torch.ones(3, 18), 0.05).tolist() == [math.inf] * 3
    assert fewest_images(0.05) == 19 and conformal_quantile(torch.ones(19), 0.05) == 1
    assert confident_quantile(torch.ones(58), 0.05, 0.95) == math.inf  # 0.95^58 is above 0.05
    assert fewest_images(0.05, confident=True) == 59
    assert confident_quantile(torch.ones(59), 0.05, 0.95) == 1


@pytest.mark.parametrize("rounded", [False, True])
def test_a_new_score_is_above_the_quantile_as_often_as_ranks_say(rounded):
    """28 of 31 ranks are covered; with ties at least so many."""
    scores = torch.empty(20_000, 31).log_normal_(generator=generator(1))
    scores = scores.round() if rounded else scores
    covered = scores[:, -1] <= conformal_quantile(scores[:, :-1], 0.1)
    error = 4 * math.sqrt(0.09 / len(scores))
    assert covered.double().mean() > 28 / 31 - error
    if not rounded:
        assert covered.double().mean() < 28 / 31 + error


def test_the_confident_quantile_is_too_small_as_rarely_as_promised():
    """Uniform scores: the share of new ones above a quantile is 1 minus it."""
    scores = torch.rand(20_000, 100, generator=generator(2), dtype=torch.float64)
    too_small = confident_quantile(scores, 0.1, 0.9) < 1 - 0.1
    exact = stats.binom.sf(confident_rank(100, 0.1, 0.9) - 1, 100, 0.9)
    assert exact <= 0.1
    assert float(too_small.double().mean()) == pytest.approx(exact, abs=0.01)
    # The marginal one is too small for about half of the calibration sets.
    assert (conformal_quantile(scores, 0.1) < 0.9).double().mean() > 0.3


def test_the_largest_value_of_each_image():
    values = torch.tensor([[1.0, 5, 2, 3], [-1, -5, -2, -3]])
    found = largest_by_image(values, torch.tensor([7, 2, 7, 2]))
    assert found.tolist() == [[5, 2], [-3, -1]]


def test_images_are_exchangeable_where_their_points_are_not():
    """20 points of an image share what it is like: counted as points, they would fail."""
    like = torch.randn(4000, 31, 1, generator=generator(3))
    points = like + 0.1 * torch.randn(4000, 31, 20, generator=generator(4))
    largest = points.amax(2)
    fails = largest[:, -1] > conformal_quantile(largest[:, :-1], 0.1)
    assert fails.double().mean() < 0.1 + 4 * math.sqrt(0.09 / 4000)


# The exact law of draws within an envelope.


def test_the_binomial_bound_by_hand():
    """N = 1 and M = 3: the information ln(40) is more than the largest divergence, ln 3."""
    assert binomial_error(numpy.ones(1), numpy.ones(1), 0.05, 3).tolist() == pytest.approx([2])
    # M = 2, KL(q || 1/2) = ln(40) / 1000: the error is 2 q - 1.
    error = binomial_error(numpy.ones(1), numpy.full(1, 1000), 0.05, 2)[0]
    share = (1 + error) / 2
    divergence = share * math.log(2 * share) + (1 - share) * math.log(2 * (1 - share))
    assert divergence == pytest.approx(math.log(40) / 1000)


def test_where_the_binomial_bound_says_nothing_or_all():
    total, draws = numpy.array([2.0, 0.3, 0.0]), numpy.array([0.0, 5, 5])
    assert binomial_error(total, draws, 0.05, 3).tolist() == pytest.approx([math.inf, 0, 0])
    assert binomial_error(total, draws, 2.5, 3).tolist() == [math.inf] * 3


@given(st.floats(1, 1000), st.integers(1, 10**6), st.floats(-20, -0.1).map(lambda power: 10**power))
def test_the_binomial_bound_is_never_wider_than_bernsteins(total, draws, failure):
    arguments = numpy.array([total]), numpy.array([float(draws)]), failure
    assert binomial_error(*arguments, 3) <= bernstein_error(*arguments) * (1 + 1e-9)


@pytest.mark.parametrize("largest", [2, 3, 12])
@pytest.mark.parametrize("draws", [1, 7, 60, 1000])
@pytest.mark.parametrize("failure", [0.3, 0.05, 1e-4, 1e-12])
def test_the_worst_law_within_the_envelope_exceeds_the_bound_rarely_enough(largest, draws, failure):
    """X is M with probability 1 / M: what the bound is made for, and nearly attains."""
    error = binomial_error(numpy.full(1, largest / 3), numpy.full(1, draws), failure, 3)[0]
    law = stats.binom(draws, 1 / largest)
    means = largest * numpy.arange(draws + 1) / draws
    exceeding = numpy.abs(means - 1) > error * (1 + 1e-12)
    assert law.pmf(numpy.arange(draws + 1))[exceeding].sum() <= failure


# Points with known contributions.


def brute_force(contributions, probabilities, draws) -> tuple[numpy.ndarray, numpy.ndarray]:
    """All values of |z_hat / z - 1| and their probabilities."""
    values, masses = [], []
    for counts in itertools.product(range(draws + 1), repeat=len(contributions)):
        if sum(counts) == draws:
            mean = (numpy.array(counts) * contributions / probabilities).sum() / draws
            values.append(abs(mean - 1))
            masses.append(stats.multinomial.pmf(counts, draws, probabilities))
    return numpy.array(values), numpy.array(masses)


UNITS = [
    ([0.7, 0.2, 0.1], [0.5, 0.3, 0.2]),
    ([0.05, 0.05, 0.9], [0.4, 0.4, 0.2]),
    ([0.3, 0.3, 0.4], [0.3, 0.3, 0.4]),
    ([0.0, 0.5, 0.5], [0.6, 0.2, 0.2]),
]


@pytest.mark.parametrize(("contributions", "probabilities"), UNITS)
@pytest.mark.parametrize("draws", [1, 4, 25])
@pytest.mark.parametrize("failure", [0.5, 0.05, 1e-3, 1e-16])
def test_the_pointwise_bound_against_the_exact_law(contributions, probabilities, draws, failure):
    g, p = numpy.array(contributions), numpy.array(probabilities)
    bound = float(
        pointwise_error(torch.tensor(g), torch.tensor(p), torch.tensor(float(draws)), failure)
    )
    values, masses = brute_force(g, p, draws)
    assert masses.sum() == pytest.approx(1)
    assert masses[values > bound + 1e-12].sum() <= failure
    assert bound <= numpy.abs(g / p - 1).max() + 1e-12  # what can happen at all
    # Not wider than Bernstein's, with the variance and the range at this point.
    variance, largest = (p * (g / p - 1) ** 2).sum(), numpy.abs(g / p - 1).max()
    slope = largest * math.log(2 / failure) / draws / 3
    bernstein = slope + math.sqrt(slope**2 + 2 * variance * math.log(2 / failure) / draws)
    assert bound <= bernstein + 1e-12


@pytest.mark.parametrize("draws", [20, 400])
def test_the_coarse_search_finds_nearly_the_best_exponent(draws):
    rng = numpy.random.default_rng(0)
    for _ in range(20):
        g, p = rng.dirichlet(numpy.full(30, 0.5)), rng.dirichlet(numpy.full(30, 2.0))
        information = math.log(2 / 1e-3) / draws

        def side(sign, g=g, p=p, information=information):
            def error(log_t):
                t = math.exp(log_t)
                deviation = sign * (g / p - 1)
                return (numpy.logaddexp.reduce(numpy.log(p) + t * deviation) + information) / t

            grid = numpy.linspace(-10, 10, 400)
            start = grid[numpy.argmin([error(log_t) for log_t in grid])]
            return optimize.minimize_scalar(error, bracket=(start - 0.1, start + 0.1)).fun

        best = max(min(side(sign), (sign * (g / p - 1)).max()) for sign in (1, -1))
        found = pointwise_error(torch.tensor(g), torch.tensor(p), torch.tensor(draws), 1e-3)
        assert best * (1 - 1e-9) <= float(found) <= best * 1.03


def test_pointwise_bounds_of_many_units_at_once():
    g = torch.tensor([[[0.7, 0.2, 0.1], [0.05, 0.05, 0.9]], [[0.3, 0.3, 0.4], [1.0, 0, 0]]])
    p = torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.3, 0.4]])
    draws = torch.tensor([4.0, 25])
    together = pointwise_error(g, p[:, None], draws[:, None], 0.05)
    for unit, point in itertools.product(range(2), range(2)):
        alone = pointwise_error(g[unit, point], p[unit], draws[unit], 0.05)
        assert together[unit, point] == pytest.approx(float(alone), rel=1e-5)
    assert together[1, 0] == pytest.approx(0, abs=1e-6)  # every draw gives 1


# The worst case within an envelope.


def test_the_worst_case_by_hand():
    factors = torch.tensor([[0.0, 1, 3], [0, 1, 1], [0, 0, 0]], dtype=torch.float64)
    capacities = torch.tensor([[0.3, 0.9, 0.2], [0.4, 0.7, 0.2], [0.5, 0.3, 0.1]]).double()
    own = torch.ones(3, 3, dtype=torch.bool)
    # 0.2 x 2 above and 0.3 below; the dropped 0.4; an envelope that no point can lie in.
    assert worst_case(factors, own, capacities).tolist() == pytest.approx([0.4, 0.4, 0])
    excess = torch.tensor([0.25, 0.25, 0.2]).double()
    assert worst_case(factors, own, capacities, excess).tolist() == pytest.approx([0.9, 0.65, 1])
    unknown = torch.full((3,), torch.inf).double()
    assert worst_case(factors, own, capacities, unknown).tolist() == pytest.approx([2, 1, 1])
    first = torch.tensor([True, True, False]).expand(3, 3)  # the factor 3 is another unit's
    assert worst_case(factors, first, capacities).tolist() == pytest.approx([0.3, 0.4, 0])


@pytest.mark.parametrize("seed", range(20))
def test_the_worst_case_is_the_solution_of_the_linear_program(seed):
    rng = numpy.random.default_rng(seed)
    size = 8
    factors, limits = rng.gamma(1, 1.5, size) - 0.3, rng.uniform(0, 0.4, size)
    excess = rng.choice([0, 0.1, 0.6])
    # Over g and the excess of each weight: g <= c + x, sum x <= excess, sum g = 1.
    above = numpy.vstack(
        [
            numpy.hstack([numpy.eye(size), -numpy.eye(size)]),
            numpy.append(numpy.zeros(size), numpy.ones(size)),
        ]
    )
    best = [
        optimize.linprog(
            numpy.append(-sign * (factors - 1), numpy.zeros(size)),
            A_ub=above,
            b_ub=numpy.append(limits, excess),
            A_eq=numpy.append(numpy.ones(size), numpy.zeros(size))[None],
            b_eq=[1],
        )
        for sign in (1, -1)
    ]
    expected = max(0, *(-one.fun for one in best)) if best[0].success else 0
    found = worst_case(
        torch.tensor(factors)[None],
        torch.ones(1, size, dtype=torch.bool),
        torch.tensor(limits)[None],
        torch.tensor([excess], dtype=torch.float64),
    )
    assert float(found) == pytest.approx(expected, abs=1e-7)


# On nets.


def heavy_tailed(count: int, seed: int) -> torch.Tensor:
    return torch.empty(count, 6).log_normal_(0, 2, generator=generator(seed))


def linear_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(6, 3)


def test_few_contributions_are_above_the_largest_of_n_exchangeable_ones():
    """The sensitivity is the largest of 9: a tenth is above it, whatever the distribution."""
    net, shares = linear_net(), []
    for seed in range(150):
        certificates = Certificates(Pruner(net, [heavy_tailed(9, seed)]).analysis)
        layers = certificates.analysis.layers
        fresh = FreshPoints(net, [heavy_tailed(40, 1000 + seed)], layers, 1, Stream(0))
        pairs = fresh.pairs(certificates, "", 1.0)
        shares.append(pairs.beyond / pairs.contributions)
    assert numpy.mean(shares) == pytest.approx(0.1, abs=4 * numpy.std(shares) / math.sqrt(150))


def test_the_excess_of_a_new_image_is_within_the_calibrated_one():
    net, shares = linear_net(), []
    certificates = Certificates(Pruner(net, [heavy_tailed(9, 5)]).analysis)
    for seed in range(150):
        points = [
            FreshPoints(net, [heavy_tailed(count, one)], certificates.analysis.layers, 1, Stream(0))
            for count, one in ((19, 2000 + seed), (40, 3000 + seed))
        ]
        limit = calibrated_excess(certificates, points[0], 0.1)[""]
        found = points[1].excess(certificates, 1.0, "")
        shares.append(float((found > limit.t()[:, :, None]).double().mean()))
    # 2 of 20 ranks are above, or fewer where units have no excess at all.
    assert numpy.mean(shares) <= 0.1 + 4 * numpy.std(shares) / math.sqrt(150)
    assert numpy.mean(shares) > 0.02


def test_excess_by_hand():
    """Sensitivities 1/2, 1/2; at (3, 1) the contributions are 3/4 and 1/4."""
    net = nn.Linear(2, 1, bias=False)
    nn.init.ones_(net.weight)
    certificates = Certificates(Pruner(net, [torch.ones(1, 2)]).analysis)
    points = FreshPoints(
        net, [torch.tensor([[3.0, 1], [1, 1]])], certificates.analysis.layers, 1, Stream(0)
    )
    excess = points.excess(certificates, 1.0, "")
    assert excess[0].tolist()[0] == pytest.approx([0.25, 0], abs=1e-8)
    assert excess[1].tolist()[0] == [0, 0]  # there are no negative weights
    assert points.excess(certificates, 1.5, "").abs().max() < 1e-8


def images_of(seed: int, count: int) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=generator(seed))


@pytest.mark.parametrize("method", ["SiPP", "SiPPRand", "SiPPHybrid", "WT", "L1Sampling"])
def test_all_bounds_hold_as_often_as_they_claim(small_net, method):
    table = experiment.certify(
        small_net,
        [images_of(5, 24)],
        [images_of(6, 60)],
        method=method,
        keep_ratio=0.4,
        calibration=[images_of(7, 30), images_of(8, 29)],
        level=0.1,
    )
    assert set(table["layer"]) == {"conv1", "conv2", "fc"}
    sure = table[table["constant"].notna() | table["of_sample"]]
    rare = sure["level"] < 1e-6
    assert sure.loc[rare, "exceeding"].sum() == 0 and sure.loc[rare, "pairs"].sum() > 0
    assert sure["pairs_beyond"].sum() > 0
    by_calibration = table[table["subject"].ne("point")]
    total = by_calibration.groupby("bound")[["pairs", "exceeding"]].sum()
    # Units share calibration images, so that the shares spread around what is promised for them.
    assert (total["exceeding"] / total["pairs"] < 0.2).all()
    assert set(total.index) == {
        "worst case, calibrated",
        "conformal, unit",
        "conformal, unit, confident",
        "conformal, layer",
    }
    assert table["bound"].str.startswith("Bernstein").any() == (method != "L1Sampling")
    assert table["certified_max"].lt(math.inf).all()


def test_better_bounds_are_never_wider(small_net):
    table = experiment.certify(
        small_net,
        [images_of(5, 24)],
        [images_of(6, 20)],
        method="SiPPRand",
        keep_ratio=0.5,
        calibration=[images_of(7, 40)],
    )
    p95 = table.pivot(index="layer", columns="bound", values="certified_p95")
    slack = 1 + 1e-9
    chain = ["binomial, C = 1", "binomial, C = 1.5", "binomial, C = 3", "Bernstein (paper)"]
    chain = [name if "paper" in name else f"{name}, failure 1e-16" for name in chain]
    for better, worse in itertools.pairwise(chain):
        assert (p95[better] <= p95[worse] * slack).all(), better
    assert (p95["worst case, C = 1"] <= p95["worst case, C = 3"] * slack).all()
    assert (p95["conformal, unit"] <= p95["conformal, layer"] * slack).all()
    assert (p95["conformal, unit"] <= p95["conformal, unit, confident"] * slack).all()
    assert (p95["binomial, C = 3, failure 0.05"] < p95["Bernstein (paper)"]).all()


def test_points_know_their_images():
    conv = nn.Conv2d(3, 2, 3)
    batches = [torch.full((2, 3, 5, 5), 1.0), torch.full((1, 3, 5, 5), 2.0)]
    layers = find_layers(conv, batches).prunable
    points = FreshPoints(conv, batches, layers, 4, Stream(0))
    assert points.images[""].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert points.points[""][0, 0].tolist() == [1] * 8 + [2] * 4
    assert points.num_images == 3
    # With negative inputs, each image has the points of both parts.
    points = FreshPoints(conv, [-batches[0], batches[1]], layers, 4, Stream(0))
    assert points.images[""].bincount().tolist() == [8, 8, 4]


class Pairs(nn.Module):
    """Three rows for two samples: of none is known whose it is."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.last = nn.Linear(4, 1)

    def forward(self, x):
        return self.last(x) + self.layer(torch.cat([x, x[:1]])).sum()


def test_rows_of_unknown_images_have_no_bounds_by_calibration():
    net, samples = Pairs(), torch.rand(2, 4, generator=generator(0))
    fresh = FreshPoints(net, [samples], find_layers(net, [samples]).prunable, 1, Stream(0))
    assert fresh.layers_with_images == ["last"]
    table = experiment.certify(
        net, [samples], [samples], keep_ratio=0.6, calibration=[samples], level=0.5
    )
    assert set(table.loc[table["subject"].eq("point"), "layer"]) == {"layer", "last"}
    assert set(table.loc[table["subject"].ne("point"), "layer"]) == {"last"}


@pytest.mark.parametrize("level", [0, 1, "x", -0.1])
def test_a_level_is_a_share(small_net, level):
    with pytest.raises(experiment.UserError, match="level must be a number between 0 and 1"):
        experiment.certify(
            small_net, [images_of(1, 2)], [images_of(2, 2)], keep_ratio=0.5, level=level
        )


# The command.


def test_the_command_writes_and_shows_bounds(small_config, tmp_path, capsys):
    settings = "--set pruning.schedule=oneshot --set pruning.retrain_count=0".split() + [
        "--set",
        "pruning.methods=[SiPPRand]",
    ]
    assert launch(small_config, tmp_path / "r", *settings) == 0
    arguments = [str(small_config), "--results", str(tmp_path / "r"), "--device", "cpu", *settings]
    assert main([*arguments, "--fresh", "30", "--bounds"], "guarantee") == 0
    printed = capsys.readouterr().out
    assert "conformal, unit" in printed and "certified/measured" in printed
    directory = only_run(tmp_path / "r")
    assert (directory / "guarantee-30x8.csv").exists()
    table = pandas.read_csv(directory / "bounds-30x8.csv")
    assert len(table) == 2 * 14 * 5  # ratios, bounds, layers
    assert set(table["calibration_images"]) == {30}
    conformal = table[table["bound"].eq("conformal, unit")]
    assert conformal["certified_max"].lt(math.inf).all() and (conformal["level"] == 0.05).all()
    # 59 images would be needed for the confident ones.
    confident = table[table["bound"].eq("conformal, unit, confident")]
    assert confident["certified_max"].eq(math.inf).all()
    assert main([*arguments, "--bounds", "--share", "1.5"], "guarantee") == 2
    assert "--share and --confidence must be between 0 and 1" in capsys.readouterr().err
