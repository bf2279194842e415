"""A net of a run, or one that was exported, in Python."""

from pathlib import Path

import torch
from torch import nn

from experiment.core.devices import choose_device
from experiment.data.loading import shape_of
from experiment.deployment.formats.safetensors import load_exported
from experiment.deployment.shrinking import shrink
from experiment.runs.found import found_run
from experiment.runs.stored_nets import StoredNets


def load_network(
    source: str | Path,
    method: str | None = None,
    keep_ratio: float | None = None,
    net_seed: int = 0,
    *,
    repetition: int = 0,
    smaller: bool = False,
    recompute: bool = False,
    own_code: bool = False,
) -> nn.Module:
    """A pruned net of a run, retrained as the run did, or one that was exported.

    Args:
        source: the directory of a run, which may still be running; or a `.safetensors` file that
            `export` has written, for which nothing else is needed.
        method: as in results.csv; None for the unpruned net.
        keep_ratio: one of those that were asked for.
        net_seed: which of several nets.
        repetition: of the pruning.
        smaller: whether channels that pruning has made superfluous are cut out.
        own_code: whether a file may name code that is not this software's, `package.module:Class`,
            which is then imported and called.
        recompute: whether a net that is not kept is computed again.

    Returns:
        The net in eval mode, on the CPU; pruned weights are 0.

    Raises:
        UserError: if there is no such net; the message lists those that there are.

    Example:
        >>> net = experiment.load_network("results/mine/4a1c0d27be", "SiPP", 0.2)
    """
    if Path(source).suffix == ".safetensors":
        return load_exported(Path(source), own_code=own_code)
    stored = StoredNets(found_run(source), choose_device("auto") if recompute else "cpu")
    found = stored.find(method, keep_ratio, net_seed, repetition)
    net = stored.load(found, recompute)
    if not smaller:
        return net
    shape = shape_of(stored.config.dataset)
    images = torch.randn(8, *shape.input_shape, generator=torch.Generator().manual_seed(0))
    return shrink(net, images).net
