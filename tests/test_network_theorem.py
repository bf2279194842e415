"""The certified error of a whole net: by hand, as a property of random nets, and on real digits."""

import math

import numpy
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_run import launch, only_run
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

import experiment
from experiment.allocation.bernstein import bernstein_draws, bernstein_error
from experiment.allocation.network_error import composed_errors, layer_budgets
from experiment.core.errors import UserError
from experiment.main import main
from experiment.nets.feed_forward import feed_forward
from experiment.sensitivity.sign_complexity import sign_complexities


def linear(weights: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    rows = torch.tensor(weights)
    layer = nn.Linear(rows.shape[1], rows.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(rows)
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


def complexities_of(net: nn.Module, inputs: torch.Tensor) -> list[float]:
    return [*sign_complexities(feed_forward(net), [inputs]).values()]


# Budgets and composition.


def test_budgets_by_hand():
    """Products of the sign complexities from each layer on: 6, 3 and 3, of three layers."""
    assert layer_budgets(0.9, [2, 1, 3]) == pytest.approx([0.9 / 36, 0.9 / 18, 0.9 / 18])
    # A sign complexity below 1, which an additive term makes possible, counts as 1.
    assert layer_budgets(0.8, [2, 0.5]) == pytest.approx([0.8 / 8, 0.8 / 4])
    assert layer_budgets(0.8, [2, math.inf, 2])[:2] == [0, 0]


def test_composition_by_hand():
    """2 x 0.1, then 3 x (1.2 x 1.2 - 1), which is above 1: signs may change."""
    assert composed_errors([0.1, 0.2], [2, 3]) == pytest.approx([0.2, 1.32])
    assert composed_errors([0.1, 0.2, 0], [2, 3, 1])[2] == math.inf
    assert composed_errors([0, 0], [math.inf, 5]) == [0, 0]


complexity = st.floats(0, 1e6) | st.just(math.inf)


@given(error=st.floats(1e-6, 1), deltas=st.lists(complexity, min_size=1, max_size=12))
def test_layers_within_their_budgets_keep_the_output_within_the_error(error, deltas):
    budgets = layer_budgets(error, deltas)
    assert composed_errors(budgets, deltas)[-1] <= error * (1 + 1e-9)


@given(total=st.floats(1e-3, 1e3), error=st.floats(1e-3, 10), failure=st.floats(1e-16, 0.5))
def test_the_draws_are_the_fewest_whose_certificate_is_within_the_error(total, error, failure):
    totals = numpy.array([total])
    draws = bernstein_draws(totals, error, failure)
    assert bernstein_error(totals, draws, failure) <= error * (1 + 1e-9)
    assert draws <= 1 or bernstein_error(totals, draws - 1, failure) > error * (1 - 1e-9)


# Sign complexities.


def test_sign_complexities_by_hand():
    """On (1, 1): sums 2 and 2 - 1, then 2 - 1 - 0.5; on (1, 0): 1 and 2, then 0 and 1 - 2 - 0.5."""
    net = nn.Sequential(linear([[1, 1], [2, -1]]), nn.ReLU(), linear([[1, -1]], bias=[-0.5]))
    assert complexities_of(net, torch.tensor([[1.0, 1.0]])) == pytest.approx([3, 3 / 0.5])
    assert complexities_of(net, torch.tensor([[1.0, 0.0]])) == pytest.approx([1, 3 / 1.5])
    both = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert complexities_of(net, both) == pytest.approx([3, 6])
    # Nothing is lost where nothing arrives, and everything where the terms cancel.
    assert complexities_of(net, torch.zeros(1, 2))[0] == 0
    assert complexities_of(net, torch.tensor([[1.0, 2.0]]))[0] == math.inf


def test_batch_norm_counts_as_part_of_its_layer():
    torch.manual_seed(0)
    conv, norm, fc = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 16, 3)
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean):
            values.copy_(torch.randn(4))
        norm.running_var.copy_(torch.rand(4) + 0.1)
    net = nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), fc).eval()
    folded = nn.Sequential(fuse_conv_bn_eval(conv, norm), nn.ReLU(), nn.Flatten(), fc)
    images = torch.randn(5, 2, 6, 6)
    assert complexities_of(net, images) == pytest.approx(complexities_of(folded, images), rel=1e-3)


# Pruning to an error.


def two_layers() -> nn.Module:
    """On (1, 1), 100 + 1 - 51 = 50: the sign complexities are 101 / 50 and 1."""
    return nn.Sequential(linear([[100, 1]], bias=[-51.0]), nn.ReLU(), linear([[1]]))


@pytest.mark.parametrize(("error", "kept", "certified"), [(0.2, 2, 0), (0.3, 1, 2.02 * 3 / 101)])
def test_what_is_kept_and_certified_by_hand(error, kept, certified):
    """The budget is error / 4 / 2.02, and dropping the weight 1 costs 3 / 101 = 0.0297."""
    sample = torch.ones(1, 2)
    pruned = experiment.prune(two_layers(), [sample], method={"name": "SiPP", "error": error})
    first, second = pruned.bound.by_layer
    assert (first.layer, first.weights, first.kept_weights) == ("0", 2, kept)
    assert first.sign_complexity == pytest.approx(2.02)
    assert first.budget == pytest.approx(error / 4 / 2.02)
    assert second.budget == pytest.approx(error / 4)
    assert pruned.bound.certified == pytest.approx(certified)
    assert pruned.keep_ratio_requested == pruned.keep_ratio == (kept + 2) / 4
    assert pruned.bound.failure == 0 and pruned.evaluations == 1
    assert list(pruned.bound.layers["kept_weights"]) == [kept, 1]
    table = experiment.certify_network(two_layers(), [sample], [sample], [error])
    assert table["measured_max"].item() == pytest.approx((2 - kept) / 50)  # 49 in place of 50
    assert table["exact_layers"].item() == kept


def positive_net(width: int, generator: torch.Generator) -> nn.Module:
    """Weights and inputs that are not negative: nothing cancels."""
    net = nn.Sequential(nn.Linear(width, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator))
    return net


def test_draws_follow_from_the_error():
    generator = torch.Generator().manual_seed(0)
    net = positive_net(4_000, generator)
    sample = torch.rand(5, 4_000, generator=generator)
    method = {"name": "SiPPRand", "error": 1.0}
    pruned = experiment.prune(net, [sample], method=method, delta=0.5)
    # Each sample makes 4 x (8 + 3) sums, which share the failure probability.
    total = experiment.sensitivities(net, [sample], "max")["0"].double().sum(1).numpy()
    draws = pruned.decision.draws
    by_hand = total * math.log(2 / (0.5 / 44)) * (6 + 2 * 0.25) / 0.25**2  # C = 3
    assert draws[0:16:2] == pytest.approx(numpy.ceil(by_hand))
    assert numpy.isinf(draws[16:]).all()  # of 8 weights so many draws leave none out
    first, second = pruned.bound.by_layer
    assert 0.1 < first.kept_weights / first.weights < 0.5
    assert second.kept_weights == second.weights
    assert first.unit_error == pytest.approx(0.25, rel=1e-3) and second.unit_error == 0
    assert pruned.bound.certified == pytest.approx(0.25, rel=1e-3)
    assert pruned.bound.failure == 0.5
    again = experiment.prune(net, [sample], method=method, delta=0.5)
    assert torch.equal(pruned.net[0].weight, again.net[0].weight)
    fresh = torch.rand(50, 4_000, generator=generator)
    table = experiment.certify_network(
        net, [sample], [sample, fresh], [1.0], method="SiPPRand", delta=0.5
    )
    assert table["share_above"].item() == 0
    assert 0 < table["measured_median"].item() < table["certified"].item()


class Pooled(nn.Module):
    """Convolutions with BatchNorm, poolings of both kinds and linear layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, groups=2)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.adaptive_avg_pool2d(self.conv2(x).relu(), 1)
        return self.fc(x.view(x.size(0), -1))


def dense() -> nn.Module:
    return nn.Sequential(
        nn.Linear(30, 24), nn.ReLU(), nn.Linear(24, 24), nn.Identity(), nn.ReLU(), nn.Linear(24, 3)
    )


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), error=st.sampled_from([0.05, 0.3, 1.0]))
def test_without_cancellation_the_error_is_never_exceeded_on_the_sample(seed, error):
    generator = torch.Generator().manual_seed(seed)
    net, sample = positive_net(100, generator), torch.rand(4, 100, generator=generator)
    with torch.no_grad():
        net[0].weight.pow_(8)  # many weights that hardly matter
    row = experiment.certify_network(net, [sample], [sample], [error]).iloc[0]
    assert row.sign_complexity == pytest.approx(1)
    assert 0 < row.certified <= error  # something was dropped
    assert 0 < row.measured_max <= row.certified
    assert (row.share_above, row.share_within) == (0, 1)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from([dense, Pooled]),
    method=st.sampled_from(["SiPP", "SiPPRand"]),
)
def test_with_weights_of_both_signs_no_certificate_is_exceeded_on_the_sample(seed, kind, method):
    torch.manual_seed(seed)
    net = kind()
    sample = torch.randn(4, 30) if kind is dense else torch.randn(4, 2, 6, 6)
    errors = [0.1, 1.0, 1e3, 1e6]
    table = experiment.certify_network(net, [sample], [sample], errors, method=method)
    assert (table["share_above"] == 0).all() and (table["share_within"] == 1).all()
    assert (table["certified"][:2] <= errors[:2]).all()
    assert table["keep_ratio"].is_monotonic_decreasing


def test_fresh_images_beyond_the_premises_are_told():
    """The second weight is silent on the sample, so it is dropped; a fresh image needs it."""
    net = nn.Sequential(linear([[1, 1]]), nn.ReLU(), linear([[1]]))
    sample = torch.tensor([[1.0, 0.0]])
    fresh = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    row = experiment.certify_network(net, [sample], [fresh], [0.1]).iloc[0]
    assert (row.certified, row.measured_max, row.images) == (0, 1, 4)
    assert (row.share_above, row.share_within, row.share_above_within) == (0.5, 0.5, 0)


# Which nets are covered, and other bad input.


class Functional(nn.Module):
    """Applies a function between two linear layers."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.second(self.function(self.first(x)))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(self.layer(x).relu())


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


CONV = nn.Conv2d(1, 2, 3)


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (Functional(lambda x: torch.relu(x) + x), "it adds activations, as residual connections"),
        (Functional(lambda x: torch.stack([x, x.relu()]).mean(0)), "it joins several"),
        (Functional(torch.tanh), "it computes tanh, through which relative errors need not pass"),
        (Functional(lambda x: x + 1), "it computes add"),
        (Functional(lambda x: F.dropout(x, 0.5)), "it computes dropout"),
        (nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)), r"1 \(GELU\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4)), "not directly follow"),
        (Shared(), "layer layer is used more than once"),
        (Untraceable(), "following this net failed"),
        (nn.Sequential(CONV, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 2)), "must follow a ReLU"),
    ],
)
def test_other_nets_are_refused_in_one_line(net, why):
    sample = torch.rand(3, 1, 4, 4) if "AvgPool" in str(net) else torch.rand(3, 4)
    with pytest.raises(UserError, match=why) as raised:
        experiment.prune(net, [sample], method={"name": "SiPP", "error": 0.1})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["lenet300_100", "fcnet_nettrim", "lenet5", "vgg16_bn"])
def test_networks_that_are_covered(name):
    net = experiment.build_network(name, input_shape=(3, 32, 32), num_classes=10)
    chain = feed_forward(net)
    images = torch.randn(2, 3, 32, 32)
    seen = []
    with torch.no_grad():
        assert torch.allclose(chain.run(images, seen.append), net.double().eval()(images.double()))
    assert [sums.layer for sums in seen] == chain.layers
    kinds = (nn.Linear, nn.Conv2d)
    assert chain.layers == [name for name, one in net.named_modules() if isinstance(one, kinds)]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"method": {"name": "SiPP", "error": 0.1}, "keep_ratio": 0.5}, "give it no keep_ratio"),
        ({"method": "SiPP"}, "SiPP needs a keep_ratio, or the option error in its place"),
        ({"method": "WT"}, "WT needs a keep_ratio"),
        ({"method": {"name": "SiPP", "error": 0}}, "error: Input should be greater than 0"),
        ({"method": {"name": "SiPPRand", "error": "a"}}, "error: Input should be a valid number"),
        (
            {"method": {"name": "SiPP", "error": 0.1, "allocation": "erk"}},
            "allocation is not used with error",
        ),
        (
            {"method": {"name": "SiPP", "error": 0.1}, "min_kept_per_layer": 1},
            "min_kept_per_layer must be 0",
        ),
        ({"method": {"name": "SiPPRand", "error": 0.1}, "delta": 1.0}, "delta must be below 1"),
        ({"method": {"name": "WT", "error": 0.1}}, "unknown option 'error'"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, why):
    with pytest.raises(UserError, match=why) as raised:
        experiment.prune(two_layers(), [torch.ones(1, 2)], **options)
    assert "\n" not in str(raised.value)


def test_earlier_prunings_are_those_of_the_net():
    """The certificate compares with the net as it is given, so it must be as its masks say."""
    first = experiment.prune(two_layers(), [torch.ones(1, 2)], keep_ratio=0.75)
    method = {"name": "SiPP", "error": 0.3}
    sample = [torch.ones(1, 2)]
    further = experiment.prune(first.net, sample, method=method, masks=first.masks)
    assert further.bound.certified == 0 and further.keep_ratio == 0.75
    with pytest.raises(UserError, match="layer 0 has weights that are masked and not 0"):
        experiment.prune(two_layers(), sample, method=method, masks=first.masks)


def test_bad_lists_of_errors_are_refused():
    sample = torch.ones(1, 2)
    for errors, why in (([], "list of numbers"), (0.1, "list of numbers"), ([-1], "above 0")):
        with pytest.raises(UserError, match=why):
            experiment.certify_network(two_layers(), [sample], [sample], errors)


# Experiments.

METHODS = "pruning.methods=[SiPP, {name: SiPP, error: 0.1}, {name: SiPPRand, error: 0.1}]"


def settings_of(schedule: str, *more: str) -> list[str]:
    return [METHODS, f"pruning.schedule={schedule}", "network.name=lenet300_100", *more]


@pytest.mark.parametrize("schedule", ["oneshot", "cascade"])
def test_an_error_takes_one_step(small_config, schedule):
    config = experiment.load_config(small_config, settings_of(schedule, "num_nets=2"))
    prunings = [
        (task.place.method, task.keep_ratio, task.inputs)
        for task in experiment.tasks(config)
        if "-prune" in task.key and task.key.endswith("prune") and task.place.net_seed == 1
    ]
    assert [ratio for name, ratio, _ in prunings if name == "SiPP"] == [0.5, 0.2]
    others = [(name, ratio, inputs) for name, ratio, inputs in prunings if name != "SiPP"]
    assert others == [
        ("SiPP(error=0.1)", None, ("net1/train",)),
        ("SiPPRand(error=0.1)", None, ("net1/train",)),
    ]
    assert config.num_prunings == 2 * (2 + 1 + 1)


@pytest.mark.parametrize("schedule", ["random", "rewind"])
def test_an_error_makes_no_sense_for_weights_that_are_not_used(small_config, schedule):
    with pytest.raises(UserError, match="choose oneshot or cascade") as raised:
        experiment.load_config(small_config, settings_of(schedule))
    assert len(raised.value.mistakes) == 2
    assert "pruning.methods[1]" in str(raised.value)


def test_run_ids_stay_the_same_without_an_error(small_config):
    explicit = "pruning.methods=[{name: SiPP, error: null}, WT]"
    config = experiment.load_config(small_config, [explicit])
    assert config.run_id() == experiment.load_config(small_config).run_id()
    assert '"error"' not in str(config.pruning.methods[0].affecting_numbers())
    with_error = experiment.load_config(
        small_config, ["pruning.methods=[{name: SiPP, error: 0.1}, WT]"]
    )
    assert with_error.run_id() != config.run_id()


def test_the_command_compares_certified_with_measured_errors(small_config, tmp_path, capsys):
    overrides = settings_of("oneshot", "pruning.retrain_count=0", "num_nets=2")
    options = [part for text in overrides for part in ("--set", text)]
    assert launch(small_config, tmp_path / "r", *options) == 0
    directory = only_run(tmp_path / "r")
    results = pandas.read_csv(directory / "results.csv").query("method == 'SiPP(error=0.1)'")
    assert list(results["step"]) == [1, 1] and list(results["net_seed"]) == [0, 1]
    assert (results["keep_ratio"] <= results["keep_ratio_requested"]).all()
    arguments = [str(small_config), "--results", str(tmp_path / "r"), "--device", "cpu", *options]
    assert main([*arguments, "--fresh", "30"], "guarantee") == 0
    assert "certified for the whole net" in capsys.readouterr().out
    table = pandas.read_csv(directory / "network_theorem-30x8.csv")
    assert list(table["method"]) == ["SiPP(error=0.1)", "SiPPRand(error=0.1)"] * 2
    assert list(table["net_seed"]) == [0, 0, 1, 1]
    assert (table["certified"] <= table["error"]).all() and (table["images"] == 30).all()
    assert (table["share_above_within"] == 0).all()
    assert (table["measured_median"] <= table["measured_max"]).all()
    of_sipp = table[table["method"] == "SiPP(error=0.1)"]
    assert list(of_sipp["keep_ratio"]) == pytest.approx(list(results["keep_ratio"]))


def test_the_command_refuses_residual_nets_before_training(small_config, tmp_path, capsys):
    options = ["--set", METHODS, "--set", "network.name=resnet20"]
    assert launch(small_config, tmp_path / "r", *options) == 2
    assert "it adds activations, as residual connections do" in capsys.readouterr().err
