"""Nets that people have trained themselves: loading their weights, and pruning them in one go."""

import re
import subprocess
import sys

import numpy
import pytest
import safetensors.torch
import torch
from conftest import ROOT
from PIL import Image
from torch import nn

import experiment
from experiment.__main__ import main as command_line
from experiment.core.errors import UserError
from experiment.main import main
from experiment.nets.weights import load_weights

NET = """
import torch
from torch import nn


class Skipping(nn.Module):
    def __init__(self, num_classes=2):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.outer = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.outer(torch.relu(self.inner(x)))
        return self.head(x.mean((2, 3)))
"""
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]
NORMALISED = ["--mean", *map(str, MEAN), "--std", *map(str, STD)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a module, images of reddish and bluish noise, and a net trained on them."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "ownnets.py").write_text(NET)
    random = numpy.random.default_rng(0)
    for split, count in (("train", 60), ("test", 30)):
        for label, channel in (("blue", 2), ("red", 0)):
            (folder / "images" / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 200, (8, 8, 3))
                pixels[..., channel] += random.integers(0, 50)
                path = folder / "images" / split / label / f"{index}.png"
                Image.fromarray(pixels.astype(numpy.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        torch.manual_seed(0)
        net = trained(folder)
    torch.save(net.state_dict(), folder / "net.pt")
    safetensors.torch.save_file(net.state_dict(), folder / "net.safetensors")
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, folder / "checkpoint.pt")
    torch.save(net, folder / "whole.pt")
    return folder


def arrays(folder, split):
    images, labels = [], []
    for label, name in enumerate(("blue", "red")):
        for path in sorted((folder / "images" / split / name).iterdir()):
            images.append(numpy.asarray(Image.open(path), dtype=numpy.float32) / 255)
            labels.append(label)
    pixels = (numpy.stack(images) - MEAN) / STD
    return torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2), torch.tensor(labels)


def trained(folder):
    import ownnets

    net = ownnets.Skipping()
    images, labels = arrays(folder, "train")
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture
def there(place, monkeypatch):
    """In that folder, as its owner would be."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    return place


def accuracy_of(net, folder) -> float:
    images, labels = arrays(folder, "test")
    with torch.no_grad():
        return float((net(images).argmax(1) == labels).float().mean())


def prune_command(
    *more: str, weights: str = "net.pt", network: str = "ownnets:Skipping"
) -> list[str]:
    return [
        "prune", "--network", network, "--weights", weights, "--data", "images",
        "--keep-ratio", "0.4", "--seconds", "0", *NORMALISED, *more,
    ]  # fmt: skip


def test_the_command_from_weights_to_a_file(there, tmp_path, capsys):
    """Prunes filters, retrains, writes; the file has the accuracy that is said.

    First as a process, which the same command in this one then goes on with.
    """
    out = tmp_path / "small.pt2"
    more = ["--method", "FT", "--epochs", "2", "--results", str(tmp_path / "r"), "-o", str(out)]
    command = [sys.executable, "-m", "experiment", *prune_command(*more)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = re.search(
        r"before pruning ([\d.]+)%, right after ([\d.]+)%, retrained ([\d.]+)%", done.stdout
    )
    net = torch.export.load(out).module()
    assert 100 * accuracy_of(net, there) == pytest.approx(float(said[3]), abs=0.01)
    assert float(said[1]) > 80
    assert (
        re.search(r"FT: (3|4)\d\.\d\d% of", done.stdout)
        and f"file: {out}" in done.stdout
        and "warning" not in done.stderr
    )
    assert command_line(prune_command(*more)) == 0
    assert said[0] in capsys.readouterr().out


@pytest.mark.parametrize("weights", ["net.pt", "net.safetensors", "checkpoint.pt"])
def test_the_loaded_net_is_the_trained_one(weights, there, tmp_path):
    import ownnets

    net = ownnets.Skipping()
    load_weights(net, there / "net.pt")
    found = experiment.prune_trained(
        "ownnets:Skipping", weights, "images", keep_ratio=0.4, results=tmp_path, device="cpu",
        images={"mean": MEAN, "std": STD}, seconds=0,
    )  # fmt: skip
    reference = found.found.results.iloc[0]
    assert reference["method"] == "reference"
    assert reference["test_accuracy"] == pytest.approx(accuracy_of(net.eval(), there), abs=1e-6)
    assert "test accuracy: before pruning" in repr(found) and "retrained" not in repr(found)
    assert found.exported.metadata.classes == ("blue", "red")
    assert found.exported.metadata.mean == pytest.approx(MEAN)
    assert found.exported.path.parent.name == "exports"


def test_more_than_one_net_may_be_asked_for(there, tmp_path):
    found = experiment.prune_trained(
        "ownnets:Skipping", "net.pt", "images", keep_ratio=0.4, results=tmp_path, device="cpu",
        seconds=0, overrides=["num_nets=2", "num_repetitions=2"],
    )  # fmt: skip
    assert len(found.found.results) == 6 and "test accuracy: before pruning" in repr(found)


def test_a_net_that_only_guesses_is_told(there, tmp_path, capsys):
    import ownnets

    torch.save(ownnets.Skipping().state_dict(), tmp_path / "random.pt")
    arguments = prune_command("--results", str(tmp_path), weights=str(tmp_path / "random.pt"))
    assert command_line(arguments) == 0
    assert "hardly better than guessing (50.0%)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (prune_command(weights="none.pt"), "network.weights: none.pt: no such file"),
        (prune_command(weights="whole.pt"), "whole.pt: holds Python objects, which could run any"),
        (
            prune_command(weights="ownnets.py"),
            "network.weights: ownnets.py: is not, or not wholly, a file",
        ),
        (prune_command(network="lenet5"), "lacks conv1.weight, conv1.bias, conv2.weight and"),
        (prune_command("--method", "SiP"), "unknown method 'SiP'; did you mean 'SiPP'?"),
        (prune_command("--keep-ratio", "1.5"), "keep_ratio must be a number above 0 and at most 1"),
        (prune_command("--data", "image"), "--data 'image': there is no such folder, and no"),
        (prune_command("-o", "net.foo"), "net.foo: no format has the suffix .foo; there are .safe"),
        (
            prune_command("-o", "a.onnx", "--format", "openvino"),
            "a.onnx: a file of format openvino",
        ),
        (prune_command("--mean", "0.5"), "mean and std must both be lists of 3 numbers"),
        (prune_command("--mean", "123", "1", "0"), "dataset.mean[0]: 123.0 is wrong"),
        (
            prune_command("--data", "digits", "--num-workers", "1"),
            "--data digits: this data set has no mean and no std and no num_workers to set",
        ),
        (prune_command("--epochs", "-1"), "retraining.epochs: -1 is wrong"),
    ],
)
def test_bad_input_is_told_in_one_line(arguments, expected, there, tmp_path, capsys):
    assert command_line([*arguments, "--results", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "more",
    [
        ["--set", "num_nets=2", "--set", "num_repetitions=2"],
        ["--set", "pruning.methods=[WT, FT]", "--set", "pruning.keep_ratios=[0.6, 0.4]"],
    ],
)
def test_of_several_nets_the_exported_one_is_told_of(more, there, tmp_path, capsys):
    arguments = ["--results", str(tmp_path), "--method", "FT", "--num-workers", "0", *more]
    assert command_line(prune_command(*arguments)) == 0
    out = capsys.readouterr().out
    [right_after] = re.findall(r"right after ([\d.]+)%", out)
    [exported] = re.findall(r"FT: .*requested 40.00%\), test accuracy ([\d.]+)%", out)
    assert right_after == exported


def test_normalisation_is_the_same_in_memory_and_streamed(there, tmp_path):
    config = {"network": {"name": "ownnets:Skipping", "weights": "net.pt"}}
    config |= {"pruning": {"schedule": "train"}}
    accuracies = []
    for in_memory in (True, False):
        folder = {"name": "ImageFolder", "root": "images", "mean": MEAN, "std": STD}
        config["dataset"] = folder | {"in_memory": in_memory, "num_workers": 0}
        results = tmp_path / str(in_memory)
        found = experiment.run(config, results=results, device="cpu")
        accuracies.append(found.results["test_accuracy"].item())
        assert found.results["test_loss"].item() > 0
    net = safetensors.torch.load_file("net.safetensors")
    import ownnets

    trained = ownnets.Skipping()
    trained.load_state_dict(net)
    expected = accuracy_of(trained.eval(), there)
    assert accuracies == pytest.approx([expected, expected], abs=1e-6)


def test_weights_of_another_head(there, tmp_path):
    import ownnets

    torch.save(ownnets.Skipping(7).state_dict(), tmp_path / "seven.pt")
    with pytest.raises(UserError, match=r"head.bias is \[7\], but \[2\].*a net for 7 classes"):
        load_weights(ownnets.Skipping(2), tmp_path / "seven.pt")
    for index, content in enumerate((b"<html>", b"\x85\x01\x02\x03", b"version https://git-lfs")):
        (tmp_path / f"{index}.pt").write_bytes(content)
        with pytest.raises(
            UserError, match=r"cannot be read as weights|is not, or not wholly, a file"
        ):
            load_weights(ownnets.Skipping(), tmp_path / f"{index}.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(UserError, match="holds no weights by name"):
        load_weights(ownnets.Skipping(), tmp_path / "empty.pt")


CONFIG = """
network: {{name: "ownnets:Skipping", weights: {weights}}}
dataset: {{name: ImageFolder, root: images, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.25]}}
retraining: {{epochs: 1, batch_size: 32}}
pruning: {{methods: [WT], keep_ratios: [0.5]}}
"""


def test_weights_in_an_experiment(there, tmp_path):
    """No training unless asked for; the run id follows the content of the file."""
    path = tmp_path / "mine.yaml"
    path.write_text(CONFIG.format(weights="net.pt"))
    config = experiment.load_config(path)
    assert config.training.epochs == 0 and config.retraining.epochs == 1
    assert experiment.load_config(path, ["training.epochs=2"]).training.epochs == 2
    (tmp_path / "copy.pt").write_bytes((there / "net.pt").read_bytes())
    moved = experiment.load_config(path, [f"network.weights={tmp_path / 'copy.pt'}"])
    other = experiment.load_config(path, ["network.weights=net.safetensors"])
    none = experiment.load_config(path, ["network.weights=null"])
    assert moved.run_id() == config.run_id()
    assert len({config.run_id(), other.run_id(), none.run_id()}) == 3
    assert none.training.epochs == 30
    results = str(tmp_path / "results")
    arguments = [str(path), "--results", results, "--device", "cpu", "--set", "num_nets=2"]
    assert main([*arguments, "--dry-run"]) == 0
    assert main([*arguments, "--workers", "2"]) == 0
    [directory] = (tmp_path / "results" / "mine").iterdir()
    rows = experiment.load_results(directory)
    references = rows[rows["method"] == "reference"]["test_accuracy"]
    assert len(references) == 2 and references.nunique() == 1  # both nets are that of the file
    assert experiment.load_config(directory / "config.yaml").run_id() == directory.name


def test_weights_that_cannot_be_used_are_told_before_anything_runs(there, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(CONFIG.format(weights="nothing.pt"))
    for more in ([], ["--dry-run"]):
        assert main([str(path), "--results", str(tmp_path / "results"), *more]) == 2
        assert "network.weights: nothing.pt: no such file" in capsys.readouterr().err
    assert not (tmp_path / "results" / "mine").exists()


def test_normalisation_of_folders_changes_run_ids_only_if_given(there, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("network: {name: lenet5}\ndataset: {name: ImageFolder, root: images}\n")
    plain = experiment.load_config(path)
    assert "mean" not in plain.dataset.affecting_numbers()
    given = experiment.load_config(path, [f"dataset.mean={MEAN}", f"dataset.std={STD}"])
    assert given.run_id() != plain.run_id()
