"""Exact budgets, dead parameters, calibration, and the public API."""

import copy

import pandas
import pytest
import torch
from torch import nn

import experiment
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.nets.layers import find_layers
from experiment.nets.masks import SPACING, keep_all, largest, size
from experiment.nets.reachability import reached, remove_dead
from experiment.pruning.analysis import Analysis
from experiment.pruning.calibration import MAX_EVALUATIONS, Budgets, calibrate
from experiment.pruning.decision import Choice, Prepared
from experiment.pruning.method import Method, ScoreMethod
from experiment.pruning.prune import named_method
from experiment.pruning.pruner import Pruner


def test_largest_is_exact_and_breaks_ties_by_index():
    scores = torch.tensor([1.0, 3.0, 1.0, 0.0, 1.0])
    everything = torch.ones(5, dtype=torch.bool)
    assert largest(scores, 3, everything).tolist() == [True, True, True, False, False]
    assert largest(scores, 0, everything).sum() == 0
    assert largest(scores, 9, everything).all()
    assert largest(scores, 2, scores < 3).tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("rare", [1.0, 0.01])
@pytest.mark.parametrize("values", ["distinct", "tied", "periodic"])
def test_largest_of_many_is_that_of_sorting(values, rare):
    """Samples of scores say where to look; with periodic scores they mislead."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20_000, generator=generator)
    if values == "tied":
        scores = scores.round()
    if values == "periodic":
        scores[::SPACING] = 9
    candidates = torch.rand(len(scores), generator=generator) < rare
    positions = candidates.nonzero().flatten()
    order = positions[scores[positions].argsort(descending=True, stable=True)]
    for share in (0.001, 0.3, 0.999):
        count = int(share * len(order))
        expected = torch.zeros_like(candidates)
        expected[order[:count]] = True
        assert torch.equal(largest(scores, count, candidates), expected)


@pytest.mark.parametrize("method", METHODS.names())
def test_the_size_is_what_was_asked_for(method, images):
    torch.manual_seed(0)
    net = experiment.build_network("resnet20", input_shape=(3, 8, 8), num_classes=10)
    total = sum(parameter.numel() for parameter in net.parameters())
    for keep_ratio in (0.9, 0.2, 0.02):
        pruned = experiment.prune(
            net,
            [(images, torch.arange(6))],
            method=method,
            keep_ratio=keep_ratio,
            loss=nn.functional.cross_entropy,
        )
        kept = sum(int(mask.sum()) for mask in pruned.masks.values())
        assert pruned.keep_ratio == kept / total
        if METHODS.get(method).granularity == "filters":  # as close as whole filters permit
            assert pruned.keep_ratio == pytest.approx(keep_ratio, rel=0.02)
            assert (
                abs(pruned.keep_ratio / keep_ratio - 1) <= 0.005 or "whole filters" in pruned.note
            )
        else:
            assert pruned.keep_ratio == pytest.approx(keep_ratio, rel=0.005), pruned.note


def test_the_budget_of_weights_is_exact(small_net, images):
    """Half of the parameters less those not prunable: two BatchNorms of 16, biases of 8 and 4."""
    parameters = sum(parameter.numel() for parameter in small_net.parameters())
    fixed = 16 + 16 + 8 + 4
    pruned = experiment.prune(small_net, [images], method="WT", keep_ratio=0.5)
    weights = sum(int(mask.sum()) for name, mask in pruned.masks.items() if mask.dim() > 1)
    assert pruned.note is None and weights == parameters // 2 - fixed
    magnitudes = torch.cat(
        [
            small_net.get_parameter(name).abs().flatten()
            for name in pruned.masks
            if pruned.masks[name].dim() > 1
        ]
    )
    masks = torch.cat([mask.flatten() for mask in pruned.masks.values() if mask.dim() > 1])
    assert magnitudes[masks].min() >= magnitudes[~masks].max()


def test_the_argument_is_untouched_and_the_result_is_masked(small_net, images):
    before = copy.deepcopy(small_net.state_dict())
    small_net.train()
    pruned = experiment.prune(small_net, [(images, torch.zeros(6))], method="SiPP", keep_ratio=0.4)
    assert small_net.training and all(module.training for module in small_net.modules())
    assert all(torch.equal(value, before[name]) for name, value in small_net.state_dict().items())
    for name, parameter in pruned.net.named_parameters():
        assert (parameter[~pruned.masks[name]] == 0).all()
        assert torch.equal(parameter[pruned.masks[name]], before[name][pruned.masks[name]])
    assert isinstance(pruned.layers, pandas.DataFrame)
    assert pruned.layers["layer"].tolist() == ["conv1", "conv2", "fc"]
    assert pruned.layers["kept_weights"].sum() == sum(
        int(m.sum()) for m in pruned.masks.values() if m.dim() > 1
    )


def test_further_pruning_is_relative_to_the_original_and_nested(small_net, images):
    first = experiment.prune(small_net, [images], method="SiPP", keep_ratio=0.6)
    second = experiment.prune(first.net, [images], method="WT", keep_ratio=0.3, masks=first.masks)
    assert second.keep_ratio == pytest.approx(0.3, rel=0.01)
    assert all(not (second.masks[name] & ~first.masks[name]).any() for name in first.masks)


@pytest.mark.filterwarnings("ignore:the pruned net is degenerate")
def test_what_cannot_be_reached_is_said(small_net, images):
    pruned = experiment.prune(small_net, [images], method="WT", keep_ratio=0.05)
    assert "44 of the 580 parameters are not prunable (biases and normalisations)" in pruned.note
    assert "; no weights are left in conv1, conv2; the output is the same for all" in pruned.note


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"method": "Wt"}, "did you mean 'WT'"),
        ({"method": {"name": "WT", "x": 1}}, "unknown option 'x'"),
        ({"keep_ratio": 0.0}, "keep_ratio must be a number above 0"),
        ({"batches": []}, "batches is empty"),
    ],
)
def test_bad_arguments(small_net, images, arguments, expected):
    arguments = {"batches": [images], "method": "WT", "keep_ratio": 0.5} | arguments
    with pytest.raises(experiment.UserError, match=expected):
        experiment.prune(small_net, **arguments)


class Tied(nn.Module):
    """An embedding whose weight is the head's, and a linear layer used under two names."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 6), nn.Linear(6, 9, bias=False)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head.weight, self.second.weight = self.embedding.weight, self.first.weight

    def forward(self, tokens):
        return self.head(
            torch.relu(self.second(torch.relu(self.first(self.embedding(tokens).mean(1)))))
        )


@pytest.mark.parametrize("method", METHODS.names())
def test_shared_weights_are_pruned_once(method):
    torch.manual_seed(0)
    if (
        METHODS.get(method).granularity == "filters"
    ):  # which leave shared weights whole, all that this net has
        with pytest.raises(experiment.UserError, match="no filter that could be removed"):
            experiment.prune(Tied(), [torch.arange(9).reshape(3, 3)], method=method, keep_ratio=0.7)
        return
    net, tokens = Tied(), torch.arange(36).reshape(12, 3) % 9
    pruned = experiment.prune(
        net,
        [(tokens, tokens[:, 0])],
        method=method,
        keep_ratio=0.7,
        loss=nn.functional.cross_entropy,
    )
    assert set(pruned.masks) == {"embedding.weight", "first.weight", "first.bias", "second.bias"}
    assert pruned.net.second.weight is pruned.net.first.weight
    assert (pruned.net.head.weight[~pruned.masks["embedding.weight"]] == 0).all()
    assert pruned.keep_ratio < 0.75


def test_masks_are_checked(small_net, images):
    with pytest.raises(
        experiment.UserError, match=r"no parameter .fc\.wight.; did you mean .fc\.weight."
    ):
        experiment.prune(
            small_net,
            [images],
            method="WT",
            keep_ratio=0.5,
            masks={"fc.wight": torch.ones(4, 8) > 0},
        )
    with pytest.raises(
        experiment.UserError, match=r"'fc.bias' must be a bool tensor of shape \[4\]"
    ):
        experiment.prune(
            small_net, [images], method="WT", keep_ratio=0.5, masks={"fc.bias": torch.ones(5) > 0}
        )


class Keeping(Prepared):
    """Keeps what it is told, whatever the budget."""

    def __init__(self, kept):
        self.kept = kept

    def choose(self, budget):
        return Choice(kept=self.kept)


@pytest.mark.parametrize(
    ("prepared", "expected"),
    [
        (lambda candidates: 3, "Wrong.prepare must return an experiment.pruning.decision.Prepared"),
        (lambda candidates: Keeping(candidates[:5]), r"not bool \[5\]"),
        (lambda candidates: Keeping(candidates.float()), "not float32"),
        (lambda candidates: Keeping(None), "like analysis.candidates, bool .*, not None"),
    ],
)
def test_a_method_that_chooses_by_something_else_is_told(small_net, images, prepared, expected):
    class Wrong(Method):
        def prepare(self, analysis, stream):
            return prepared(analysis.candidates)

    with pytest.raises(experiment.UserError, match=expected):
        experiment.prune(small_net, [images], method=Wrong(), keep_ratio=0.5)


def test_a_method_cannot_bring_pruned_weights_back(small_net, images):
    class Everything(Method):
        def prepare(self, analysis, stream):
            return Keeping(torch.ones_like(analysis.candidates))

    masks = experiment.prune(small_net, [images], method="WT", keep_ratio=0.5).masks
    again = experiment.prune(small_net, [images], method=Everything(), keep_ratio=0.9, masks=masks)
    assert again.keep_ratio == pytest.approx(0.5, abs=0.01) and "had only" in again.note


def test_scores_that_are_not_numbers_are_an_error(small_net, images):
    with torch.no_grad():
        small_net.conv2.weight[0] = torch.nan
    with pytest.raises(experiment.UserError, match="the scores of layer conv2 contain NaN"):
        experiment.prune(small_net, [images], method="WT", keep_ratio=0.5)


@pytest.mark.filterwarnings("ignore:the pruned net is degenerate")
def test_the_reason_names_a_bottleneck_not_the_scores():
    """One neuron stands between 100 inputs and 100 outputs: it lives or dies with 200 weights."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(100, 1), nn.ReLU(), nn.Linear(1, 100))
    pruned = experiment.prune(net, [torch.rand(4, 100)], method="WT", keep_ratio=0.34)
    assert pruned.note is None or "any importance" not in pruned.note


def dead_removed(net, masks, example):
    layers = find_layers(net, [example]).prunable
    return remove_dead(net, layers, masks, example, reached(net, layers, keep_all(net), example))


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 1),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Conv2d(2, 3, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3, 2),
    )


def test_weights_into_a_filter_that_nothing_reads_are_dead_with_its_bias_and_batchnorm():
    net = chain()
    masks = keep_all(net)
    masks["3.weight"][:, 1] = False  # nobody reads filter 1 of the first layer
    alive = dead_removed(net, masks, torch.zeros(1, 1, 1, 1))
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert alive[name].flatten().tolist() == [True, False], name
    assert size(alive) == size(masks) - 4


def test_a_filter_without_inputs_that_passes_a_bias_on_is_not_dead():
    net = chain()
    masks = keep_all(net)
    masks["3.weight"][1] = False  # filter 1 of the second convolution has only its bias left
    assert size(dead_removed(net, masks, torch.zeros(1, 1, 1, 1))) == size(masks)


def test_death_goes_back_through_several_layers_and_never_depends_on_data():
    net = chain()
    with torch.no_grad():
        net[0].bias.fill_(-100.0)  # silent on every input, yet not dead
    masks = keep_all(net)
    assert size(dead_removed(net, masks, torch.zeros(1, 1, 1, 1))) == size(masks)
    masks["6.weight"][:, 0] = (
        False  # the output does not read filter 0 of the second convolution ...
    )
    masks["3.weight"][1:, 0] = False  # ... which alone read filter 0 of the first
    alive = dead_removed(net, masks, torch.zeros(1, 1, 1, 1))
    assert alive["3.weight"].flatten(1).tolist() == [[False, False], [False, True], [False, True]]
    assert alive["0.weight"].flatten().tolist() == [False, True] and alive["3.bias"].tolist() == [
        False,
        True,
        True,
    ]


def test_few_samples_do_not_kill_units():
    """However many units are silent on 8 samples, LeNet-300-100 can keep 99.9%."""
    torch.manual_seed(0)
    net = experiment.build_network("lenet300_100", input_shape=(1, 28, 28), num_classes=10)
    pruned = experiment.prune(net, [torch.rand(8, 1, 28, 28)], method="SiPP", keep_ratio=0.999)
    assert pruned.keep_ratio == pytest.approx(0.999, abs=1e-5)


@pytest.mark.parametrize("name", ["resnet110", "densenet22", "vgg16_bn"])
def test_nothing_of_a_whole_net_is_dead_however_deep(name):
    net = experiment.build_network(name, input_shape=(3, 32, 32), num_classes=10)
    masks = keep_all(net)
    assert size(dead_removed(net, masks, torch.zeros(1, 3, 32, 32))) == size(masks)


class Attention(nn.Module):
    """A transformer block with a functional softmax, and a gate that is flat for large inputs."""

    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        query, key, value = self.qkv(self.norm(x)).chunk(3, -1)
        attended = torch.softmax(query @ key.mT / 3, -1) @ value
        return torch.nn.functional.relu6(self.out(attended) + x) * torch.sigmoid(100 * x)


FORWARDS = {
    "negated": lambda a, b: torch.relu(-a),
    "subtracted": lambda a, b: torch.relu(a - 2 * b),
    "shifted": lambda a, b: torch.relu(a - 1),
    "centred": lambda a, b: torch.relu(a - a.mean(1, keepdim=True)),
    "saturated": lambda a, b: nn.functional.relu6(3 * a - 3),
    "both": lambda a, b: torch.relu(a) + torch.relu(-b),
    "shrunk": lambda a, b: nn.functional.hardshrink(a, 1.5) + b,
    "difference": lambda a, b: torch.relu(a) - torch.relu(b),
    "switched": lambda a, b: torch.where(a > 0, a, 0) - b.clamp(max=0),
    "masked": lambda a, b: a * (a < 0) + b,
}


class Combined(nn.Module):
    def __init__(self, combine):
        super().__init__()
        self.a, self.b, self.out, self.combine = (
            nn.Linear(8, 8),
            nn.Linear(8, 8),
            nn.Linear(8, 3),
            combine,
        )

    def forward(self, x):
        return self.out(self.combine(self.a(x), self.b(x)))


@pytest.mark.parametrize("name", FORWARDS)
def test_nothing_of_a_whole_net_is_dead_whatever_its_forward_pass_does(name):
    torch.manual_seed(0)
    net = Combined(FORWARDS[name])
    pruned = experiment.prune(net, [torch.randn(6, 8)], method="WT", keep_ratio=1.0)
    assert pruned.keep_ratio == 1
    half = experiment.prune(net, [torch.randn(6, 8)], method="WT", keep_ratio=0.6)
    assert half.keep_ratio == pytest.approx(0.6, rel=0.01)


def test_a_net_without_gradients_is_an_error(images):
    class Classes(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x.mean((2, 3))).argmax(1)

    with pytest.raises(experiment.UserError, match="output has no gradient"):
        experiment.prune(Classes(), [images], method="WT", keep_ratio=0.5)


def test_compiled_nets_are_pruned_as_they_are(small_net, images):
    plain = experiment.prune(small_net, [images], method="SiPP", keep_ratio=0.5)
    compiled = experiment.prune(torch.compile(small_net), [images], method="SiPP", keep_ratio=0.5)
    assert [mask.tolist() for mask in plain.masks.values()] == [
        mask.tolist() for mask in compiled.masks.values()
    ]


def test_attention_is_alive():
    net = Attention()
    masks = keep_all(net)
    assert size(dead_removed(net, masks, torch.zeros(2, 5, 8))) == size(masks)


@pytest.mark.parametrize(
    "size_of",
    [
        lambda budget: budget,  # nothing dies
        lambda budget: max(0, budget - 300),  # a constant number dies
        lambda budget: int(budget**2 / 10_000),  # more dies the less is kept
        lambda budget: 0 if budget < 5_000 else budget - 100,  # everything dies at once
    ],
)
def test_calibration_finds_the_size(size_of):
    for target in (9_500, 6_000, 5_200):
        best, evaluations = calibrate(
            size_of, lambda attempt: attempt, target, 10_000, target, 0.002 * target
        )
        assert evaluations <= MAX_EVALUATIONS and abs(best - target) <= 0.005 * target


def test_calibration_gives_the_closest_where_the_target_cannot_be_met():
    best, evaluations = calibrate(
        lambda budget: 0 if budget < 500 else 900, lambda size: size, 400, 1_000, 400, 1
    )
    assert best == 0 and evaluations <= MAX_EVALUATIONS


class GlobalRandom(ScoreMethod):
    """A method that ignores the stream it is given."""

    def scores(self, analysis, stream):
        return {name: torch.rand_like(weight) for name, weight in analysis.weights.items()}


def test_torchs_own_random_numbers_are_seeded_too(small_net, images):
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(masks))
        method = GlobalRandom()
        pruned = experiment.prune(small_net, [images], method=method, keep_ratio=0.5, seed=seed)
        masks.append(pruned.masks["conv1.weight"])
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_a_jump_of_nested_budgets_ends_the_search():
    """Two adjacent budgets give 10 and 90: nothing is closer to 40 than 10."""
    tried = []

    def attempt(budget):
        tried.append(budget)
        return 10 if budget < 517 else 90

    best, evaluations = calibrate(attempt, int, 40, 1000, 40, 0.1, Budgets(nested=True))
    assert best == 10 and evaluations == len(tried) < 20 and {516, 517} <= set(tried)


def test_budgets_that_are_alike_are_evaluated_once():
    """Every 100 budgets keep the same: 11 sizes, of which 300 and 400 are next to the target."""
    tried = []

    def attempt(budget):
        tried.append(budget)
        return 100 * (budget // 100)

    def alike(budget):
        start = 100 * (budget // 100)
        return range(start, min(start + 100, 1001))

    budgets = Budgets(nested=True, alike=alike)
    best, evaluations = calibrate(attempt, int, 340, 1000, 340, 0.1, budgets)
    assert best == 300 and len({budget // 100 for budget in tried}) == len(tried) == evaluations
    assert evaluations <= 4


def test_a_head_of_zeros_is_found_to_be_a_jump():
    """Its weights go first, and then all is dead; with one of them, half of the net is alive."""
    torch.manual_seed(0)
    layers = nn.Linear(50, 200), nn.ReLU(), nn.Linear(200, 50), nn.ReLU(), nn.Linear(50, 10)
    nn.init.zeros_(layers[4].weight)
    with pytest.warns(UserWarning, match="degenerate"):
        pruned = experiment.prune(
            nn.Sequential(*layers), [torch.rand(4, 50)], method="WT", keep_ratio=0.2
        )
    assert size(pruned.masks) == 10 and pruned.evaluations <= 5


@pytest.mark.parametrize("method", ["FT", "SoftNet", "PFP"])
def test_filter_methods_find_the_closest_possible_size(method):
    torch.manual_seed(0)
    net = experiment.build_network("lenet5", input_shape=(1, 28, 28), num_classes=10)
    images = torch.rand(4, 1, 28, 28)
    analysis = Analysis(net, [images])
    prepared = named_method(method).prepare(analysis, Stream(0))
    pruner = Pruner(net, [images])
    lengths = range(prepared.fewest, len(prepared.blocks) + 1)
    budgets = {prepared.count(prepared._top(length)) for length in lengths}
    sizes = [pruner._attempt(prepared, budget).size for budget in budgets]
    for keep_ratio in (0.9, 0.5, 0.2):
        pruned = pruner.prune(named_method(method), keep_ratio, Stream(0))
        target = int(keep_ratio * pruner.original_size)
        closest = min(abs(size - target) for size in sizes)
        found = abs(size(pruned.masks) - target)
        assert found <= max(closest, 0.002 * min(target, pruner.original_size - target))
        assert pruned.evaluations < 20


@pytest.mark.parametrize("method", METHODS.names())
def test_what_a_pruning_returns_may_be_written_to(method):
    """Nothing of it shares memory with what the next pruning reads."""
    torch.manual_seed(0)
    net = experiment.build_network("lenet5", input_shape=(1, 16, 16), num_classes=4)
    batch = (torch.rand(8, 1, 16, 16), torch.arange(8) % 4)
    pruner = Pruner(net, [batch], loss=nn.functional.cross_entropy)
    first = pruner.prune(named_method(method), 1.0, Stream(0))
    expected = pruner.prune(named_method("WT"), 0.5, Stream(0))
    first.decision.kept.fill_(False)
    for mask in first.masks.values():
        mask.fill_(False)
    again = pruner.prune(named_method("WT"), 0.5, Stream(0))
    assert again.keep_ratio == expected.keep_ratio
    assert all(torch.equal(again.masks[name], expected.masks[name]) for name in expected.masks)
