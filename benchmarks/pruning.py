"""Speed of whole prunings and of the allocation of budgets: `python -m benchmarks.pruning`."""

import functools
import sys
import time
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


def main() -> int:
    table = pandas.DataFrame([*prunings(), *allocations()])
    write_whole(Path(CSV), table.to_csv(index=False))
    print(table.to_string(index=False, na_rep="", float_format="{:.3g}".format))
    print(f"table: {CSV}")
    return 0


def prunings() -> list[dict]:
    """`experiment.prune` on resnet20 with 16 CIFAR-sized images, after one call to warm up."""
    torch.manual_seed(0)
    net = experiment.build_network("resnet20", input_shape=(3, 32, 32), num_classes=10)
    batch = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
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


def _prune(net: torch.nn.Module, batch: tuple, method: str, keep_ratio: float) -> Pruned:
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
