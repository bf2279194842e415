"""The public functions with batches, nets and arguments of all kinds, right and wrong."""

import ast
import configparser
import pydoc
import re
import subprocess
import sys
import warnings

import numpy
import pytest
import torch
from conftest import ROOT
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch.utils.data import DataLoader, Dataset, TensorDataset

import experiment
from experiment.methods.magnitude import WT
from experiment.nets.batches import as_batch, as_batches

X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])
CROSS_ENTROPY = nn.functional.cross_entropy


class Dense(nn.Module):
    """Two linear layers that take x, and perhaps a second input."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x, shift=0):
        return self.second(torch.relu(self.first(x + shift)))


class WithLabels(Dense):
    """Computes its own loss from labels, as models of the transformers library do."""

    def forward(self, x, labels=None):
        logits = super().forward(x)
        own = {} if labels is None else {"loss": CROSS_ENTROPY(logits, labels)}
        return {"logits": logits} | own


class Dicts(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return {"x": X[index], "label": Y[index]}


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return Dense()


def prune(net, batches, **arguments):
    return experiment.prune(net, batches, **{"method": "WT", "keep_ratio": 0.5, **arguments})


def refusal(function, *arguments, **options) -> str:
    """The message with which a call is refused: one sentence, on one line."""
    with pytest.raises(experiment.UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")
    return str(caught.value)


# Batches that work


BATCHES = {
    "a loader of dicts": lambda: DataLoader(Dicts(), 3),
    "a generator of dicts": lambda: ({"x": x, "labels": y} for x, y in zip(X.split(2), Y.split(2))),
    "a dict and targets": lambda: [({"x": X, "shift": torch.tensor(0.0)}, Y)],
    "numpy": lambda: [(X.numpy(), Y.numpy())],
    "numpy float64": lambda: [(X.double().numpy(), Y.numpy())],
    "numpy in a dict": lambda: [{"x": X.double().numpy()[::-1][::-1], "target": Y.numpy()}],
    "numpy in a tuple": lambda: [((X.numpy(), numpy.zeros((6, 5))), Y.numpy())],
    "big-endian numpy": lambda: [(X.numpy().astype(">f4"), Y.numpy().astype(">i8"))],
}


@pytest.mark.parametrize("form", BATCHES)
def test_all_forms_of_batches_mean_the_same(net, form):
    expected = experiment.sensitivities(net, [(X, Y)])
    given = experiment.sensitivities(net, BATCHES[form]())
    assert all(torch.equal(given[name], expected[name]) for name in expected)
    expected = prune(net, [(X, Y)], method="SNIP", loss=CROSS_ENTROPY).masks
    given = prune(net, BATCHES[form](), method="SNIP", loss=CROSS_ENTROPY).masks
    assert all(torch.equal(given[name], expected[name]) for name in expected)
    batch = next(iter(BATCHES[form]()))
    assert experiment.sample_size(net, batch) == experiment.sample_size(net, X)


@pytest.mark.parametrize("key", ["labels", "label", "targets", "target"])
def test_labels_are_targets_and_inputs_only_if_the_net_takes_them(net, key):
    inputs, targets = as_batch(net, {"x": X, key: Y})
    assert list(inputs) == ["x"] and targets is Y
    compiled = torch.compile(WithLabels())
    inputs, targets = as_batch(compiled, {"x": X, key: Y})
    assert targets is Y and list(inputs) == (["x", "labels"] if key == "labels" else ["x"])


def test_batches_are_read_one_at_a_time(net):
    read = []
    batches = as_batches(net, (read.append(number) or X for number in range(3)))
    assert read == [0]
    assert len(list(batches)) == 3 and read == [0, 1, 2]


@pytest.mark.parametrize("method", ["SNIP", "GraSP"])
def test_a_net_that_computes_its_loss_needs_none(net, method):
    own = WithLabels()
    own.load_state_dict(net.state_dict())
    masks = prune(own, [{"x": X, "labels": Y}], method=method).masks
    method = {"name": method} | ({"temperature": 1.0} if method == "GraSP" else {})
    given = prune(net, [(X, Y)], method=method, loss=CROSS_ENTROPY).masks
    assert all(torch.equal(given[name], masks[name]) for name in masks)


@pytest.mark.filterwarnings("ignore:the pruned net is degenerate")
def test_weights_that_the_loss_does_not_need_have_no_gradient(net):
    class TwoHeads(Dense):
        def forward(self, x):
            return self.first(x), super().forward(x)

    pruned = prune(
        TwoHeads(), [(X, Y)], method="SNIP", loss=lambda outputs, y: outputs[0].square().mean()
    )
    kept = {name: mask.float().mean() for name, mask in pruned.masks.items()}
    assert kept["first.weight"] > kept["second.weight"]


def test_images_of_bytes_are_fine_for_a_net_that_converts_them(net):
    class Converting(Dense):
        def forward(self, x):
            return super().forward(x.to(self.first.weight.dtype) / 255)

    prune(Converting(), [numpy.arange(30, dtype=numpy.uint8).reshape(6, 5)])


@pytest.mark.filterwarnings("ignore:the pruned net is degenerate")
def test_transformers_models_are_pruned_with_their_tokenizers_batches():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    net = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            vocab_size=30,
            max_position_embeddings=16,
        )
    )
    tokens = torch.randint(30, (4, 6))
    encoded = transformers.BatchEncoding(
        {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens[:, 0] % 2}
    )
    for method in ("SiPP", "SNIP"):
        pruned = prune(net, [encoded], method=method, keep_ratio=0.7)
        assert pruned.keep_ratio == pytest.approx(0.7, rel=0.01)


def test_timm_models_are_pruned():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=16,
        patch_size=8,
        depth=1,
        embed_dim=8,
        num_heads=2,
        num_classes=3,
        pretrained=False,
    )
    images = numpy.random.default_rng(0).random((3, 3, 16, 16))
    pruned = prune(
        net,
        [{"x": images, "label": numpy.arange(3)}],
        method="SNIP",
        loss=CROSS_ENTROPY,
        keep_ratio=0.7,
    )
    assert pruned.keep_ratio == pytest.approx(0.7, rel=0.01)


# Batches that do not


WRONG_BATCHES = {
    "one tensor": (lambda: X, "batches is one tensor.*write [tensor]"),
    "one array": (lambda: X.numpy(), "batches is one tensor.*write [tensor]"),
    "one dict": (lambda: {"x": X}, "batches is one dict: write [dict]"),
    "a tuple": (lambda: (X, Y), "is a tuple of two tensors: write [(inputs, targets)]"),
    "a batch of a loader": (
        lambda: [X, Y],
        "the entries of batches are not all alike: number 2 is int64 [6]; write [(inputs,",
    ),
    "a dict and its targets": (
        lambda: ({"x": X}, Y),
        "number 2 is int64 [6]; write [(inputs, targets)]",
    ),
    "a dataset": (lambda: TensorDataset(X, Y), "wrap it in torch.utils.data.DataLoader"),
    "a text": (lambda: "train", "batches must be a list, a DataLoader"),
    "a number": (lambda: 7, "batches must be a list, a DataLoader"),
    "nothing": (lambda: None, "batches must be a list, a DataLoader.*not None"),
    "a class": (lambda: DataLoader, "batches must be a list, a DataLoader"),
    "no batches": (lambda: [], "batches is empty: at least one batch"),
    "an empty generator": (lambda: iter(()), "batches is empty: at least one batch"),
    "no samples": (
        lambda: [(X[:0], Y[:0])],
        "batches[0] holds no samples: its inputs are float32 [0, 5]",
    ),
    "a number as inputs": (lambda: [torch.tensor(1.0)], "batches[0] holds no samples"),
    "no tensors": (
        lambda: [["a", "b"]],
        "batches[0] holds no tensors.*inputs must be a tensor, a dict",
    ),
    "labels alone": (lambda: [{"labels": Y}], "batches[0] holds no tensors"),
    "three parts": (
        lambda: [(X, X, Y)],
        "batches[0] has 3 parts.*written ((first, second), targets)",
    ),
    "texts of numpy": (lambda: [numpy.array(["a"])], "numpy array of <U1: it must hold numbers"),
    "objects of numpy": (
        lambda: [numpy.array([None])],
        "numpy array of object: it must hold numbers",
    ),
    "NaN": (lambda: [X, X / 0 * 0], "batches[1] holds inputs that are not numbers (NaN)"),
    "samples": (
        lambda: list(TensorDataset(X, Y)),
        "batches[0] is a single sample with a single target",
    ),
    "samples with numbers": (
        lambda: list(zip(X, [0, 1])),
        "batches[0] is a single sample with a single target",
    ),
    "meta": (lambda: [X.to("meta")], "batches[0] is on the meta device"),
    "a wrong width": (
        lambda: [X[:, :4]],
        "cannot run on the batch: Runtime.*cannot be multiplied (6x4 and 5x8); "
        "inputs are float32 [6, 4], the net's parameters float32",
    ),
    "a wrong width later": (
        lambda: [X, X[:, :4]],
        "cannot run on the batch.*inputs are float32 [6, 4]",
    ),
    "float64": (lambda: [X.double()], "inputs are float64 [6, 5], the net's parameters float32"),
    "bytes": (
        lambda: [X.byte()],
        "inputs are uint8 [6, 5].*convert images of bytes to float and normalise",
    ),
    "a wrong keyword": (
        lambda: [{"x": X, "text": X}],
        "cannot run on the batch.*'text'.*{x: float32 [6, 5], text:",
    ),
}


def pattern(text: str) -> str:
    """A regular expression for a text in which only `.*` is special."""
    return ".*".join(map(re.escape, text.split(".*")))


@pytest.mark.parametrize(
    "function",
    [
        experiment.sensitivities,
        lambda net, batches: prune(net, batches, method="SiPP"),
        lambda net, batches: experiment.certify(net, batches, [X], keep_ratio=0.5),
    ],
    ids=["sensitivities", "prune", "certify"],
)
@pytest.mark.parametrize("form", WRONG_BATCHES)
def test_wrong_batches_are_refused_with_what_would_be_right(net, function, form):
    batches, expected = WRONG_BATCHES[form]
    with pytest.raises(experiment.UserError, match=pattern(expected)) as caught:
        function(net, batches())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fresh", "expected"),
    [
        (X, "fresh is one tensor"),
        ([(X[:0], None)], "fresh[0] holds no samples"),
        ([X[:, :4]], "the net cannot run on the batch"),
    ],
)
def test_wrong_fresh_batches_are_refused(net, fresh, expected):
    assert expected in refusal(experiment.certify, net, [X], fresh, keep_ratio=0.5)


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (
            DataLoader(TensorDataset(X), 2),
            "batch holds no tensors, its inputs are a value of type DataLoader",
        ),
        ((X[:0], Y[:0]), "batch holds no samples"),
        ((X, X, X), "batch has 3 parts"),
        (X[:, :4], "the net cannot run on the batch"),
    ],
)
def test_wrong_single_batches_are_refused(net, batch, expected):
    assert expected in refusal(experiment.sample_size, net, batch)


@pytest.mark.parametrize(
    ("batches", "loss", "expected"),
    [
        (
            [(X, Y)],
            None,
            "needs loss=..., a function of outputs and targets, or a net whose output has a loss",
        ),
        ([X], CROSS_ENTROPY, "batches must be (inputs, targets), and targets are missing"),
        ([(X, Y.tolist())], CROSS_ENTROPY, "loss cannot be computed: TypeError"),
        (
            [(X, Y + 3)],
            CROSS_ENTROPY,
            "loss cannot be computed: IndexError: Target 3 is out of bounds; outputs are",
        ),
        (
            [(X, Y)],
            lambda outputs, targets: outputs.square(),
            "the loss must be one number with a gradient, not float32",
        ),
        ([(X, Y)], lambda outputs, targets: 1.0, "the loss must be one number with a gradient"),
        (
            [(X, Y)],
            lambda outputs, targets: outputs.argmax().float(),
            "the loss must be one number with a gradient",
        ),
    ],
)
def test_losses_that_cannot_be_computed_are_refused(net, batches, loss, expected):
    assert expected in refusal(prune, net, batches, method="SNIP", loss=loss)


# Arguments


@pytest.mark.parametrize(
    "keep_ratio", [numpy.float32(0.5), numpy.int64(1), numpy.array(0.5), torch.tensor(0.5)]
)
def test_keep_ratios_of_numpy_and_torch_are_numbers(net, keep_ratio):
    pruned = prune(net, [X], keep_ratio=keep_ratio)
    assert type(pruned.keep_ratio_requested) is float
    assert pruned.keep_ratio == prune(net, [X], keep_ratio=float(keep_ratio)).keep_ratio


def test_seeds_and_masks_of_numpy_are_accepted(net):
    numbers = [prune(net, [X], method="Random", seed=seed).masks for seed in (3, numpy.int64(3))]
    assert all(torch.equal(numbers[0][name], numbers[1][name]) for name in numbers[0])
    masks = {name: mask.numpy() for name, mask in numbers[0].items()}
    again = [prune(net, [X], keep_ratio=0.3, masks=given).masks for given in (numbers[0], masks)]
    assert all(torch.equal(again[0][name], again[1][name]) for name in masks)


NUMBER = "keep_ratio must be a number above 0 and at most 1, not "
WRONG_ARGUMENTS = [
    ({"keep_ratio": torch.tensor([0.5, 0.2])}, NUMBER + "float32 [2]"),
    ({"method": {"name": 3}}, "method must be a name"),
    ({"method": {"name": "WT", 3: 4}}, "method must be a name"),
    ({"method": WT}, "give an instance, WT()"),
    (
        {"method": "collections:Counter"},
        "returned a Counter, not an experiment.pruning.method.Method",
    ),
    ({"seed": "0"}, "seed must be a whole number, not '0'"),
    ({"seed": 0.5}, "seed must be a whole number, not 0.5"),
    ({"seed": True}, "seed must be a whole number"),
    ({"seed": None}, "seed must be a whole number, not None"),
    ({"delta": 0}, "delta must be a number above 0, not 0"),
    ({"delta": "1e-3"}, "delta must be a number above 0"),
    ({"delta": float("inf")}, "delta must be a number above 0, not inf"),
    ({"loss": "cross_entropy"}, "loss must be a function of outputs and targets, such as torch"),
    (
        {"loss": nn.CrossEntropyLoss},
        "loss is the class CrossEntropyLoss: pass an instance, CrossEntropyLoss(...)",
    ),
    (
        {"masks": [torch.ones(3)]},
        "masks must be a dict from parameter names to bool tensors, such as pruned.masks",
    ),
    ({"masks": torch.ones(3)}, "masks must be a dict"),
    ({"masks": {"first.weight": [True]}}, "must be a bool tensor"),
    (
        {"masks": {"first.weight": numpy.ones((8, 5))}},
        "must be a bool tensor of shape [8, 5], not torch.float64",
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), WRONG_ARGUMENTS)
def test_wrong_arguments_are_refused_with_what_would_be_right(net, arguments, expected):
    assert expected in refusal(prune, net, [(X, Y)], **arguments)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            lambda net: experiment.sensitivities(net, [X], reduction="median"),
            "reduction must be 'mean' or 'max', not 'median'; did you mean 'mean'?",
        ),
        (
            lambda net: experiment.sensitivities(net, [X], reduction=None),
            "reduction must be 'mean' or 'max', not None",
        ),
        (
            lambda net: experiment.sample_size(net, X, delta=0),
            "delta must be a number above 0, not 0",
        ),
        (
            lambda net: experiment.certify(net, [X], [X], keep_ratio=0.5, points_per_sample=1.5),
            "points_per_sample must be a whole number of at least 1, not 1.5",
        ),
        (
            lambda net: experiment.certify(net, [X], [X], keep_ratio=0.5, seed="a"),
            "seed must be a whole number",
        ),
        (lambda net: build(input_shape=(3, 32)), "input_shape must be (channels, height, width)"),
        (
            lambda net: build(input_shape=32),
            "input_shape must be (channels, height, width), such as (3, 32, 32), not 32",
        ),
        (lambda net: build(input_shape=(3, 32, 0)), "input_shape must be"),
        (lambda net: build(input_shape="rgb"), "input_shape must be"),
        (
            lambda net: build(num_classes=0),
            "num_classes must be a whole number of at least 1, not 0",
        ),
        (
            lambda net: build(num_classes="10"),
            "num_classes must be a whole number of at least 1, not '10'",
        ),
        (lambda net: build(name=nn.Linear), "a network is given by its name, such as 'resnet20'"),
        (lambda net: experiment.load_config(ROOT), "is a directory, not a YAML file"),
        (
            lambda net: experiment.load_config(None),
            "an experiment is the path of a YAML file, or a mapping such as one holds, not None",
        ),
        (
            lambda net: experiment.load_config("a.yaml", "training.epochs=3"),
            "overrides must be a list of strings",
        ),
        (
            lambda net: experiment.schedule("a.yaml"),
            "schedule needs a configuration, experiment.load_config(path)",
        ),
    ],
)
def test_wrong_arguments_of_the_other_functions_are_refused(net, call, expected):
    assert expected in refusal(call, net)


def build(name="lenet5", **arguments):
    arguments = {"input_shape": (1, 28, 28), "num_classes": 10} | arguments
    return experiment.build_network(name, **arguments)


# Nets


def masked() -> nn.Module:
    net = Dense()
    torch_prune.l1_unstructured(net.first, "weight", amount=0.5)
    return net


def quantised() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        return torch.ao.quantization.quantize_dynamic(Dense(), {nn.Linear})


def of_bytes() -> nn.Module:
    net = Dense()
    net.first.weight = nn.Parameter(net.first.weight.to(torch.int8), requires_grad=False)
    return net


def scripted() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.trace(Dense(), X)


class Returning(Dense):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        super().forward(x)
        return self.value


WRONG_NETS = {
    "a function": (lambda: torch.relu, "net must be a torch.nn.Module, not"),
    "a class": (lambda: Dense, "net is the class Dense: pass an instance, Dense(...)"),
    "a state dict": (
        lambda: Dense().state_dict(),
        "net must be a torch.nn.Module, not a value of type OrderedDict",
    ),
    "meta": (
        lambda: Dense().to("meta"),
        "'first.weight' of the net is on the meta device and has no values: call",
    ),
    "lazy": (
        lambda: nn.Sequential(nn.LazyLinear(3)),
        "'0.weight' of the net has no shape yet: run the net once",
    ),
    "quantised": (
        quantised,
        "layer 'first' is quantised (Linear): prune the net before quantising it",
    ),
    "of bytes": (
        of_bytes,
        "'first.weight' of the net holds int8 [8, 5], not floating-point numbers",
    ),
    "without parameters": (nn.ReLU, "the net has no parameters"),
    "scripted": (scripted, "compiled by torch.jit: pass the module that it was compiled from"),
    "with masks of torch": (
        masked,
        "layer 'first' is pruned by torch.nn.utils.prune: make that "
        "permanent first, with torch.nn.utils.prune.remove(module, 'weight')",
    ),
    "returns nothing": (
        lambda: Returning(None),
        "the net returns None: its forward pass must return a tensor",
    ),
    "returns a number": (lambda: Returning(1.5), "the net returns a value of type float"),
    "returns no tensors": (lambda: Returning({"a": [1, 2]}), "the net returns {a: ("),
}


def sample_size(net, batches):
    return experiment.sample_size(net, batches[0])


@pytest.mark.parametrize("function", [experiment.sensitivities, prune, sample_size])
@pytest.mark.parametrize("form", WRONG_NETS)
def test_nets_that_cannot_be_used_are_refused_with_what_would_help(function, form):
    make, expected = WRONG_NETS[form]
    if (function, form) == (sample_size, "meta"):
        assert sample_size(make(), [X.to("meta")]) == sample_size(Dense(), [X])  # shapes are enough
        return
    assert expected in refusal(function, make(), [X])


def test_the_advice_of_messages_works():
    pruned, lazy = masked(), nn.Sequential(nn.LazyLinear(3))
    assert "remove(module, 'weight')" in refusal(experiment.sensitivities, pruned, [X])
    assert "run the net once on a batch" in refusal(experiment.sensitivities, lazy, [X])
    torch_prune.remove(pruned.first, "weight")
    lazy(X)
    assert experiment.sensitivities(pruned, [X]) and experiment.sensitivities(lazy, [X])


# Using it interactively


def test_names_are_shown_without_importing_torch():
    code = "import sys, experiment; print(*dir(experiment)); assert 'torch' not in sys.modules"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert set(experiment.__all__) <= set(shown) and not {"importlib", "TYPE_CHECKING"} & set(shown)


def test_type_checkers_see_the_public_names():
    tree = ast.parse((ROOT / "experiment" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name: node.module for node in block.body for alias in node.names}
    assert imported == experiment._MODULES and sorted(imported) == experiment.__all__
    assert (ROOT / "experiment" / "py.typed").exists()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "py.typed" in setup["options.package_data"]["experiment"].split()


def test_help_describes_every_public_function():
    assert all(f"`{name}" in experiment.__doc__ for name in experiment.__all__)
    for name in set(experiment.__all__) - {"UserError"}:
        assert "Example" in pydoc.render_doc(getattr(experiment, name))
    for name in ("prune", "sensitivities", "certify", "sample_size"):
        text = getattr(experiment, name).__doc__
        assert all(f"{part}:" in text for part in ("Args", "Raises", "Example"))


def test_results_have_a_repr_of_one_line(net):
    expected = "Pruned(WT kept 49.33% of 75 parameters (requested 50.00%), 2 layers)"
    assert repr(prune(net, [X])) == expected
    assert repr(prune(net, [X], method={"name": "SiPP"})) == expected.replace("WT", "SiPP")


def test_a_net_made_in_inference_mode_is_refused():
    with torch.inference_mode():
        net = Dense()
    assert "was created in torch.inference_mode: create the net outside" in refusal(prune, net, [X])
