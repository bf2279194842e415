"""The nets of a run that are to be taken away, with real images on which they are checked."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.seeding import Stream
from experiment.data.loading import Data, load_data, shape_of
from experiment.deployment.cost import Cost
from experiment.deployment.metadata import Metadata
from experiment.deployment.shrinking import Shrunk, shrink
from experiment.nets.running import run_in_eval_mode
from experiment.reporting.environment import code_digest
from experiment.runs.found import found_run
from experiment.runs.stored_nets import MeasuredNet, StoredNets

NUM_IMAGES = 64  # test images on which outputs are compared
FEW = 16  # of them, for nets that are only timed


@dataclass(frozen=True)
class Source:
    """The nets of a run, with real images for them."""

    stored: StoredNets
    data: Data
    images: Tensor  # the first test images, as the net sees them

    @classmethod
    def of(
        cls, run: str | Path, device: str = "cpu", say: Callable[[str], None] = lambda line: None
    ) -> "Source":
        """Those of the run in a directory. Raises UserError without its data."""
        stored = StoredNets(found_run(run), device, say)
        config = stored.config
        data = load_data(config.dataset, Stream(config.seed))
        count = min(NUM_IMAGES, len(data.test))
        images, _ = next(data.test.subset(torch.arange(count)).batches(count))
        return cls(stored, data, images)

    def outputs_of(self, net: nn.Module) -> Tensor:
        """What a net returns for the images."""
        return run_in_eval_mode(net, (self.images, None))

    def shrunk(self, net: nn.Module, round_channels: int, num_images: int = FEW) -> Shrunk:
        """The net without superfluous channels, checked on so many of the images."""
        return shrink(net, self.images[:num_images], round_channels)

    def metadata(self, found: MeasuredNet, net: nn.Module) -> Metadata:
        """What a file with a net, which may be a smaller one, says of itself."""
        values = found.values
        config = self.stored.config
        cost = Cost.of(net, self.images)
        own = ("method", "net_seed", "repetition", "keep_ratio_requested", "keep_ratio")
        accuracies = ("test_accuracy", "validation_accuracy")
        return Metadata(
            software=f"sipp-experiment, code {code_digest()}",
            network=config.network.name,
            network_options=config.network.options,
            input_shape=self.data.input_shape,
            num_classes=self.data.num_classes,
            classes=shape_of(config.dataset).classes,
            mean=_numbers(self.data.test, "mean"),
            std=_numbers(self.data.test, "std"),
            dataset=config.dataset.name,
            run_id=self.stored.run.directory.resolve().name,
            parameters=cost.parameters,
            macs=cost.macs,
            **{name: values[name] for name in (*own, *accuracies)},
        )


def _numbers(split: Any, name: str) -> tuple[float, ...] | None:
    """Mean or standard deviation by which a split normalises; None if it does not say."""
    values = getattr(split, name, None)
    return tuple(values.tolist()) if isinstance(values, Tensor) else None
