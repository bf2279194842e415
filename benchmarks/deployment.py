"""What pruning gains once a net is taken away: sizes, multiplications and latency.

`python -m benchmarks.deployment` prunes three networks for images of CIFAR's size, weights by
WTLayer and filters by FT, also in multiples of 8, to 50, 20 and 10% of their parameters. It prints
a table in Markdown with the parameters, MACs, bytes of the file, plain and compressed, and the
median latency of each, of batches of 1 and of 64 images, on one thread. All variants of a network
take turns in one run. The nets are not trained, which makes no difference to any of this.

A second table says from which share of zeros on a layer is faster by compressed rows (CSR).
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas
import safetensors.torch
import torch
from torch import Tensor, nn

import experiment
from experiment.core.seeding import Stream
from experiment.deployment.cost import Cost, FileSize
from experiment.deployment.crossing import crossing, first_faster
from experiment.deployment.latency import BATCH_SIZES, measure_latency
from experiment.deployment.shrinking import shrink
from experiment.deployment.subject import Subject
from tools.documentation import markdown_table

NETWORKS = ("resnet20", "vgg16_bn", "mobilenet_v2")
# What is removed: by which method, and in blocks of how many.
METHODS = {"weights": ("WTLayer", 1), "filters": ("FT", 1), "filters, in eights": ("FT", 8)}
KEEP_RATIOS = (0.5, 0.2, 0.1)
SHAPE = (3, 32, 32)
LAYERS = (  # outputs, inputs and, of 1x1 convolutions, the side of the images
    (300, 784, None),
    (512, 512, None),
    (4096, 4096, None),
    (64, 64, 32),
    (256, 256, 8),
    (1280, 320, 1),
)
UNPRUNED = "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="for each net and batch size")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    options = parser.parse_args()
    tables = [measured(name, options.seconds) for name in options.networks]
    print(f"{tables[0]['device'].iloc[0]}, one thread\n")
    print(as_markdown(pandas.concat(tables)))
    print()
    print(crossings())


def measured(network: str, seconds: float) -> pandas.DataFrame:
    """The latencies of a network and its pruned variants, with what each of them costs."""
    images = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    with Stream(0).as_global():
        net = experiment.build_network(network, input_shape=SHAPE, num_classes=10).eval()
    variants = {UNPRUNED: net, **dict(pruned_variants(net, images))}
    subjects = [Subject(name, variant, images) for name, variant in variants.items()]
    table = measure_latency(subjects, seconds=seconds)
    costs = pandas.DataFrame(
        [{"net": name, **cost_of(variant, images)} for name, variant in variants.items()]
    )
    return table.merge(costs, on="net").assign(network=network)


def pruned_variants(net: nn.Module, images: Tensor) -> Iterator[tuple[str, nn.Module]]:
    for kind, (method, block) in METHODS.items():
        for keep_ratio in KEEP_RATIOS:
            pruned = experiment.prune(
                net, [images], method=method, keep_ratio=keep_ratio, round_channels=block
            )
            yield f"{1 - keep_ratio:.0%} of {kind}", shrink(pruned.net, images).net


def cost_of(net: nn.Module, images: Tensor) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.safetensors")
        safetensors.torch.save_file(net.state_dict(), path)
        size = FileSize.of([path])
    cost = Cost.of(net, images)
    return {
        "parameters": cost.parameters,
        "macs": cost.macs,
        "file": size.plain,
        "zipped": size.compressed,
    }


def as_markdown(table: pandas.DataFrame) -> str:
    """One line for each variant; latencies by runtime, of batches of 1 and of 64."""
    runtimes = list(dict.fromkeys(table["runtime"]))
    titles = ["network", "pruned", "parameters", "MACs", "file, MB", "zipped, MB", *runtimes]
    lines = []
    for (network, name), rows in table.groupby(["network", "net"], sort=False):
        first = rows.iloc[0]
        latencies = [_latencies(rows[rows["runtime"] == runtime]) for runtime in runtimes]
        lines.append(
            [
                network,
                name,
                f"{first['parameters']:,}",
                f"{first['macs'] / 1e6:,.1f} M",
                f"{first['file'] / 1e6:.2f}",
                f"{first['zipped'] / 1e6:.2f}",
                *latencies,
            ]
        )
    return markdown_table(titles, lines)


def _latencies(rows: pandas.DataFrame) -> str:
    """Milliseconds of each batch size, and how many times as fast as unpruned the last one is."""
    if not len(rows):
        return ""
    times = [f"{rows[rows['batch_size'] == size]['median_ms'].iloc[0]:.3g}" for size in BATCH_SIZES]
    speedup = rows[rows["batch_size"] == BATCH_SIZES[-1]]["speedup"].iloc[0]
    return f"{' / '.join(times)} ({speedup:.2g} x)"


def crossings() -> str:
    """From how many zeros on sparse products win, and what they gain at 90 and 99%."""
    lines = []
    for outputs, inputs, side in LAYERS:
        for batch_size in BATCH_SIZES:
            pixels = None if side is None else (side, side)
            table = crossing(outputs, inputs, batch_size, pixels=pixels)
            start = first_faster(table)
            gains = table.set_index("zeros")["speedup"]
            kind = "linear" if side is None else f"1x1 convolution, {side}x{side} pixels"
            lines.append(
                [
                    f"{kind}, {inputs} to {outputs}",
                    f"{batch_size}",
                    "never" if start is None else f"{start:.0%}",
                    *(f"{gains[zeros]:.2g} x" for zeros in (0.9, 0.99)),
                ]
            )
    titles = ("layer", "images", "faster from", "at 90% zeros", "at 99% zeros")
    return markdown_table(titles, lines)


if __name__ == "__main__":
    main()
