"""Every command of README and pages is executed, as it stands there, on something small.

Placeholders stand for a small experiment, its runs, and images and weights made for the purpose.
The paper's experiments are only planned, since they take minutes to days. Commands for a cluster
are executed by `test_ray.py`, and those that torchrun starts by `test_torchrun.py`.
"""

import os
import shlex
from pathlib import Path

import numpy
import pytest
import torch
import torchvision
from conftest import ROOT
from PIL import Image
from test_readme import PAGES, commands_of

import experiment
from experiment.__main__ import main as command_line

CONFIG = """
network: {name: lenet5}
dataset: {name: digits}
training: {epochs: 1, batch_size: 64}
pruning: {methods: [SiPP, PFP], keep_ratios: [0.2, 0.1]}
checkpoints: all
"""
OWN_NET = """
from torch import nn


def Class(input_shape, num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, num_classes),
    )
"""
# Of commands that other tests execute, those of clusters and `test_published.py`.
ELSEWHERE = ("--engine", "--published")
ALL_COMMANDS = sorted({shlex.join(words) for page in PAGES for words in commands_of(page)})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory as the pages take for granted."""
    folder = tmp_path_factory.mktemp("pages")
    for shipped in ("paper", "examples"):
        (folder / shipped).symlink_to(ROOT / shipped)
    (folder / "mine.yaml").write_text(CONFIG)
    runs = [
        experiment.run(
            folder / "mine.yaml", [f"seed={seed}"], results=folder / "results", device="cpu"
        )
        for seed in (0, 1)
    ]
    (folder / "RUNS").write_text("\n".join(str(one.directory) for one in runs))
    random = numpy.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for label in ("cat", "dog"):
            (folder / "FOLDER" / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (32, 32, 3)).astype(numpy.uint8)
                Image.fromarray(pixels).save(folder / "FOLDER" / split / label / f"{index}.png")
    (folder / "images").symlink_to(folder / "FOLDER")
    (folder / "data").mkdir()
    (folder / "data" / "cifar10-images").symlink_to(folder / "FOLDER")
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "module.py").write_text(OWN_NET)
    torch.manual_seed(0)
    weights = torchvision.models.resnet18(num_classes=2).state_dict()
    torch.save(weights, folder / "FILE")
    return folder


def filled_in(words: list[str], place: Path) -> list[str]:
    """The words of a command with what is there in the places of placeholders."""
    runs = iter((place / "RUNS").read_text().splitlines())
    filled = []
    for word in words:
        bare = word.strip("[]")
        if bare == "...":
            continue
        if bare in ("RUN", "RUN_OR_DIR"):
            filled.append(next(runs))
        elif bare in ("CONFIG", "DIR"):
            filled.append({"CONFIG": "mine.yaml", "DIR": "results"}[bare])
        elif "*" in word:
            filled += sorted(str(path) for path in Path().glob(word))[:2]
        else:
            filled.append(word)
    return filled


def small_enough(command: str, words: list[str]) -> list[str]:
    """The words, with settings without which a command would take minutes."""
    if command == "run" and any(word.startswith("paper/") for word in words):
        words = [word for word in words if word not in ("--time", "--dry-run")]
        words = ["cpu" if word == "cuda" else word for word in words]
        return [*words, "--dry-run"]
    if command == "suite":  # executed by `test_suite.py`, with a tiny one
        return [*words, "--dry-run"]
    if command == "guarantee":
        shorter = ("training.epochs=2", "training.warmup_epochs=0", "training.compile=off")
        settings = (*shorter, "num_nets=1", "pruning.keep_ratios=[0.5]", "pruning.methods=[SiPP]")
        return [*words, "--fresh", "5", *(word for one in settings for word in ("--set", one))]
    if command == "latency":
        return [*words, "--seconds", "0.1", "--keep-ratio", "0.1"]
    if command in ("export", "prune"):  # `latency` and a test of `export` measure it
        return [*words, "--seconds", "0"]
    return ["training.epochs=2" if word == "training.epochs=30" else word for word in words]


@pytest.mark.parametrize("line", ALL_COMMANDS)
def test_commands_of_pages_do_what_they_say(line, place, monkeypatch, capsys):
    command, *words = shlex.split(line)
    if any(word in ELSEWHERE for word in words):
        pytest.skip("executed by other tests")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr("builtins.input", lambda *prompt: "n")  # `clean` asks
    if "--weights" in words and "net.pt" in words:
        if "resnet18" in words:
            Path("net.pt").write_bytes(Path("FILE").read_bytes())
        else:
            import package.module

            torch.save(package.module.Class((3, 32, 32), 2).state_dict(), "net.pt")
    code = command_line([command, *small_enough(command, filled_in(words, place))])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    for word in ("net.onnx", "small.onnx"):
        if word in words:
            assert os.path.getsize(word) > 1000
