"""Size and cost of a net: parameters, FLOPs, and what each layer keeps."""

from typing import Any

import pandas
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from experiment.masks import PRUNABLE, Masks, prunable_layers, weight_names
from experiment.nets import batch_length, evaluating, run, split_batch


@torch.no_grad()
def outputs_per_sample(net: nn.Module, batch: Any) -> dict[str, float]:
    """How many output elements each prunable layer has for a sample; layers that never run are absent."""
    samples = batch_length(split_batch(batch)[0])
    counts: dict[str, float] = {}

    def count_for(name: str):
        def count(module: nn.Module, args: tuple, output: torch.Tensor) -> None:
            counts[name] = counts.get(name, 0) + output.numel() / samples
        return count

    handles = [layer.register_forward_hook(count_for(name)) for name, layer in prunable_layers(net).items()]
    try:
        with evaluating(net):
            run(net, batch)
    finally:
        for handle in handles:
            handle.remove()
    return counts


@torch.no_grad()
def layer_flops(net: nn.Module, example: Any) -> dict[str, int]:
    """FLOPs of a batch by torch's counter (two for each multiply-accumulate), in the layers that use each prunable
    weight, by the weight's parameter name."""
    counter = FlopCounterMode(display=False)
    with evaluating(net), counter:
        run(net, example)
    root, counts = type(net).__name__, counter.get_flop_counts()
    layers, names = prunable_layers(net), weight_names(net)
    by_weight = {id(layers[name].weight): parameter for name, parameter in names.items()}
    flops = dict.fromkeys(names.values(), 0)
    for name, module in net.named_modules():
        if isinstance(module, PRUNABLE) and id(module._parameters.get("weight")) in by_weight:
            flops[by_weight[id(module.weight)]] += sum(counts.get(f"{root}.{name}" if name else root, {}).values())
    return flops


def flop_keep_ratio(flops: dict[str, int], masks: Masks) -> float:
    """The share of the prunable layers' FLOPs that is left when each kept weight costs what it cost before."""
    total = sum(flops.values())
    kept = sum(count * _density(masks[name]) for name, count in flops.items())
    return kept / total if total else 1.0


def layer_table(net: nn.Module, masks: Masks) -> pandas.DataFrame:
    """One row a prunable layer: its name, kind, weights, kept weights and keep ratio."""
    rows, names = [], weight_names(net)
    for name, layer in prunable_layers(net).items():
        mask = masks[names[name]]
        rows.append({"layer": name, "kind": type(layer).__name__, "weights": mask.numel(),
                     "kept_weights": int(mask.sum()), "keep_ratio": _density(mask)})
    return pandas.DataFrame(rows)


def _density(mask: torch.Tensor) -> float:
    return int(mask.sum()) / mask.numel()
