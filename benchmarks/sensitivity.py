"""Speed, memory and exactness of the sensitivities: `python -m benchmarks.sensitivity`.

All times are given as ratios to one forward and backward pass over the same images in the same
run, each the fastest of several interleaved rounds. They are compared with the reference
implementation, `experiment.sensitivity.reference`, which takes one filter and one sample at a time.
The exit code is 1 if the two disagree by more than 1e-5.
"""

import argparse
import functools
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

IMAGES = 32
REFERENCE_IMAGES = 2
ROUNDS = 5
AGREEMENT = 1e-5
SMALLEST = 1e-6  # sensitivities below are compared absolutely


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sensitivity", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--csv", type=Path, default=Path("results/benchmarks/sensitivity.csv"))
    # One measurement alone, for the fresh process that it needs.
    parser.add_argument("--part", choices=["first-pass", "memory"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    device = choose_device(options.device)
    if options.part:
        measurement = first_pass if options.part == "first-pass" else extra_memory
        print(measurement(device))
        return 0
    rows = [*speed(device), first_pass_row(device), memory_row(device)]
    table = pandas.DataFrame(rows)
    write_whole(options.csv, table.to_csv(index=False))
    print(table.to_string(index=False, na_rep="", float_format="{:.3g}".format))
    print(f"table: {options.csv}")
    return int((table["largest_difference"] > AGREEMENT).any())


def resnet20(device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    net = experiment.build_network("resnet20", input_shape=(3, 32, 32), num_classes=10)
    return net.eval().to(device)


def speed(device: str) -> list[dict]:
    """Each version on resnet20 and CIFAR-sized images.

    The reference implementation runs on fewer images; its time is scaled to the same number.
    """
    net = resnet20(device)
    images = torch.randn(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(device)
    layers = find_layers(net, [images]).prunable

    def forward_backward() -> None:
        net.zero_grad()
        net(images).sum().backward()

    def sensitivities(reduction: str, batch: torch.Tensor = images) -> dict:
        return measure(net, layers, [batch], (reduction,))[reduction]

    measurements = {  # what: reduction, and how the sensitivities are computed
        "mean": ("mean", sensitivities),
        f"max, {COMPILED[device]} kernel": ("max", sensitivities),
        "max, eager kernel": ("max", with_eager_kernel(sensitivities)),
    }
    versions: dict[str, Callable] = {"forward + backward": forward_backward}
    for what, (reduction, function) in measurements.items():
        versions[what] = functools.partial(function, reduction)
    times = fastest(versions, device)
    rows = []
    for what, seconds in times.items():
        row = {"what": what, "seconds": seconds}
        row["to_forward_backward"] = seconds / times["forward + backward"]
        if what in measurements:
            reduction, function = measurements[what]
            few = images[:REFERENCE_IMAGES]
            row |= compared_with_reference(net, few, reduction, function(reduction, few), seconds)
        rows.append(row)
    return rows


def compared_with_reference(
    net: torch.nn.Module, few: torch.Tensor, reduction: str, found: dict, seconds: float
) -> dict:
    """Speed-up and largest difference; `found` is for a few images, `seconds` for all of them."""
    expected, slow_seconds = timed(
        lambda: reference_sensitivities(net, [few], reduction), few.device.type
    )
    differences = [
        (found[name] - expected[name]).abs() / expected[name].clamp(min=SMALLEST)
        for name in expected
    ]
    return {
        "speed_up_over_reference": slow_seconds * IMAGES / len(few) / seconds,
        "largest_difference": max(float(difference.max()) for difference in differences),
    }


def with_eager_kernel(function: Callable) -> Callable:
    """The function with the compiled kernels switched off while it runs."""

    def wrapped(*arguments: object) -> object:
        before = dict(COMPILED)
        COMPILED.update(dict.fromkeys(before, "eager"))
        try:
            return function(*arguments)
        finally:
            COMPILED.update(before)

    return wrapped


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
    """The first passes of a process over |S| = 183 images, without a cache of compiled kernels."""
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

    def both() -> None:
        measure(net, layers, batches, ("mean",))
        measure(net, layers, batches, ("max",))

    _, seconds = timed(both, device)
    return seconds


def memory_row(device: str) -> dict:
    """ResNet-18 at 224x224 with |S| = 202: memory above the net and one batch of S."""
    return {
        "what": "resnet18 at 224x224, |S| = 202, mean and max at once: memory above net and batch",
        "extra_gigabytes": float(in_fresh_process("memory", device, {})) / 1e9,
    }


def extra_memory(device: str) -> int:
    """Bytes by which measuring both reductions, forward passes included, raises the peak memory."""
    net = torchvision.models.resnet18().eval().to(device)
    size = experiment.sample_size(net, torch.zeros(1, 3, 224, 224))
    batch = torch.randn(IMAGES, 3, 224, 224)
    kernel(COMPILED[device])  # load the compiler, which is not to be measured
    before = peak_memory(device)
    layers = find_layers(net, [batch]).prunable
    batches = (batch[: min(IMAGES, size - start)] for start in range(0, size, IMAGES))
    measure(net, layers, batches, ("mean", "max"))
    return peak_memory(device) - before


def peak_memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_fresh_process(part: str, device: str, variables: dict[str, str]) -> str:
    """What this benchmark prints when it runs in a new process for one part."""
    command = [sys.executable, "-m", "benchmarks.sensitivity", "--part", part, "--device", device]
    return subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=True
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
