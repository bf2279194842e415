"""The contract of pruning, for nets of other libraries: torchvision, timm and transformers."""

import warnings

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torchvision.models import convnext, maxvit, swin_transformer, vision_transformer
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

import experiment
from experiment.nets.running import call
from experiment.nets.tensors import tensors


def by_name(name: str, size: int = 32, **options):
    return lambda: torchvision.models.get_model(name, num_classes=10, **options), (3, size, size)


def with_small_head(name: str, width: int, size: int):
    """A net with one linear layer in place of three with most of 60 to 130 million parameters."""

    def build():
        with torch.device("meta"):
            net = torchvision.models.get_model(name)
        net.classifier = nn.Linear(width, 10, device="meta")
        net = net.to_empty(device="cpu")
        for module in net.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        return net

    return build, (3, size, size)


def small_convnext():
    blocks = [convnext.CNBlockConfig(16, 32, 2), convnext.CNBlockConfig(32, None, 2)]
    return convnext.ConvNeXt(blocks, num_classes=10)


def small_swin(**options):
    return lambda: swin_transformer.SwinTransformer(
        [4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=10, **options
    )


def small_vit():
    net = vision_transformer.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10)
    nn.init.normal_(net.heads.head.weight, std=0.05)  # it starts at zero
    return net


def timm(name: str, **options):
    return lambda: pytest.importorskip("timm").create_model(name, num_classes=10, **options)


def transformer(name: str, **options):
    def build():
        transformers = pytest.importorskip("transformers")
        config = getattr(transformers, f"{name}Config")(
            vocab_size=60, bos_token_id=1, eos_token_id=2, **options
        )
        ending = (
            "ForSequenceClassification"
            if name == "Bert"
            else "LMHeadModel"
            if name == "GPT2"
            else "ForCausalLM"
        )
        return getattr(transformers, name + ending)(config)

    return build, None


IMAGE_NETS = {
    "alexnet": with_small_head("alexnet", 9216, 64),
    "vgg": with_small_head("vgg11_bn", 25088, 32),
    "resnet": (lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10), (3, 32, 32)),
    "resnext": (
        lambda: ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10, groups=32, width_per_group=4),
        (3, 32, 32),
    ),
    "densenet": by_name("densenet121"),
    "efficientnet": by_name("efficientnet_b0"),
    "googlenet": by_name("googlenet", aux_logits=False, init_weights=False),
    "inception": by_name("inception_v3", 75, aux_logits=False, init_weights=False),
    "mnasnet": by_name("mnasnet0_5"),
    "mobilenet_v2": by_name("mobilenet_v2"),
    "mobilenet_v3": by_name("mobilenet_v3_small"),
    "regnet_x": by_name("regnet_x_400mf"),
    "regnet_y": by_name("regnet_y_400mf"),
    "shufflenet": by_name("shufflenet_v2_x0_5"),
    "squeezenet": by_name("squeezenet1_1"),
    "convnext": (small_convnext, (3, 32, 32)),
    "swin": (small_swin(), (3, 32, 32)),
    "swin_v2": (
        small_swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2),
        (3, 32, 32),
    ),
    "maxvit": (
        lambda: maxvit.MaxVit((64, 64), 16, 4, [16, 32], [1, 1], 8, 0.1, num_classes=10),
        (3, 64, 64),
    ),
    "vit": (small_vit, (3, 32, 32)),
    "timm vit": (
        timm("vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=2, num_heads=2),
        (3, 32, 32),
    ),
    "timm convnext": (
        timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
        (3, 32, 32),
    ),
    "timm resnetv2": (timm("resnetv2_50", layers=(1, 1), channels=(32, 64)), (3, 32, 32)),
}
LANGUAGE_NETS = {
    "bert": transformer(
        "Bert",
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    ),
    "gpt2": transformer("GPT2", n_embd=16, n_layer=2, n_head=2, n_positions=16),
    "llama": transformer(
        "Llama", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    ),
}
METHODS = ("SiPP", "SNIP", "FT")
NO_FILTERS = {"gpt2"}
KEEP_RATIOS = {"inception": 0.97}  # 0.9 for the others; the search is long if much dies


def images_loss(outputs, targets):
    return functional.cross_entropy(outputs, targets)


def words_loss(outputs, targets):
    return functional.cross_entropy(outputs.logits.reshape(len(targets), -1), targets)


@pytest.fixture(scope="module", params=[*IMAGE_NETS, *LANGUAGE_NETS])
def family(request):
    """A net of the family, a batch for it, and its loss."""
    torch.manual_seed(0)
    build, shape = (IMAGE_NETS | LANGUAGE_NETS)[request.param]
    net = build().eval()
    inputs = torch.randn(3, *shape) if shape else {"input_ids": torch.randint(60, (3, 5))}
    return request.param, net, (inputs, torch.arange(3) % 2), images_loss if shape else words_loss


@pytest.mark.parametrize("method", METHODS)
def test_families(family, method):
    """The size is right, masked parameters are zero, and dead ones have no influence."""
    name, net, batch, loss = family
    before = {key: value.clone() for key, value in net.state_dict().items()}
    if method == "FT" and name in NO_FILTERS:
        with pytest.raises(
            experiment.UserError, match="no filter that could be removed as a whole"
        ):
            experiment.prune(net, [batch], method=method, keep_ratio=0.5)
        return
    keep_ratio = KEEP_RATIOS.get(name, 0.9)
    with warnings.catch_warnings(action="ignore"):
        pruned = experiment.prune(net, [batch], method=method, keep_ratio=keep_ratio, loss=loss)
    total = sum(parameter.numel() for parameter in net.parameters())
    assert pruned.keep_ratio == sum(int(mask.sum()) for mask in pruned.masks.values()) / total
    assert pruned.keep_ratio == pytest.approx(keep_ratio, rel=0.005) or pruned.size_note
    for key, parameter in pruned.net.named_parameters():
        assert parameter.isfinite().all() and (parameter[~pruned.masks[key]] == 0).all()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert_dead_have_no_influence(pruned, batch[0])


@torch.no_grad()
def assert_dead_have_no_influence(pruned, inputs):
    """Whatever values the dead parameters take, the output stays the same."""
    net = pruned.net.double()
    inputs = inputs.double() if isinstance(inputs, torch.Tensor) else inputs
    expected = [one for one in tensors(call(net, inputs)) if one.is_floating_point()]
    chosen = {}
    if pruned.decision.vectors == {}:  # of removed filters the entries alone are looked at
        pieces = pruned.decision.kept.split(
            [layer.shape.numel() for layer in pruned.found.prunable.values()]
        )
        for layer, piece in zip(pruned.found.prunable.values(), pieces):
            chosen[layer.parameter] = layer.oriented(piece.reshape(layer.shape))
    for key, parameter in net.named_parameters():
        if parameter.dim() == 1 or key in chosen:
            dead = chosen.get(key, torch.tensor(True)) & ~pruned.masks[key]
            parameter[dead] = torch.randn(int(dead.sum()), dtype=torch.float64)
    changed = [one for one in tensors(call(net, inputs)) if one.is_floating_point()]
    assert all(
        torch.allclose(one, other, rtol=1e-9, atol=1e-12 * float(one.abs().max()))
        for one, other in zip(expected, changed)
    )
