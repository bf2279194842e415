"""The contract of every registered method, on nets of several kinds."""

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

import experiment
from experiment.masks import enforcer
from experiment.registry import METHODS


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
    "resnet20": (lambda: experiment.build_network("resnet20", input_shape=(3, 8, 8), num_classes=4), (3, 8, 8)),
    "lenet5": (lambda: experiment.build_network("lenet5", input_shape=(3, 8, 8), num_classes=4), (3, 8, 8)),
    "grouped": (GroupedNet, (3, 8, 8)),
    "vit": (lambda: experiment.build_network("vit", input_shape=(3, 8, 8), num_classes=4, depth=2, width=24),
            (3, 8, 8)),
}
CASES = [(method, name) for method in METHODS.names() for name in NETS]


@pytest.mark.filterwarnings("ignore:the pruned net is degenerate")
@pytest.mark.parametrize(("method", "name"), CASES, ids=lambda value: value)
def test_every_method_keeps_the_contract(method, name):
    """Budget met, no NaN, same seed same masks, nested in a cascade, masks kept by training steps, net untouched."""
    torch.manual_seed(0)
    build, shape = NETS[name]
    net, generator = build(), torch.Generator().manual_seed(1)
    batch = torch.rand(12, *shape, generator=generator), torch.arange(12) % 4
    before = {key: value.clone() for key, value in net.state_dict().items()}

    def prune(of, keep_ratio, **options):
        return experiment.prune(of, [batch], method=method, keep_ratio=keep_ratio,
                                loss=nn.functional.cross_entropy, seed=7, **options)

    first, again = prune(net, 0.7), prune(net, 0.7)
    assert all(torch.equal(mask, again.masks[key]) for key, mask in first.masks.items())
    assert all(torch.equal(one, other) for one, other in zip(first.net.parameters(), again.net.parameters()))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    second = prune(first.net, 0.5, masks=first.masks)
    assert all(not (second.masks[key] & ~mask).any() for key, mask in first.masks.items())
    for pruned, asked in ((first, 0.7), (second, 0.5)):
        assert pruned.keep_ratio == pytest.approx(asked, rel=0.005) or "parameters" in pruned.note
        assert pruned.keep_ratio == pytest.approx(asked, rel=0.25) or name == "vit"  # of which filters are a part
        assert all(parameter.isfinite().all() for parameter in pruned.net.parameters())
        assert pruned.net.eval()(batch[0]).isfinite().all()
    keep_masks = enforcer(second.net.train(), second.masks)
    optimizer = torch.optim.SGD(second.net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(second.net(batch[0]), batch[1]).backward()
        optimizer.step()
        keep_masks()
    for key, parameter in second.net.named_parameters():
        assert (parameter[~second.masks[key]] == 0).all()


def scores_of(method, net, batch, **options):
    from experiment.seeding import Stream
    from experiment.statistics import Statistics
    statistics = Statistics(net, [batch], loss=nn.functional.cross_entropy)
    return METHODS.build(method, options).scores(statistics, Stream(0))


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), (torch.rand(6, 5), torch.arange(6) % 3)


def test_magnitude_agrees_with_torch(linear):
    net, batch = linear
    pruned = experiment.prune(net, [batch], method="WT", keep_ratio=0.7)
    kept = sum(int(mask.sum()) for name, mask in pruned.masks.items() if name.endswith("weight"))
    torch.nn.utils.prune.global_unstructured([(net[0], "weight"), (net[2], "weight")],
                                             torch.nn.utils.prune.L1Unstructured, amount=32 - kept)
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
    whole = experiment.prune(net, [batch], method="SNIP", keep_ratio=0.5, loss=nn.functional.cross_entropy)
    parts = experiment.prune(net, halves, method="SNIP", keep_ratio=0.5, loss=nn.functional.cross_entropy)
    assert all(torch.equal(mask, parts.masks[name]) for name, mask in whole.masks.items())


def test_grasp_by_hand():
    """Loss (w x)^2 / 2 with w = (2, 1), x = (1, 3): g = (w x) x = 5 x, H = x x', H g = 50 x, w H g = (100, 150)."""
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, 1.0]]))
    from experiment.seeding import Stream
    from experiment.statistics import Statistics
    statistics = Statistics(net, [(torch.tensor([[1.0, 3.0]]), torch.zeros(1))],
                            loss=lambda outputs, targets: (outputs**2).sum() / 2)
    scores = METHODS.build("GraSP", {"temperature": 1.0}).scores(statistics, Stream(0))
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


def test_synflow_keeps_a_bottleneck_open():
    """A layer of two weights among hundreds: by magnitude it would be cut, by flow it is the last to go."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(50, 2, bias=False), nn.Linear(2, 1, bias=False), nn.Linear(1, 50, bias=False))
    with torch.no_grad():
        net[1].weight.mul_(0.01)
    pruned = experiment.prune(net, [torch.rand(4, 50)], method="SynFlow", keep_ratio=0.1)
    assert pruned.masks["1.weight"].any() and pruned.keep_ratio == pytest.approx(0.1, abs=0.02)


def test_erk_densities_by_hand():
    """Sums of dimensions 4 + 6 = 10 and 6 + 30 = 36: 46 weights are split 10 to 36; 150 fill the first."""
    from experiment.allocation.layers import layer_budgets
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
        experiment.prune(net, [batch[0]], method="GraSP", keep_ratio=0.5, loss=nn.functional.cross_entropy)
