"""Speed, memory and exactness of the sensitivities: `python -m benchmarks.sensitivity`.

All times are given as ratios to one forward and backward pass over the same images in the same run, each the fastest of
several interleaved rounds. The slow version is `experiment.sensitivity.reference`, the formula as it reads, one filter
and one sample at a time. Exit code 1 if fast and slow disagree by more than 1e-5.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas
import torch
import torchvision

import experiment
from experiment.core.devices import choose_device
from experiment.core.files import write_whole
from experiment.nets.layers import find_layers
from experiment.sensitivity.empirical import measure
from experiment.sensitivity.max_product import COMPILED, kernel
from experiment.sensitivity.reference import reference_sensitivities

IMAGES, ROUNDS, AGREEMENT = 32, 5, 1e-5
SMALLEST = 1e-6  # sensitivities below are compared absolutely


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sensitivity", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--csv", type=Path, default=Path("results/benchmarks/sensitivity.csv"))
    parser.add_argument(
        "--part", choices=["first-pass", "memory"], help=argparse.SUPPRESS
    )  # in a fresh process
    options = parser.parse_args(arguments)
    device = choose_device(options.device)
    if options.part:
        print({"first-pass": first_pass, "memory": extra_memory}[options.part](device))
        return 0
    rows = [*speed(device), first_pass_row(device), memory_row(device)]
    table = pandas.DataFrame(rows)
    write_whole(options.csv, table.to_csv(index=False))
    print(table.to_string(index=False, na_rep="", float_format="{:.3g}".format))
    print(f"table: {options.csv}")
    return int((table["largest_difference"] > AGREEMENT).any())


def resnet20(device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return (
        experiment.build_network("resnet20", input_shape=(3, 32, 32), num_classes=10)
        .eval()
        .to(device)
    )


def speed(device: str) -> list[dict]:
    """Each version on resnet20 and CIFAR-sized images; the slow one on fewer, scaled to the same number."""
    net, images = (
        resnet20(device),
        torch.randn(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
    )
    images, few = images.to(device), images[:2].to(device)
    layers = find_layers(net, [images]).prunable

    def forward_backward() -> None:
        net.zero_grad()
        net(images).sum().backward()

    compiled = f"max, {COMPILED[device]} kernel"
    versions = {
        "forward + backward": forward_backward,
        "mean": lambda: measure(net, layers, [images], ("mean",)),
        compiled: lambda: measure(net, layers, [images], ("max",)),
        "max, eager kernel": lambda: with_eager_kernel(
            lambda: measure(net, layers, [images], ("max",))
        ),
    }
    times = fastest(versions, device)
    rows = [
        {
            "what": name,
            "seconds": seconds,
            "to_forward_backward": seconds / times["forward + backward"],
        }
        for name, seconds in times.items()
    ]
    for row, reduction in zip(rows[1:], ("mean", "max", "max")):
        slow, seconds = timed(
            lambda reduction=reduction: reference_sensitivities(net, [few], reduction), device
        )
        calculate = with_eager_kernel if "eager" in row["what"] else lambda function: function()
        fast = calculate(
            lambda reduction=reduction: measure(net, layers, [few], (reduction,))[reduction]
        )
        row["times_faster_than_slow"] = seconds * IMAGES / len(few) / row["seconds"]
        row["largest_difference"] = max(
            float(((fast[name] - slow[name]).abs() / slow[name].clamp(min=SMALLEST)).max())
            for name in slow
        )
    return rows


def with_eager_kernel(function: Callable):
    """Call a function with the compiled kernels switched off."""
    before, names = dict(COMPILED), list(COMPILED)
    COMPILED.update(dict.fromkeys(names, "eager"))
    try:
        return function()
    finally:
        COMPILED.update(before)


def fastest(versions: dict[str, Callable], device: str) -> dict[str, float]:
    """The fastest of several rounds over all versions, after one to warm up, in seconds."""
    best = dict.fromkeys(versions, float("inf"))
    for round_number in range(ROUNDS + 1):
        for name, function in versions.items():
            _, seconds = timed(function, device)
            if round_number:
                best[name] = min(best[name], seconds)
    return best


def timed(function: Callable, device: str) -> tuple:
    start = time.perf_counter()
    result = function()
    if device == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def first_pass_row(device: str) -> dict:
    """The first pass of a process over |S| = 183 images with both reductions, no compiled kernel cached."""
    with tempfile.TemporaryDirectory() as empty:
        caches = {"NUMBA_CACHE_DIR": empty, "TRITON_CACHE_DIR": empty}
        seconds = float(in_fresh_process("first-pass", device, caches))
    return {
        "what": "first mean and first max pass, |S| = 183, compilation included",
        "seconds": seconds,
    }


def first_pass(device: str) -> float:
    net = resnet20(device)
    size = experiment.sample_size(net, torch.zeros(1, 3, 32, 32))
    batches = torch.randn(size, 3, 32, 32).to(device).split(IMAGES)
    layers = find_layers(net, batches).prunable
    _, seconds = timed(
        lambda: (measure(net, layers, batches, ("mean",)), measure(net, layers, batches, ("max",))),
        device,
    )
    return seconds


def memory_row(device: str) -> dict:
    """ResNet-18 at 224x224 with |S| = 202: memory above the net and one batch of S."""
    return {
        "what": "resnet18 at 224x224, |S| = 202, mean and max at once: memory above net and batch",
        "extra_gigabytes": float(in_fresh_process("memory", device, {})) / 1e9,
    }


def extra_memory(device: str) -> int:
    """Bytes by which measuring both reductions raises the peak of memory, the forward passes included."""
    net = torchvision.models.resnet18().eval().to(device)
    size = experiment.sample_size(net, torch.zeros(1, 3, 224, 224))
    batch = torch.randn(IMAGES, 3, 224, 224)
    kernel(COMPILED[device])  # loading the compiler is not what is measured
    before = peak_memory(device)
    measure(
        net,
        find_layers(net, [batch]).prunable,
        (batch[: min(IMAGES, size - start)] for start in range(0, size, IMAGES)),
        ("mean", "max"),
    )
    return peak_memory(device) - before


def peak_memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_fresh_process(part: str, device: str, variables: dict[str, str]) -> str:
    """What this benchmark prints when it is run anew for one part."""
    command = [sys.executable, "-m", "benchmarks.sensitivity", "--part", part, "--device", device]
    return subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
