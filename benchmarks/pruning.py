"""Speed of whole prunings and of the allocation of budgets: `python -m benchmarks.pruning`.

Prunings of large nets are given as ratios to one forward and backward pass over the same images in
train mode with cross entropy, each the fastest of several interleaved rounds in one process. The
memory of a pruning is measured in a fresh process: by how much its peak of resident memory, what it
returns included, is above the peak of net, batch and one forward pass over the batch in eval mode
without gradients, over the bytes of the net's parameters and buffers. First calls run in fresh
processes with empty caches.
"""

import argparse
import functools
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas
import torch

import experiment
from experiment.allocation.optimal import allocate
from experiment.core.files import write_whole
from experiment.core.registry import METHODS
from experiment.pruning.pruned import Pruned

UNITS = 1_000_000
CSV = "results/benchmarks/pruning.csv"
IMAGES = 16
ROUNDS = 3
KEEP_RATIO = 0.2
LARGE = {  # name of a net -> size of its images, and the methods
    "resnet50": (224, ["SiPP", "SiPPRand", "SiPPHybrid"]),
    "vit_b_16": (224, ["SiPP"]),
    "vgg16_bn": (32, ["SiPP"]),
}
Batch = tuple[torch.Tensor, torch.Tensor]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pruning", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--csv", type=Path, default=Path(CSV))
    # One measurement alone, for the fresh process that it needs.
    parser.add_argument("--part", choices=["memory", "first-call"], help=argparse.SUPPRESS)
    parser.add_argument("--network", help=argparse.SUPPRESS)
    parser.add_argument("--method", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        measurement = extra_memory if options.part == "memory" else first_call
        print(measurement(options.network, options.method))
        return 0
    table = pandas.DataFrame([*large_nets(), *first_calls(), *prunings(), *allocations()])
    write_whole(options.csv, table.to_csv(index=False))
    print(table.to_string(index=False, na_rep="", float_format="{:.3g}".format))
    print(f"table: {options.csv}")
    return 0


def large_nets() -> list[dict]:
    """Cost in forward and backward passes, and memory over that of the net."""
    return [row for name in LARGE for row in large_net(name)]


def large_net(name: str) -> list[dict]:
    net, batch = net_and_batch(name)
    methods = LARGE[name][1]
    versions: dict[str, Callable] = {"forward + backward": lambda: forward_backward(net, batch)}
    for method in methods:
        versions[method] = functools.partial(_prune, net, batch, method, KEEP_RATIO)
    times, results = fastest(versions)
    rows = []
    for method in methods:
        pruned = results[method]
        rows.append(
            {
                "what": f"prune {name}, {IMAGES} images, {method}",
                "keep_ratio": KEEP_RATIO,
                "achieved": pruned.keep_ratio,
                "evaluations": pruned.evaluations,
                "seconds": times[method],
                "to_forward_backward": times[method] / times["forward + backward"],
                "memory_to_net": float(in_fresh_process("memory", name, method)),
            }
        )
    return rows


def net_and_batch(name: str) -> tuple[torch.nn.Module, Batch]:
    size = LARGE[name][0] if name in LARGE else 32
    torch.manual_seed(0)
    net = experiment.build_network(name, input_shape=(3, size, size), num_classes=10)
    return net, (torch.randn(IMAGES, 3, size, size), torch.arange(IMAGES) % 10)


def forward_backward(net: torch.nn.Module, batch: Batch) -> None:
    images, targets = batch
    net.train()
    torch.nn.functional.cross_entropy(net(images), targets).backward()
    net.zero_grad()


def fastest(versions: dict[str, Callable]) -> tuple[dict[str, float], dict]:
    """The fastest of several rounds over all versions, in seconds, and what they return."""
    best = dict.fromkeys(versions, float("inf"))
    results = {}
    for _ in range(ROUNDS):
        for name, function in versions.items():
            start = time.perf_counter()
            results[name] = function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best, results


def extra_memory(name: str, method: str) -> float:
    """By how much a pruning raises the peak of the resident memory, over the bytes of the net."""
    net, batch = net_and_batch(name)
    net.eval()
    gc.collect()
    restart_peak()
    with torch.no_grad():
        net(batch[0])
    before = peak_memory()
    restart_peak()
    _prune(net, batch, method, KEEP_RATIO)
    peak = peak_memory()
    return (peak - before) / sum(
        tensor.numel() * tensor.element_size() for tensor in [*net.parameters(), *net.buffers()]
    )


def restart_peak() -> None:
    """Let the peak of the resident memory of this process start anew, on Linux."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The largest resident memory of this process since then, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def first_calls() -> list[dict]:
    """The first call of `experiment.prune` in a process after imports, with empty caches."""
    rows = []
    for method in ("SiPP", "SiPPRand", "SiPPHybrid"):
        with tempfile.TemporaryDirectory() as empty:
            caches = {"NUMBA_CACHE_DIR": empty, "TRITON_CACHE_DIR": empty}
            seconds = float(in_fresh_process("first-call", "resnet20", method, caches))
        rows.append(
            {"what": f"first call, resnet20, {IMAGES} images, {method}", "seconds": seconds}
        )
    return rows


def first_call(name: str, method: str) -> float:
    net, batch = net_and_batch(name)
    start = time.perf_counter()
    _prune(net, batch, method, KEEP_RATIO)
    return time.perf_counter() - start


def in_fresh_process(
    part: str, network: str, method: str, variables: dict[str, str] | None = None
) -> str:
    """What this benchmark prints when it runs in a new process for one part."""
    command = [sys.executable, "-m", "benchmarks.pruning", "--part", part]
    command += ["--network", network, "--method", method]
    environment = os.environ | (variables or {})
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def prunings() -> list[dict]:
    """`experiment.prune` on resnet20 with 16 CIFAR-sized images, after one call to warm up."""
    net, batch = net_and_batch("resnet20")
    rows = []
    for method in METHODS.names():
        prune = functools.partial(_prune, net, batch, method)
        prune(0.5)
        for keep_ratio in (0.9, 0.5, 0.2, 0.05, 0.02):
            start = time.perf_counter()
            pruned = prune(keep_ratio)
            rows.append(
                {
                    "what": f"prune resnet20, 16 images, {method}",
                    "keep_ratio": keep_ratio,
                    "achieved": pruned.keep_ratio,
                    "evaluations": pruned.evaluations,
                    "seconds": time.perf_counter() - start,
                }
            )
    return rows


def _prune(net: torch.nn.Module, batch: Batch, method: str, keep_ratio: float) -> Pruned:
    return experiment.prune(
        net, [batch], method=method, keep_ratio=keep_ratio, loss=torch.nn.functional.cross_entropy
    )


def allocations() -> list[dict]:
    """The optimal budgets of a million units."""
    generator = torch.Generator().manual_seed(0)
    scale = 1000 * torch.rand(UNITS, generator=generator, dtype=torch.float64) + 1e-3
    error_weight = 1 / torch.randint(1, 100, (UNITS,), generator=generator).double()
    capacity = torch.randint(1, 300, (UNITS,), generator=generator).double()
    rows = []
    for share in (0.001, 0.3, 0.999):
        start = time.perf_counter()
        kept = allocate(scale, error_weight, capacity, share * float(capacity.sum()))
        rows.append(
            {
                "what": f"allocate to {UNITS:,} units",
                "keep_ratio": share,
                "achieved": float(kept.sum() / capacity.sum()),
                "seconds": time.perf_counter() - start,
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
