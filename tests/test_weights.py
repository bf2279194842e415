"""Weights that somebody has trained: files, whose they are, and in every kind of process."""

import pickle

import pytest
import safetensors.torch
import torch
from torch import nn
from whole_runs import assert_same, run_here

import experiment
from experiment.core.errors import UserError
from experiment.main import main
from experiment.nets.building import build_network
from experiment.nets.weights import load_weights
from experiment.runs.tasks import tasks
from experiment.runs.workplace import Workplace

CONFIG = """
network: {{name: lenet5, weights: {weights}}}
dataset: {{name: digits}}
retraining: {{epochs: 1, batch_size: 64, optimizer: {{name: SGD, lr: 0.02}}}}
pruning: {{methods: [WT, SiPP], keep_ratios: [0.5]}}
num_nets: 2
"""


def lenet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network("lenet5", input_shape=(1, 8, 8), num_classes=10)


def small(num_classes: int = 2) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, num_classes))


class Wrapped(nn.Module):
    """A network with a layer that is called as DataParallel calls the net within it."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(3, 2)


class LikeTorchvisions(nn.Module):
    """A network with an argument `weights` of its own, as torchvision's have."""

    def __init__(self, num_classes: int = 10, weights: str | None = None):
        super().__init__()
        assert weights is None
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(x.flatten(1))


def values(net: nn.Module) -> torch.Tensor:
    return torch.cat([one.flatten() for one in net.parameters()])


@pytest.fixture
def mine(tmp_path):
    """An experiment with the weights of a net."""
    torch.save(lenet().state_dict(), tmp_path / "net.pt")
    path = tmp_path / "mine.yaml"
    path.write_text(CONFIG.format(weights=tmp_path / "net.pt"))
    return path


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module.", "model."])
@pytest.mark.parametrize("within", [None, "state_dict", "model", "model_state_dict", "net"])
def test_prefixes_and_checkpoints(prefix, within, tmp_path):
    trained, loaded = small(), small()
    state = {f"{prefix}{name}": one for name, one in trained.state_dict().items()}
    torch.save(state if within is None else {"epoch": 3, within: state}, tmp_path / "net.pt")
    load_weights(loaded, tmp_path / "net.pt")
    assert torch.equal(values(loaded), values(trained))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_layer_that_is_called_as_a_prefix_stays(prefix, tmp_path):
    trained, loaded = Wrapped(), Wrapped()
    state = {f"{prefix}{name}": one for name, one in trained.state_dict().items()}
    torch.save(state, tmp_path / "net.pt")
    load_weights(loaded, tmp_path / "net.pt")
    assert torch.equal(values(loaded), values(trained))


def test_half_precision_and_old_formats_are_read(tmp_path):
    trained, loaded = small(), small()
    half = {name: one.half() for name, one in trained.state_dict().items()}
    safetensors.torch.save_file(half, tmp_path / "net.safetensors")
    load_weights(loaded, tmp_path / "net.safetensors")
    assert torch.equal(values(loaded), values(trained).half().float())
    old = tmp_path / "old.pth"
    torch.save(trained.state_dict(), old, _use_new_zipfile_serialization=False)
    load_weights(loaded, old)
    assert torch.equal(values(loaded), values(trained))


def converted(convert) -> dict:
    return {name: convert(one) for name, one in small().state_dict().items()}


SEVEN = r"2.weight is \[7, 4\], but \[2, 4\] in .*; 2.bias is \[7\], but \[2\] in the network: "
FILES = {
    "missing": (None, "no such file"),
    "empty": (b"", "is not, or not wholly, a file that torch.save has written"),
    "text": (b"hello world, no weights\n", "is not, or not wholly, a file that torch.save"),
    "noise": (bytes(range(256)), "is not, or not wholly, a file that torch.save"),
    "pickle": (pickle.dumps({"a": range(3)}), "holds Python objects.*net.state_dict"),
    "damaged": (b"\x80\x02}q\x00", "cannot be read as weights: .*net.state_dict"),
    "list": ([1, 2], "holds no weights by name, but 'list'"),
    "other entries": ({"ema": 1, "w": {}}, "but 'dict' with 'ema', 'w': save the weights alone"),
    "seven classes": (small(7).state_dict(), f"{SEVEN}.*for 7 classes, and the data set has 2"),
    "too little": ({"0.weight": torch.zeros(4, 3, 3, 3)}, "lacks 0.bias, 2.weight, 2.bias: it"),
    "too much": ({**small().state_dict(), "x": torch.zeros(1)}, "has x, which the network does"),
    "complex": (converted(lambda one: one.to(torch.complex64)), "0.weight holds complex numbers"),
    "sparse": (converted(torch.Tensor.to_sparse), "0.weight holds sparse numbers, but real"),
    "integers": (converted(torch.Tensor.char), "0.weight holds integers, but real numbers in"),
    "diverged": (converted(lambda one: one * float("nan")), "numbers that are not finite"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_cannot_be_used_are_told_in_one_line(name, tmp_path):
    content, expected = FILES[name]
    path = tmp_path / "net.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=expected) as caught:
        load_weights(small(), path, "network.weights: ")
    assert str(caught.value).startswith(f"network.weights: {path}: ")
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_half_a_file(suffix, tmp_path):
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"half.{suffix}"
    save = torch.save if suffix == "pt" else safetensors.torch.save_file
    save(lenet().state_dict(), whole)
    content = whole.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"is not, or not wholly|cannot be read as weights"):
        load_weights(lenet(), path)


def test_an_argument_of_a_network_does_not_replace_the_file(tmp_path):
    """The key is what the file sets; the network's own argument keeps its default."""
    trained = LikeTorchvisions()
    torch.save(trained.state_dict(), tmp_path / "net.pt")
    network = {"name": "test_weights:LikeTorchvisions", "weights": str(tmp_path / "net.pt")}
    config = experiment.load_config({"network": network, "pruning": {"methods": ["WT"]}})
    assert config.network.weights == str(tmp_path / "net.pt")
    [task, *_] = tasks(config)
    state = Workplace.of(task).initial_state(task)
    assert torch.equal(state.tensors["head.weight"], trained.head.weight)


def test_a_file_that_cannot_be_read_makes_another_run_than_no_file(mine, tmp_path):
    """Else the command would go on with the run of an untrained net."""
    set_to = [f"network.weights={tmp_path / 'gone.pt'}", "training.epochs=1"]
    gone = experiment.load_config(mine, set_to)
    none = experiment.load_config(mine, ["network.weights=null", "training.epochs=1"])
    assert gone.run_id() != none.run_id()


def test_a_file_that_has_changed_since_is_refused(mine, tmp_path):
    """As a worker finds it that begins later, or on another machine."""
    [task, *_] = pickle.loads(pickle.dumps(tasks(experiment.load_config(mine))))
    workplace = Workplace.of(task)
    tensors = workplace.initial_state(task).tensors
    assert torch.equal(tensors["conv1.weight"], lenet().conv1.weight)
    torch.save(lenet(1).state_dict(), tmp_path / "net.pt")
    with pytest.raises(UserError, match=r"net.pt: holds something else on .* put the file back"):
        workplace.initial_state(task)
    (tmp_path / "net.pt").unlink()
    with pytest.raises(UserError, match=r"net.pt: cannot be read on .*every machine that computes"):
        workplace.initial_state(task)


def test_all_processes_begin_with_the_same_weights(mine, tmp_path):
    """Those of a Ray cluster, too: `test_ray.py`."""
    assert run_here(mine, tmp_path / "alone").returncode == 0
    done = run_here(mine, tmp_path / "many", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "alone", tmp_path / "many")


def test_a_run_goes_on_without_computing_anything_again(mine, tmp_path):
    arguments = [str(mine), "--results", str(tmp_path / "r"), "--device", "cpu"]
    assert main([*arguments, "--set", "num_nets=1"]) == 0
    [directory] = {path.parent for path in (tmp_path / "r").rglob("results.csv")}
    assert "epochs: 0\n" in (directory / "config.yaml").read_text()
    steps = {path: path.stat().st_mtime_ns for path in directory.rglob("steps/**/*.json")}
    assert steps
    assert main([*arguments, "--set", "num_nets=1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("steps/**/*.json")} == steps
