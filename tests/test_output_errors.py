"""What is certified about outputs: by hand, by simulation, and by the command."""

import functools
import math

import numpy
import pandas
import pytest
import torch
from scipy import optimize, stats
from torch import nn

import experiment
from experiment.certification import conformal, holdout_tests
from experiment.certification.holdout_tests import disagreement_p_value as binomial_p_value
from experiment.certification.holdout_tests import p_value, upper_bound
from experiment.certification.output_errors import (
    QUANTITIES,
    certified,
    compare,
    relative_error,
    total_variation,
)
from experiment.core.errors import UserError
from experiment.main import main
from experiment.runs.guarantees.outputs import summary

REPETITIONS = 1_000


def test_errors_by_hand():
    before = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    after = torch.tensor([[3.0, 3.0], [0.0, 0.0], [-1.0, 0.0]])
    assert relative_error(before, after).tolist() == pytest.approx([0.2, 0.0, 2.0])
    high = 1 / (1 + math.exp(-1))
    assert total_variation(before, after).tolist() == pytest.approx(
        [high - 0.5, 0.0, 2 * high - 1], abs=1e-7
    )
    assert relative_error(torch.zeros(1, 2), torch.ones(1, 2)).item() == math.inf


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_as_wrong_as_can_be(broken):
    before, after = torch.ones(1, 2), torch.tensor([[1.0, broken]])
    assert relative_error(before, after).item() == math.inf
    assert total_variation(before, after).item() == 1.0


def images_with_errors(errors: list[float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits before and after of images with these relative errors, of which no class changes."""
    before = torch.tensor([[1.0, 0.0]]).double().repeat(len(errors), 1)
    after = before * (1 + torch.tensor(errors).double()[:, None])
    return before, after, torch.zeros(len(errors), dtype=torch.long)


def test_the_order_statistic_by_hand():
    """0.95^58 > 0.05 >= 0.95^59: with 59 images the largest error is the bound, with 58 none is."""
    rising = [0.01 * number for number in range(1, 60)]
    bounds = certified(*images_with_errors(rising), share=0.05, confidence=0.95)
    assert bounds["relative_error"] == pytest.approx(0.59)
    bounds = certified(*images_with_errors(rising[:58]), share=0.05, confidence=0.95)
    assert bounds["relative_error"] == math.inf
    # P(Bin(93, 0.05) <= 1) = 0.0500; so with 93 images the second largest is.
    assert stats.binom.cdf(1, 93, 0.05) <= 0.05 < stats.binom.cdf(1, 92, 0.05)
    more = [0.001 * number for number in range(1, 94)]
    bounds = certified(*images_with_errors(more), share=0.05, confidence=0.95)
    assert bounds["relative_error"] == pytest.approx(0.092)


def test_outputs_that_are_no_numbers_have_the_largest_errors():
    """An error of zero would certify a net that gives NaN."""
    before = torch.tensor([[3.0, 4.0], [math.inf, 0.0], [-math.inf, 0.0]])
    after = torch.tensor([[math.nan, 4.0], [math.inf, 0.0], [-math.inf, 0.0]])
    assert relative_error(before, after).tolist() == [math.inf] * 3
    assert total_variation(before, after).tolist() == [1.0, 1.0, 0.0]


def test_bounds_hold_for_images_sorted_by_class():
    """The pruned net is better on the first class and worse on the second, by 5 points in all.

    Bets on images in the order of their classes would win on the first and claim too much.
    """
    first = torch.tensor([[0, 0, 0]] * 270 + [[0, 1, 0]] * 30)  # label, before, after
    second = torch.tensor([[1, 1, 1]] * 240 + [[1, 1, 0]] * 60)
    images = torch.cat([first, second])
    labels, classes = images[:, 0], images[:, 1:].float()
    net, pruned = LooksUp(0), LooksUp(1)
    table = experiment.certify_outputs(net, pruned, [(classes, labels)]).set_index("quantity")
    assert table.loc["accuracy_drop", "certified"] > 0.05


class LooksUp(nn.Module):
    """A net of two classes whose inputs are its predictions: those in one of the columns."""

    def __init__(self, column: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.column = column

    def forward(self, classes):
        right = classes[:, self.column]
        return self.scale * torch.stack([1 - right, right], 1)


@pytest.mark.parametrize("changed", [0, 3, 100])
def test_the_bound_of_a_share_is_that_of_clopper_and_pearson(changed):
    found = numpy.array([1] * changed + [0] * (100 - changed))
    expected = 1.0 if changed == 100 else stats.beta.ppf(0.95, changed + 1, 100 - changed)
    assert upper_bound("disagreement", found, 0.95) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_every_limit_above_the_bound_of_a_drop_passes(seed):
    random = numpy.random.default_rng(seed)
    drops = random.choice([-1, 0, 1], size=200, p=[0.05, 0.85, 0.1])
    bound = upper_bound("accuracy_drop", drops, 0.95)
    limits = numpy.linspace(0.001, 0.999, 300)
    passes = [p_value("accuracy_drop", drops, limit, 0.95) <= 0.05 for limit in limits]
    assert passes == [limit >= bound for limit in limits]


def relative_error_of_most(share: float) -> float:
    """Below it is this share of the relative errors of the images of the test that follows.

    Where the two classes change places, 1 and 0 become 0 and 1 + e.
    """

    def share_below(error: float) -> float:
        with_place_changed = math.sqrt(error**2 - 1) - 1
        return 0.98 * (1 - math.exp(-error)) + 0.02 * (1 - math.exp(-with_place_changed))

    return optimize.brentq(lambda error: share_below(error) - share, 2, 10)


def test_bounds_hold_as_often_as_they_promise(monkeypatch):
    """Relative errors are exponential, and one prediction in 50 changes, for the worse."""
    # The same few counts come again and again.
    monkeypatch.setattr(holdout_tests, "disagreement_p_value", functools.cache(binomial_p_value))
    monkeypatch.setattr(conformal, "confident_rank", functools.cache(conformal.confident_rank))
    generator = torch.Generator().manual_seed(0)
    num_images = 150
    true = {
        "relative_error": relative_error_of_most(0.95),
        "disagreement": 0.02,
        "accuracy_drop": 0.02,
    }
    broken = dict.fromkeys(true, 0)
    for _ in range(REPETITIONS):
        uniform = torch.rand(num_images, generator=generator, dtype=torch.float64)
        before, after, labels = images_with_errors((-uniform.log()).tolist())
        flipped = torch.rand(num_images, generator=generator) < 0.02
        after = torch.where(flipped[:, None], after.flip(1), after)
        bounds = certified(before, after, labels, share=0.05, confidence=0.95)
        for quantity, value in true.items():
            broken[quantity] += bounds[quantity] < value
    limit = stats.binom.ppf(0.999, REPETITIONS, 0.05)
    assert max(broken.values()) <= limit
    # The bound is not wider than it need be: of 150 images, the third largest error is the quantile
    # with a confidence of 98.2%, the fourth largest with less than 95%.
    expected = REPETITIONS * stats.binom.cdf(2, num_images, 0.05)
    assert broken["relative_error"] == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_a_comparison_by_hand():
    holdout = images_with_errors([0.1] * 100)
    fresh = images_with_errors([0.05] * 19 + [0.2])
    row = compare(holdout, fresh, share=0.05, confidence=0.95)
    assert row["relative_error_certified"] == pytest.approx(0.1)
    assert row["relative_error_measured"] == pytest.approx(0.2)
    assert row["relative_error_exceeding"] == 0.05
    assert row["disagreement_measured"] == row["accuracy_drop_measured"] == 0


@pytest.fixture
def pair():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
    batches = [(torch.randn(50, 5), torch.randint(3, (50,))) for _ in range(6)]
    return net, batches


def test_any_two_nets(pair):
    net, batches = pair
    pruned = experiment.prune(net, batches[:2], keep_ratio=0.6).net
    table = experiment.certify_outputs(net, pruned, batches[2:5], batches[5:]).set_index("quantity")
    assert list(table.index) == list(QUANTITIES)
    assert not table["is_vacuous"]["total_variation"]
    assert (table["certified"] > 0).all() and table["measured"].notna().all()
    same = experiment.certify_outputs(net, net, batches).set_index("quantity")
    assert same["certified"]["relative_error"] == 0 and "measured" not in same
    few = experiment.certify_outputs(net, pruned, [batches[0]], share=0.01)
    assert few["certified"][0] == math.inf and few["is_vacuous"][0]


def labelled(labels):
    return [(torch.randn(len(labels), 5), torch.tensor(labels))]


def net_of_nan():
    net = nn.Linear(5, 3)
    nn.init.constant_(net.bias, math.nan)
    return net


def test_sorted_images_are_certified_like_others():
    """The pruned net is wrong about the last of ten classes alone, whose images come last."""
    net, pruned = nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False)
    for one, scale in ((net, 1.0), (pruned, -1.0)):
        nn.init.eye_(one.weight)
        one.weight.data[9, 9] = scale
    labels = torch.arange(10).repeat_interleave(100)
    images = nn.functional.one_hot(labels).float()
    table = experiment.certify_outputs(net, pruned, [(images, labels)]).set_index("quantity")
    assert 0.1 < table["certified"]["accuracy_drop"] < 0.15


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"share": 0}, "share must be a number between 0 and 1, not 0"),
        ({"confidence": 1.5}, "confidence must be a number between 0 and 1, not 1.5"),
        ({"pruned": "resnet20"}, "pruned must be a torch.nn.Module, not 'resnet20'"),
        ({"pruned": nn.Linear(5, 2)}, "must have equally many outputs, not 3 and 2"),
        ({"holdout": [torch.randn(4, 5)]}, "holdout must be batches of (inputs, labels)"),
        ({"holdout": []}, "holdout"),
        ({"holdout": labelled([0, 1, 3])}, "holdout has the label 3: with 3 outputs of the net"),
        ({"holdout": labelled([0, -1, 2])}, "holdout has the label -1: with 3 outputs of the net"),
        ({"holdout": [(torch.randn(4, 5), torch.zeros(3).long())]}, "not 3 labels for 4 rows"),
        ({"net": nn.Linear(5, 1)}, "the net has one output, from which no class can be told"),
        ({"pruned": net_of_nan()}, "outputs that are not numbers (NaN) on images of holdout"),
    ],
)
def test_bad_input(pair, change, expected):
    net, batches = pair
    arguments = {"net": net, "pruned": net, "holdout": batches, **change}
    with pytest.raises(UserError, match=expected.replace("(", r"\(").replace(")", r"\)")):
        experiment.certify_outputs(**arguments)


def test_means_over_nets_of_a_method_that_decides_the_size():
    """What an error asks for is another keep ratio in each net."""
    values = {f"{name}_{kind}": 0.5 for name in QUANTITIES for kind in ("certified", "measured")}
    rows = pandas.DataFrame(
        [
            {
                "method": name,
                "net_seed": seed,
                "step": step,
                "keep_ratio_requested": ratio,
                **values,
            }
            for seed in (0, 1)
            for name, step, ratio in [
                ("WT", 1, 0.8),
                ("WT", 2, 0.4),
                ("SiPP", 1, 0.9 + 0.02 * seed),
            ]
        ]
    )
    table = summary(rows)
    assert table[["method", "kept"]].to_numpy().tolist() == [
        ["WT", "0.8"],
        ["WT", "0.4"],
        ["SiPP", "0.91"],
    ]


def test_the_command(small_config, tmp_path, capsys):
    arguments = [str(small_config), "--results", str(tmp_path), "--device", "cpu", "--fresh", "20"]
    ratios = ["--set", "pruning.keep_ratios=[0.8, 0.2]", "--set", "pruning.methods=[WT, SiPP]"]
    options = ["--share", "0.1", "--confidence", "0.9"]
    assert main([*arguments, *ratios, *options], "guarantee") == 0
    out = capsys.readouterr().out
    assert "with 90% confidence each" in out and "which 10% of the images exceed" in out
    [path] = tmp_path.rglob("output_errors-20x8-share0.1-confidence0.9.csv")
    table = pandas.read_csv(path)
    assert table[["method", "keep_ratio_requested"]].values.tolist() == [
        [method, ratio] for method in ("WT", "SiPP") for ratio in (0.8, 0.2)
    ]
    assert (table["images"] == 72).all() and (table["test_images"] == 360).all()
    assert (table["share"] == 0.1).all() and (table["confidence"] == 0.9).all()
    assert (path.parent / "plots" / path.with_suffix(".png").name).stat().st_size > 10_000
    assert main([*arguments, "--share", "1"], "guarantee") == 2
    assert "--share and --confidence must be between 0 and 1" in capsys.readouterr().err
