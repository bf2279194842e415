"""Size and cost of a pruned net: its FLOPs, and what each layer keeps."""

import pandas
import torch

from experiment.nets.layers import PrunableLayer
from experiment.nets.masks import Masks


def flop_keep_ratio(layers: dict[str, PrunableLayer], masks: Masks) -> float:
    """The share of the layers' FLOPs that is left if every kept weight costs what it did before."""
    total = sum(layer.flops for layer in layers.values())
    kept = sum(layer.flops * _density(masks[layer.parameter]) for layer in layers.values())
    return kept / total if total else 1.0


def kept_by_layer(layers: dict[str, PrunableLayer], masks: Masks) -> dict[str, float]:
    """The share of the weights of each prunable layer that is left."""
    return {name: _density(masks[layer.parameter]) for name, layer in layers.items()}


def layer_table(layers: dict[str, PrunableLayer], masks: Masks) -> pandas.DataFrame:
    """One row per prunable layer: its name, kind, weights, kept weights and keep ratio."""
    rows = []
    for name, layer in layers.items():
        mask = masks[layer.parameter]
        rows.append(
            {
                "layer": name,
                "kind": layer.kind,
                "weights": mask.numel(),
                "kept_weights": int(mask.sum()),
                "keep_ratio": _density(mask),
            }
        )
    return pandas.DataFrame(rows)


def _density(mask: torch.Tensor) -> float:
    return int(mask.sum()) / mask.numel()
