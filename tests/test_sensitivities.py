"""Sensitivities: computed by hand, properties, every kind of layer and net, and the kernels."""

import math
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from torch import nn

from experiment import UserError, sensitivities
from experiment.nets.layers import find_layers
from experiment.sensitivity import max_product, max_product_eager, points
from experiment.sensitivity.empirical import measure
from experiment.sensitivity.max_product import kernel
from experiment.sensitivity.reference import contributions, reference_sensitivities


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def only(net, batches, reduction="mean"):
    (result,) = sensitivities(net, batches, reduction).values()
    return result


def with_weight(layer, weight):
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight).reshape(layer.weight.shape))
    return layer


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_linear_by_hand():
    """Weights (2, 1, -3).

    At (1, 2, 1) the shares are 2/4, 2/4, 3/3; at (3, 2, 0) they are 6/8, 2/8 and none.
    """
    layer = with_weight(nn.Linear(3, 1), [2.0, 1.0, -3.0])
    assert only(layer, [torch.tensor([[1.0, 2, 1], [3, 2, 0]])]).tolist() == [[0.75, 0.5, 1.0]]


def test_signed_inputs_are_two_points():
    """At (1, -2, -1): all of the positive part (1, 0, 0) is due to weight 0.

    Of the negative part (0, 2, 1), 2/5 and 3/5 are due to the others.
    """
    layer = with_weight(nn.Linear(3, 1), [2.0, 1.0, 3.0])
    assert only(layer, [torch.tensor([[1.0, -2, -1]])]).flatten().tolist() == pytest.approx(
        [1, 0.4, 0.6]
    )


def test_a_unit_that_sees_nothing_has_no_sensitivity():
    layer = with_weight(nn.Linear(2, 2), [[1.0, 0.0], [-1.0, 1.0]])
    assert only(layer, [torch.tensor([[0.0, 1.0]])]).tolist() == [[0, 0], [0, 1]]
    tiny = torch.finfo(torch.float32).eps
    assert only(layer, [torch.tensor([[tiny, 0.0]])]).tolist() == [[0, 0], [0, 0]]
    assert only(layer, [torch.tensor([[2 * tiny, 0.0]])]).tolist() == [[1, 0], [1, 0]]


def test_convolution_by_hand():
    """Kernel (1, 3), stride 2, padding 1 on (1, 2, 3): patches (0, 1) and (2, 3).

    Shares: 0, 3/3; 2/11, 9/11. Mean (1/11, 10/11), maximum (2/11, 1).
    """
    layer = with_weight(nn.Conv1d(1, 1, 2, stride=2, padding=1, bias=False), [1.0, 3.0])
    image = torch.tensor([[[1.0, 2, 3]]])
    assert only(layer, [image]).flatten().tolist() == pytest.approx([1 / 11, 10 / 11])
    assert only(layer, [image], "max").flatten().tolist() == pytest.approx([2 / 11, 1])
    # a second image raises the maximum over samples, not the mean over both
    # patches (0, 0) and (5, 0): shares 0, 0; 1, 0; mean (1/2, 0)
    other = torch.tensor([[[0.0, 5, 0]]])
    assert only(layer, [image, other]).flatten().tolist() == pytest.approx([1 / 2, 10 / 11])


def test_the_mean_of_a_signed_convolution_takes_the_larger_of_its_two_parts():
    """Kernel (1, 1) on (2, -1, -3): patches (2, -1) and (-1, -3).

    Positive parts (2, 0), (0, 0): shares (1, 0) and none, means (1/2, 0).
    Negative parts (0, 1), (1, 3): shares (0, 1) and (1/4, 3/4), means (1/8, 7/8).
    """
    layer = with_weight(nn.Conv1d(1, 1, 2, bias=False), [1.0, 1.0])
    assert only(layer, [torch.tensor([[[2.0, -1.0, -3.0]]])]).flatten().tolist() == pytest.approx(
        [1 / 2, 7 / 8]
    )


def test_contributions_of_a_unit_sum_to_one():
    shares = contributions(torch.rand(7), torch.rand(7, 5))
    assert shares.sum(0).tolist() == pytest.approx([1] * 5)
    layer = nn.Linear(6, 4)
    one = only(layer, [torch.rand(1, 6)])  # a single point: the sensitivities are its shares
    for part in (one * (layer.weight > 0), one * (layer.weight < 0)):
        assert all(total == pytest.approx(1) or total == 0 for total in part.sum(1).tolist())


torch.manual_seed(0)
LAYERS = [
    nn.Conv2d(4, 6, 3, stride=2, padding=1),
    nn.Conv2d(4, 6, (3, 2), padding=(2, 1), dilation=(2, 1), groups=2),
    nn.Conv2d(4, 8, 3, groups=4, padding="same"),
    nn.Conv2d(4, 6, 1),
    nn.Conv2d(4, 5, 3, stride=3),
]


@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_fast_agrees_with_the_reference_implementation(layer, reduction):
    padding = layer.padding
    if padding == "same":
        layer = nn.Conv2d(
            4, 8, 3, groups=4, padding=1
        )  # the same for the reference, which takes numbers only
    images = random(3, 4, 9, 8)
    slow, fast = (
        reference_sensitivities(layer, [images], reduction)[""],
        only(layer, [images], reduction),
    )
    assert 0 <= fast.min() and fast.max() <= 1 and fast.max() > 0.1
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "shape"), [(nn.Conv1d, (12,)), (nn.Conv2d, (7, 6)), (nn.Conv3d, (5, 4, 6))]
)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_a_convolution_agrees_with_the_linear_layer_on_its_unrolled_input(kind, shape, mode):
    if kind is nn.Conv3d and mode == "reflect":
        pytest.skip("torch pads no 5-dimensional tensor of this size by reflection here")
    layer = kind(4, 6, 3, stride=2, padding=1, dilation=1, groups=2, padding_mode=mode)
    images = random(2, 4, *shape)
    pads = [1, 1] * len(shape)
    padded = nn.functional.pad(images, pads, mode="constant" if mode == "zeros" else mode)
    expected = []
    for group in range(2):
        patches = padded[:, 2 * group : 2 * group + 2]
        for dim in range(2, 2 + len(shape)):
            patches = patches.unfold(dim, 3, 2)
        order = [0, *range(2, 2 + len(shape)), 1, *range(2 + len(shape), 2 + 2 * len(shape))]
        unrolled = patches.permute(order).reshape(-1, 2 * 3 ** len(shape))
        linear = with_weight(
            nn.Linear(unrolled.shape[1], 3), layer.weight[3 * group : 3 * group + 3].detach()
        )
        expected.append(only(linear, [unrolled]).reshape(3, *layer.weight.shape[1:]))
    torch.testing.assert_close(
        only(layer, [images], "max"), torch.cat(expected), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_scaling_a_filter_or_the_input_changes_nothing(small_net, reduction):
    inputs = torch.rand(4, 8, 6, 6, generator=torch.Generator().manual_seed(3))
    before = only(small_net.conv2, [inputs], reduction)
    torch.testing.assert_close(only(small_net.conv2, [7 * inputs], reduction), before)
    with torch.no_grad():
        small_net.conv2.weight[3] *= 11
    torch.testing.assert_close(only(small_net.conv2, [inputs], reduction), before)


def test_permuting_channels_permutes_sensitivities():
    layer, images = nn.Conv2d(5, 7, 3), random(3, 5, 6, 6)
    inputs, outputs = torch.randperm(5), torch.randperm(7)
    permuted = with_weight(nn.Conv2d(5, 7, 3), layer.weight.detach()[outputs][:, inputs])
    torch.testing.assert_close(
        only(permuted, [images[:, inputs]]), only(layer, [images])[outputs][:, inputs]
    )


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_batch_size_and_tile_size_do_not_matter(small_net, images, reduction, monkeypatch):
    whole = sensitivities(small_net, [images], reduction)
    one_by_one = sensitivities(small_net, images.split(1), reduction)
    monkeypatch.setitem(points.TILE_BYTES, "cpu", 3000)  # less than one sample of the first layer
    tiled = sensitivities(small_net, [images], reduction)
    for name in whole:
        torch.testing.assert_close(one_by_one[name], whole[name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(tiled[name], whole[name], rtol=1e-5, atol=1e-7)


def test_both_reductions_in_one_pass_equal_those_of_two(small_net, images):
    both = measure(small_net, find_layers(small_net, [images]).prunable, [images], ("mean", "max"))
    for reduction in ("mean", "max"):
        for name, alone in sensitivities(small_net, [images], reduction).items():
            assert torch.equal(both[reduction][name], alone)
    assert all((both["mean"][name] <= both["max"][name] + 1e-6).all() for name in both["mean"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_agrees_with_float32(small_net, images, dtype):
    small_net.half() if dtype is torch.float16 else small_net.bfloat16()
    half = sensitivities(small_net, [images.to(dtype)])
    full = sensitivities(small_net.float(), [images.to(dtype).float()])
    for name in full:
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], full[name], rtol=0.1, atol=0.02)


def test_autocast_does_not_reach_the_computation(small_net, images):
    plain = sensitivities(small_net, [images])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = sensitivities(small_net, [images])
    assert torch.equal(
        plain["conv1"], cast["conv1"]
    )  # its input is not cast, and neither is what follows


def test_the_net_is_not_modified(small_net, images):
    small_net.train()
    small_net.bn1.eval()
    small_net.conv1.weight.requires_grad_(False)
    statistics = small_net.bn1.running_mean.clone(), small_net.bn2.running_mean.clone()
    result = sensitivities(small_net, [images])
    assert small_net.training and small_net.conv2.training and not small_net.bn1.training
    assert not small_net.conv1.weight.requires_grad and small_net.fc.weight.requires_grad
    assert torch.equal(statistics[0], small_net.bn1.running_mean)
    assert torch.equal(statistics[1], small_net.bn2.running_mean)
    assert not any(value.requires_grad for value in result.values())
    assert all(not module._forward_hooks for module in small_net.modules())
    assert all(parameter.grad is None for parameter in small_net.parameters())


def test_hooks_are_removed_even_if_the_net_fails(small_net):
    with pytest.raises(UserError, match="cannot run on the batch"):
        sensitivities(small_net, [torch.rand(2, 5, 8, 8)])
    assert all(not module._forward_hooks for module in small_net.modules()) and small_net.training


class Shared(nn.Module):
    """One layer used twice, one that never runs, a tied weight, and inputs by name."""

    def __init__(self):
        super().__init__()
        self.twice, self.never, self.tied = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.tied.weight = self.twice.weight

    def forward(self, left, right):
        return self.twice(left) + self.twice(right) + self.tied(left - right)


def test_layers_used_more_than_once_take_the_maximum_and_unused_ones_are_reported():
    net, left, right = Shared(), random(3, 4), random(3, 4, seed=1)
    with pytest.warns(UserWarning, match=r"not pruned: never.weight \(its module never ran"):
        result = sensitivities(net, [{"left": left, "right": right}])
    assert list(result) == ["twice"]
    alone = [only(net.twice, [inputs]) for inputs in (left, right, left - right)]
    torch.testing.assert_close(result["twice"], torch.stack(alone).amax(0))
    with pytest.warns(UserWarning, match="never ran"):
        positional = sensitivities(net, [((left, right), None)])
    assert torch.equal(positional["twice"], result["twice"])


def test_tokens_are_points():
    layer, tokens = nn.Linear(4, 3), random(2, 5, 4)
    torch.testing.assert_close(only(layer, [tokens]), only(layer, [tokens.reshape(10, 4)]))


def test_transformer_layers_do_not_bypass_their_linear_layers():
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    names = {"linear1", "linear2", "self_attn.in_proj_weight", "self_attn.out_proj"}
    assert sensitivities(net, [random(2, 5, 8)]).keys() == names


def test_an_unbatched_image_is_one_sample():
    layer, image = nn.Conv2d(2, 3, 3), random(2, 6, 6)
    assert torch.equal(
        only(layer, [image[None]]), sensitivities(nn.Sequential(layer), [image])["0"]
    )


@pytest.mark.parametrize("groups", [1, 3])
def test_kernels_agree_with_the_plain_product(groups):
    samples, filters, size, patches = 2, 5, 7, 1030
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand(samples, groups, size, patches, generator=generator)
    reciprocals = torch.rand(samples, groups, 2, filters, patches, generator=generator)
    weight = torch.randn(groups, filters, size, generator=generator)
    weight[:, 0, :3] = 0
    start = torch.full((groups, filters, size), 0.99)
    products = (matrix[:, :, None, None] * reciprocals[:, :, :, :, None]).amax(-1).amax(0)
    expected = torch.maximum(start, torch.where(weight < 0, products[:, 1], products[:, 0]))
    for max_product_ in (kernel("numba"), max_product_eager.max_product_):
        running = start.clone()
        max_product_(running, matrix, reciprocals, weight)
        assert torch.equal(running[weight != 0], expected[weight != 0])
    assert kernel("numba").__module__.endswith("numba")


FIRST_CALL = """
import sys, torch, experiment
torch.manual_seed(0)
net = experiment.build_network("resnet20", input_shape=(3, 32, 32), num_classes=10)
experiment.prune(net, [torch.randn(4, 3, 32, 32)], method="SiPP", keep_ratio=0.5)
print("numba" in sys.modules)
"""


def test_small_work_waits_for_no_compiler():
    printed = subprocess.run(
        [sys.executable, "-c", FIRST_CALL], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "False"


def test_large_work_is_compiled(monkeypatch):
    """The kernel changes after so many products, and the numbers stay the same."""
    used = []

    def recorded(name):
        used.append(name)
        return kernel(name)

    monkeypatch.setattr(max_product, "kernel", recorded)
    monkeypatch.setattr(max_product, "eager_work", max_product.EagerWork())
    monkeypatch.setattr(max_product, "EAGER_PRODUCTS", 1)
    net, images = nn.Linear(6, 4), torch.rand(5, 6)
    first, second = (sensitivities(net, [images])[""] for _ in range(2))
    assert used == ["eager", "numba"] and torch.equal(first, second)


INTERPRETED = """
import torch
from experiment.nets.layers import find_layers
from experiment.sensitivity import max_product_eager, max_product_triton

generator = torch.Generator().manual_seed(0)
points = torch.rand(2, 2, 19, 33, generator=generator)
reciprocals = torch.rand(2, 2, 2, 18, 33, generator=generator)
weight = torch.randn(2, 18, 19, generator=generator)
results = [torch.full((2, 18, 19), 0.9) for _ in range(2)]
for kernel, running in zip((max_product_eager, max_product_triton), results):
    kernel.max_product_(running, points, reciprocals, weight)
torch.testing.assert_close(*results)
"""


def test_the_triton_kernel_agrees_when_interpreted():
    """Triton's interpreter runs on the CPU what the kernel does on a GPU."""
    pytest.importorskip("triton")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INTERPRETED],
        cwd=ROOT,
        check=True,
        env=os.environ | {"TRITON_INTERPRET": "1"},
    )


def test_the_eager_kernel_is_used_without_a_compiler(monkeypatch):
    def nothing_installed(name):
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", nothing_installed)
    assert (
        kernel.__wrapped__("numba")
        is kernel.__wrapped__("triton")
        is max_product_eager.max_product_
    )


def test_sensitivities_of_pruned_weights_are_zero():
    layer = with_weight(nn.Linear(3, 2), [[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    result = only(layer, [torch.ones(1, 3)])
    assert result[0].tolist() == pytest.approx([0, 1 / 3, 2 / 3]) and not result[1].any()
    assert not math.isnan(float(result.sum()))
