"""The contract of every registered method, on several kinds of nets, and methods as published."""

import copy
import functools
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass, fields

import numpy
import pytest
import torch
import torch.nn.utils.prune
from torch import nn

import experiment
from experiment.allocation.layers import layer_budgets
from experiment.allocation.rows import row_budgets
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.nets.masks import enforcer
from experiment.pruning.analysis import Analysis
from experiment.pruning.unit_sampling import UnitSampling


class GroupedNet(nn.Module):
    """Plain, grouped and depthwise convolutions."""

    def __init__(self):
        super().__init__()
        self.plain, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.wide, self.bn2 = nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16)
        self.depthwise, self.narrow = nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.grouped(torch.relu(self.bn1(self.plain(x)))))
        x = torch.relu(self.depthwise(torch.relu(self.bn2(self.wide(x)))))
        return self.fc(torch.relu(self.narrow(x)).mean((2, 3)))


NETS = {
    "resnet20": (
        lambda: experiment.build_network("resnet20", input_shape=(3, 8, 8), num_classes=4),
        (3, 8, 8),
    ),
    "lenet5": (
        lambda: experiment.build_network("lenet5", input_shape=(3, 8, 8), num_classes=4),
        (3, 8, 8),
    ),
    "grouped": (GroupedNet, (3, 8, 8)),
    "vit": (
        lambda: experiment.build_network(
            "vit", input_shape=(3, 8, 8), num_classes=4, depth=2, width=24
        ),
        (3, 8, 8),
    ),
}
CASES = [(method, net) for method in METHODS.names() for net in NETS]
SEED = 7


@dataclass(frozen=True)
class Case:
    """A method, a net and a batch; `before` is the net's state before the method saw it."""

    method: str
    network: str
    net: nn.Module
    batch: tuple[torch.Tensor, torch.Tensor]
    before: dict[str, torch.Tensor]

    def prune(self, net, keep_ratio, **options):
        return experiment.prune(
            net,
            [self.batch],
            method=self.method,
            keep_ratio=keep_ratio,
            loss=nn.functional.cross_entropy,
            seed=SEED,
            **options,
        )

    @functools.cached_property
    def first(self):
        return self.prune(self.net, 0.7)

    @functools.cached_property
    def second(self):
        """What the method makes of its own result."""
        return self.prune(self.first.net, 0.5, masks=self.first.masks)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    """Tests that share a case run one after the other, so that each prunes once for all of them."""
    method, network = request.param
    torch.manual_seed(0)
    build, shape = NETS[network]
    net = build()
    batch = torch.rand(12, *shape, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 4
    before = {key: value.clone() for key, value in net.state_dict().items()}
    return Case(method, network, net, batch, before)


@pytest.mark.filterwarnings("ignore:the pruned net is degenerate")
class TestContract:
    """What every registered method promises, one property a test."""

    def test_does_not_change_the_net(self, case):
        assert case.first.net is not case.net
        for key, value in case.net.state_dict().items():
            assert torch.equal(value, case.before[key])

    def test_reaches_the_size_or_says_why_not(self, case):
        for pruned, asked in ((case.first, 0.7), (case.second, 0.5)):
            assert (
                pruned.keep_ratio == pytest.approx(asked, rel=0.005) or "parameters" in pruned.note
            )
            # of the transformer filters are a small part
            assert pruned.keep_ratio == pytest.approx(asked, rel=0.25) or case.network == "vit"

    def test_decides_the_same_for_the_same_stream(self, case):
        again = case.prune(case.net, 0.7)
        for key, mask in case.first.masks.items():
            assert torch.equal(mask, again.masks[key])
        for one, other in zip(case.first.net.parameters(), again.net.parameters()):
            assert torch.equal(one, other)

    def test_answers_the_same_whatever_it_was_asked_before(self, case):
        prepared = prepare(case.method, analysis_of(case.net, case.batch))
        first = prepared.choose(1000)
        for budget in (0, 700, 10**9):
            prepared.choose(budget)
        again = prepared.choose(1000)
        assert torch.equal(first.kept, again.kept)
        one, other = prepared.decide(first), prepared.decide(again)
        assert (one.factors is None) == (other.factors is None)
        assert one.factors is None or torch.equal(one.factors, other.factors)

    def test_keeps_all_that_it_is_allowed_to(self, case):
        analysis = analysis_of(case.net, case.batch)
        prepared = prepare(case.method, analysis)
        decision = prepared.decide(prepared.choose(len(analysis.candidates)))
        assert decision.kept.all()
        assert decision.factors is None or (decision.factors == 1).all()

    def test_keeps_no_more_than_the_budget(self, case):
        """Drawn weights meet the budget in expectation; one filter of each layer always stays."""
        analysis = analysis_of(case.net, case.batch)
        prepared = prepare(case.method, analysis)
        least = int(prepared.choose(0).kept.sum())
        assert least == 0 or METHODS.get(case.method).granularity == "filters"
        for share in (0.3, 0.6):
            budget = round(share * len(analysis.candidates))
            by_chance = isinstance(prepared, UnitSampling)
            allowed = budget + 5 * math.sqrt(budget) if by_chance else max(budget, least)
            assert prepared.choose(budget).kept.sum() <= allowed

    def test_decision_is_plain_data(self, case):
        decision = case.first.decision
        copied = pickle.loads(pickle.dumps(decision))
        assert torch.equal(copied.kept, decision.kept)
        for value in [*vars(decision).values(), *decision.vectors.values()]:
            assert isinstance(value, torch.Tensor | numpy.ndarray | dict | None)

    def test_leaves_removed_parameters_removed(self, case):
        for key, mask in case.first.masks.items():
            assert not (case.second.masks[key] & ~mask).any()

    def test_gives_numbers(self, case):
        for pruned in (case.first, case.second):
            assert all(parameter.isfinite().all() for parameter in pruned.net.parameters())
            assert pruned.net.eval()(case.batch[0]).isfinite().all()

    def test_masks_hold_while_training(self, case):
        net, (inputs, targets) = copy.deepcopy(case.second.net).train(), case.batch
        keep_masks = enforcer(net, case.second.masks)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), targets).backward()
            optimizer.step()
            keep_masks()
        for key, parameter in net.named_parameters():
            assert (parameter[~case.second.masks[key]] == 0).all()


def analysis_of(net, batch, loss=nn.functional.cross_entropy, masks=None):
    return Analysis(net, [batch], loss=loss, masks=masks)


def scores_of(method, net, batch, loss=nn.functional.cross_entropy, **options):
    return METHODS.build(method, options).scores(analysis_of(net, batch, loss), Stream(0))


def prepare(method, analysis, **options):
    """The method, ready to be asked about budgets."""
    return METHODS.build(method, options).prepare(analysis, Stream(0))


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), (
        torch.rand(6, 5),
        torch.arange(6) % 3,
    )


def test_magnitude_agrees_with_torch(linear):
    net, batch = linear
    pruned = experiment.prune(net, [batch], method="WT", keep_ratio=0.7)
    kept = sum(int(mask.sum()) for name, mask in pruned.masks.items() if name.endswith("weight"))
    torch.nn.utils.prune.global_unstructured(
        [(net[0], "weight"), (net[2], "weight")],
        torch.nn.utils.prune.L1Unstructured,
        amount=32 - kept,
    )
    assert torch.equal(pruned.masks["0.weight"], net[0].weight_mask.bool())
    assert torch.equal(pruned.masks["2.weight"], net[2].weight_mask.bool())


def test_layer_wise_magnitude_keeps_the_same_share_of_each_layer(linear):
    net, batch = linear
    layers = experiment.prune(net, [batch], method="WTLayer", keep_ratio=0.6).layers
    assert layers["keep_ratio"].max() - layers["keep_ratio"].min() < 0.1


def test_snip_is_gradient_times_weight(linear):
    net, batch = linear
    nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
    expected = (net[0].weight.grad * net[0].weight).abs()
    torch.testing.assert_close(scores_of("SNIP", net, batch)["0"], expected)
    halves = [(batch[0][:2], batch[1][:2]), (batch[0][2:], batch[1][2:])]
    whole = experiment.prune(
        net, [batch], method="SNIP", keep_ratio=0.5, loss=nn.functional.cross_entropy
    )
    parts = experiment.prune(
        net, halves, method="SNIP", keep_ratio=0.5, loss=nn.functional.cross_entropy
    )
    assert all(torch.equal(mask, parts.masks[name]) for name, mask in whole.masks.items())


def test_grasp_by_hand():
    """Loss (w x)^2 / 2 with w = (2, 1) and x = (1, 3).

    g = (w x) x = 5 x, H = x x', H g = 50 x, and w times H g is (100, 150).
    """
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, 1.0]]))
    batch = torch.tensor([[1.0, 3.0]]), torch.zeros(1)
    scores = scores_of(
        "GraSP", net, batch, lambda outputs, targets: (outputs**2).sum() / 2, temperature=1.0
    )
    assert scores[""].flatten().tolist() == pytest.approx([100, 150])


def test_wanda_by_hand():
    """|w| times the norm of each input over all points: norms 5 and 2."""
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, -3.0]]))
    scores = scores_of("Wanda", net, (torch.tensor([[3.0, 2.0], [-4.0, 0.0]]), torch.zeros(2)))
    assert scores[""].flatten().tolist() == pytest.approx([5, 6])
    conv = nn.Conv1d(1, 1, 2, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1.0)
    scores = scores_of("Wanda", conv, (torch.tensor([[[1.0, 2.0, 2.0]]]), torch.zeros(1)))
    assert scores[""].flatten().tolist() == pytest.approx([5**0.5, 8**0.5])


def published_wanda(weight, inputs, share):
    """Row by row: the smallest |w| x ||input|| go, as many as the share says (Sun et al. 2024)."""
    norms = inputs.double().square().sum(0).sqrt()
    mask = torch.ones_like(weight, dtype=torch.bool)
    for row in range(len(weight)):
        scores = [abs(float(weight[row, j])) * float(norms[j]) for j in range(weight.shape[1])]
        order = sorted(range(len(scores)), key=lambda j: scores[j])
        mask[row, order[: round(share * len(scores))]] = False
    return mask


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_wanda_as_published(share):
    """Exact where the share of a row is a whole number."""
    torch.manual_seed(0)
    net, inputs = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8)), torch.randn(20, 16)
    with torch.no_grad():
        hidden = net[:2](inputs)
    analysis = analysis_of(net, (inputs, torch.zeros(20)))
    kept = prepare("Wanda", analysis).choose(round((1 - share) * (16 * 12 + 12 * 8))).kept
    masks = analysis.flat.split(kept)
    assert torch.equal(masks["0"], published_wanda(net[0].weight.detach(), inputs, share))
    assert torch.equal(masks["2"], published_wanda(net[2].weight.detach(), hidden, share))


def test_rows_share_a_budget_exactly():
    """Each row and each layer gets its share, but for rounding; a row that has less keeps all."""
    lengths = numpy.array([9] * 1000 + [27] * 1000)
    for budget in (0, 1, 180, 5_000, 18_001, 35_999, 36_000, 99_999):
        counts = row_budgets(lengths, lengths, budget)
        asked = min(budget, 36_000)
        assert counts.sum() == asked
        assert (numpy.abs(counts - asked * lengths / 36_000) < 1).all()
        assert abs(counts[:1000].sum() - asked / 4) <= 1
    assert row_budgets(numpy.array([4, 4, 4]), numpy.array([1, 4, 3]), 7).tolist() == [1, 3, 3]
    left = numpy.random.default_rng(0).integers(0, 28, 2000)
    counts = row_budgets(lengths, numpy.minimum(left, lengths), 12_345)
    assert counts.sum() == 12_345 and (counts <= left).all()


def test_scores_are_compared_within_rows_for_every_method_that_scores(linear):
    net, batch = linear
    masks = torch.ones(32, dtype=torch.bool)
    masks[:4] = False  # of the first row one is left
    masks = {"0.weight": masks[:20].reshape(4, 5), "2.weight": masks[20:].reshape(3, 4)}
    analysis = analysis_of(net, batch, masks=masks)
    kept = analysis.flat.split(prepare("WT", analysis, allocation="row").choose(15).kept)
    assert kept["0"].sum(1).tolist()[0] == 1 and not (kept["0"] & ~analysis.masks["0.weight"]).any()
    assert sum(int(mask.sum()) for mask in kept.values()) == 15
    for name in ("0", "2"):
        for row, mask in zip(analysis.weights[name][1:], kept[name][1:]):
            assert 2 <= mask.sum() <= 3 and row[mask].abs().min() > row[~mask].abs().max()


class Residual(nn.Module):
    """Convolutions, some with BatchNorm, around an addition."""

    def __init__(self, normalised):
        super().__init__()
        self.first, self.inner = (
            nn.Conv2d(3, 8, 3, bias=False),
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(8) if normalised else nn.Identity() for _ in range(2)
        )
        self.head = nn.Linear(8, 5, bias=False)

    def forward(self, x):
        x = torch.relu(self.norms[0](self.first(x)))
        return self.head(torch.relu(x + self.norms[1](self.inner(x))).mean((2, 3)))


def published_synflow(net, density, rounds=100):
    """Tanaka et al. 2020, Algorithm 1, on the net of absolute values."""
    net = copy.deepcopy(net).double().eval()
    for value in net.state_dict().values():
        value.abs_()
    weights = [value for value in net.parameters() if value.dim() > 1]
    for step in range(1, rounds + 1):
        flow = net(torch.ones(1, 3, 8, 8, dtype=torch.float64)).sum()
        scores = []
        for weight, gradient in zip(weights, torch.autograd.grad(flow, weights)):
            scores += (weight * gradient).flatten().tolist()
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        dropped = set(order[round(len(scores) * density ** (step / rounds)) :])
        start = 0
        for weight in weights:
            kept = [index not in dropped for index in range(start, start + weight.numel())]
            weight.data *= torch.tensor(kept).reshape(weight.shape)
            start += weight.numel()
    return torch.cat([weight.flatten() != 0 for weight in weights])


@pytest.mark.parametrize("density", [0.5, 0.1, 0.02])
@pytest.mark.parametrize("normalised", [False, True])
def test_synflow_as_published(normalised, density):
    torch.manual_seed(0)
    net = Residual(normalised)
    for norm in net.norms if normalised else ():
        nn.init.uniform_(norm.weight, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    analysis = analysis_of(net, (torch.randn(2, 3, 8, 8), torch.zeros(2)))
    budget = round(density * len(analysis.candidates))
    kept = prepare("SynFlow", analysis).choose(budget).kept
    published = published_synflow(net, budget / len(kept))
    assert kept.sum() == published.sum() == budget
    assert (kept & published).sum() >= 0.999 * budget


def test_synflow_of_a_net_whose_flow_is_beyond_double_precision():
    """Weights a power of 2 as large multiply all flows alike: here by 2^1600."""
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Linear(4, 4, bias=False) for _ in range(400)])
    large = copy.deepcopy(net)
    with torch.no_grad():
        for weight in large.parameters():
            weight.mul_(16)
    batch = torch.rand(2, 4), torch.zeros(2)
    masks = [
        prepare("SynFlow", analysis_of(of, batch), rounds=3).choose(3000).kept
        for of in (net, large)
    ]
    assert torch.equal(*masks) and masks[0].sum() == 3000


@dataclass
class Output(OrderedDict):
    """As the outputs of transformers: a dataclass that is a dict as well."""

    logits: torch.Tensor
    hidden: tuple | None = None

    def __post_init__(self):
        for field in fields(self):
            self[field.name] = getattr(self, field.name)


class WithOutput(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.unread = net, nn.Linear(3, 3)

    def forward(self, x):
        logits = self.net(x)
        return Output(logits, hidden=(self.unread(logits), torch.arange(3)))


@pytest.mark.parametrize("method", ["SNIP", "GraSP"])
def test_gradients_through_outputs_that_are_dataclasses(linear, method):
    """The user's loss sees what the net returns, with GraSP's temperature applied to its floats.

    Weights that the loss does not depend on have the score 0.
    """
    net, batch = linear

    def loss(outputs, targets):
        assert isinstance(outputs, Output) and outputs["logits"] is outputs.logits
        assert outputs.hidden[1].tolist() == [0, 1, 2]
        return nn.functional.cross_entropy(outputs.logits, targets)

    scores = scores_of(method, WithOutput(net), batch, loss=loss)
    expected = scores_of(method, net, batch)
    assert not scores["unread"].any()
    for name in expected:
        torch.testing.assert_close(scores[f"net.{name}"], expected[name])


def test_grasp_through_functions_that_torch_cannot_derive_twice():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(5, 8), nn.Hardsigmoid(), nn.Linear(8, 8), nn.Hardswish(), nn.Linear(8, 3)
    )
    by_hand = copy.deepcopy(net)
    by_hand[1] = nn.Sequential(nn.Hardtanh(-3, 3), nn.Linear(8, 8))
    with torch.no_grad():  # hardsigmoid(x) = (min(max(x, -3), 3) + 3) / 6
        by_hand[1][1].weight.copy_(torch.eye(8) / 6)
        by_hand[1][1].bias.fill_(0.5)
    batch = torch.randn(6, 5), torch.arange(6) % 3
    scores, expected = scores_of("GraSP", net, batch), scores_of("GraSP", by_hand, batch)
    torch.testing.assert_close(scores["0"], expected["0"])
    assert scores["0"].any()

    def alignment(outputs, targets):
        outputs = nn.functional.log_softmax(outputs, -1)[:, None]
        return nn.functional.ctc_loss(
            outputs, torch.tensor([[1, 2]]), torch.tensor([6]), torch.tensor([2])
        )

    with pytest.raises(experiment.UserError, match="GraSP needs second derivatives"):
        scores_of("GraSP", net, batch, loss=alignment)


def test_synflow_keeps_a_bottleneck_open():
    """Two weights among hundreds: magnitude would cut them, flow keeps them to the last."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(50, 2, bias=False), nn.Linear(2, 1, bias=False), nn.Linear(1, 50, bias=False)
    )
    with torch.no_grad():
        net[1].weight.mul_(0.01)
    pruned = experiment.prune(net, [torch.rand(4, 50)], method="SynFlow", keep_ratio=0.1)
    assert pruned.masks["1.weight"].any() and pruned.keep_ratio == pytest.approx(0.1, abs=0.02)


def test_erk_densities_by_hand():
    """Sums of dimensions 4 + 6 and 6 + 30 split 46 weights 10 to 36; 150 fill the first layer."""
    shapes = [torch.Size([4, 6]), torch.Size([6, 30])]
    assert layer_budgets("erk", shapes, [24, 180], 46) == [10, 36]
    assert layer_budgets("erk", shapes, [24, 180], 150) == [24, 126]
    assert layer_budgets("uniform", shapes, [24, 180], 51) == [6, 45]
    assert layer_budgets("uniform", shapes, [3, 180], 51) == [3, 48]
    assert sum(layer_budgets("erk", shapes, [24, 180], 47)) == 47
    assert layer_budgets("erk", shapes, [24, 180], 999) == [24, 180]


def test_methods_with_gradients_ask_for_a_loss(linear):
    net, batch = linear
    with pytest.raises(experiment.UserError, match="needs loss="):
        experiment.prune(net, [batch], method="SNIP", keep_ratio=0.5)
    with pytest.raises(experiment.UserError, match="must be \\(inputs, targets\\)"):
        experiment.prune(
            net, [batch[0]], method="GraSP", keep_ratio=0.5, loss=nn.functional.cross_entropy
        )
