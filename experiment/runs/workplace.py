"""What a process needs to execute tasks: the data, and what it keeps from one task to the next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from experiment.config.schema import CorruptionName, Part
from experiment.core.seeding import Stream
from experiment.data.corrupted_images import Corruption
from experiment.data.data_memory import num_bytes
from experiment.data.loading import Data, allowed_sample_size, load_data
from experiment.data.split import Split
from experiment.nets.building import build_network
from experiment.nets.layers import Layers, find_layers
from experiment.nets.layout import lay_out_by_default, lay_out_for_speed
from experiment.nets.running import copy_of
from experiment.nets.state import NetState
from experiment.nets.weights import load_weights
from experiment.pruning.pruner import Pruner
from experiment.runs.results import Result
from experiment.runs.tasks import Evaluate, Prune, Task
from experiment.sensitivity.sample_size import sample_size
from experiment.training.records import EpochRecord
from experiment.training.team import ALONE, Team
from experiment.training.trainer import Progress, Silent, Trainer

MOST_CORRUPTED = 2**30  # bytes of corrupted images that are kept for the next net


@dataclass(frozen=True)
class KeptNet:
    """A net that is used for one task after the other."""

    net: nn.Module
    not_stored: dict[str, Tensor]  # the buffers that its state_dict does not hold, as built

    @classmethod
    def of(cls, net: nn.Module) -> "KeptNet":
        stored = net.state_dict()
        buffers = {name: buffer for name, buffer in net.named_buffers() if name not in stored}
        return cls(net, {name: buffer.clone() for name, buffer in buffers.items()})

    def renewed(self) -> nn.Module:
        """The net without gradients, and with such buffers as it was built with."""
        self.net.zero_grad(set_to_none=True)
        for name, buffer in self.not_stored.items():
            path, _, attribute = name.rpartition(".")
            setattr(self.net.get_submodule(path), attribute, buffer.clone())
        return self.net


class Workplace:
    """The data of an experiment on one device, its nets, and what prunings share.

    Nothing that is kept here changes a result: a net of each architecture, into which the states
    of tasks are loaded, and the pruner of the last unpruned net, so that methods share what it has
    found out about the net and its sample.
    """

    def __init__(
        self,
        data: Data,
        device: torch.device | str = "cpu",
        *,
        progress: Callable[[int, str], Progress] = Silent,
        on_epoch: Callable[[Task, EpochRecord], None] = lambda task, record: None,
        team: Team = ALONE,
    ):
        self.data = data
        self.device = torch.device(device)
        self.trainer = Trainer(data, progress, team)
        self.on_epoch = on_epoch
        self.on_checkpoint: Callable[[Task, Result], None] = lambda task, result: None
        self.checkpoint_seconds: float | None = None  # between two checkpoints of a training
        self._nets: dict[tuple[str, int], KeptNet] = {}
        self._sample_sizes: dict[tuple, int] = {}
        self._layers: dict[str, Layers] = {}
        self._corrupted: dict[tuple[str, int, int], Split] = {}
        self._unpruned: tuple[tuple, Pruner] | None = None
        self._divided: dict[int, tuple[Data, Split]] = {}

    @classmethod
    def of(cls, task: Task, device: torch.device | str = "cpu", team: Team = ALONE) -> "Workplace":
        """A workplace for the tasks of an experiment, in a process that has nothing yet."""
        return cls(load_data(task.dataset, Stream(task.seed), device), device, team=team)

    def net(self, network: Part, seat: int = 0) -> nn.Module:
        """A net of an architecture, built once for each seat; load a state before using it.

        Nets that are trained at once have a seat each. What a state does not hold is as it was when
        the net was built: buffers that are not stored. A net's attributes in Python are not put
        back.
        """
        key = (_network_key(network), seat)
        if key not in self._nets:
            with Stream(0).as_global():
                net = lay_out_for_speed(self._build(network), self._first_images(2))
            self._nets[key] = KeptNet.of(net)
        return self._nets[key].renewed()

    def initial_state(self, task: Task) -> NetState:
        """The net with which the training of a task begins: a random one, or a file's.

        Raises UserError if the file cannot be used.
        """
        with task.net_stream.child("initialise").as_global():
            net = self._build(task.network)
        if task.network.weights is not None:
            digest = task.network.weights_digest
            load_weights(net, task.network.weights, "network.weights: ", digest)
        return NetState.of(net)

    def layers(self, network: Part) -> Layers:
        """What of a network can be pruned."""
        key = _network_key(network)
        if key not in self._layers:
            self._layers[key] = find_layers(self.net(network), [self.example])
        return self._layers[key]

    def divided(self, seed: int) -> tuple[Data, Split]:
        """The data of an experiment with half of its validation images, and the other half.

        That is set aside for tests, and its order is random.
        """
        if seed not in self._divided:
            self._divided[seed] = self.data.divided(Stream(seed).child("holdout"))
        return self._divided[seed]

    def data_of(self, task: Prune | Evaluate) -> Data:
        """The data without the validation images that are set aside for tests, if any are."""
        return self.divided(task.seed)[0] if task.holdout else self.data

    def sample_size(self, task: Prune) -> int:
        """|S|: as configured or else as the theory asks, as far as the validation images go."""
        asked = task.sample_size
        if asked is None:
            key = (_network_key(task.network), task.delta)
            if key not in self._sample_sizes:
                net = self.net(task.network)
                self._sample_sizes[key] = sample_size(net, self.example, task.delta)
            asked = self._sample_sizes[key]
        return allowed_sample_size(asked, len(self.data_of(task).validation))

    def corrupted_test(self, corruption: CorruptionName, severity: int, seed: int) -> Split:
        """The test images after a corruption; kept for other nets as long as there is room."""
        key = (corruption, severity, seed)
        if key in self._corrupted:
            return self._corrupted[key]
        images = _corrupted(self.data.test, corruption, severity, seed)
        kept = sum(map(num_bytes, self._corrupted.values()))
        if kept + num_bytes(images) <= MOST_CORRUPTED:
            self._corrupted[key] = images
        return images

    def require_corruptible(
        self, corrupted: Sequence[tuple[CorruptionName, int]], seed: int
    ) -> None:
        """Raise UserError if test images of their kind cannot be corrupted, as one image tells."""
        image = self.data.test.subset(torch.arange(1))
        for corruption, severity in corrupted[:1]:
            _corrupted(image, corruption, severity, seed)

    def pruner(self, task: Prune, source: NetState) -> Pruner:
        """A pruner of a net with the sample S of the task; that of an unpruned net is kept."""
        size = self.sample_size(task)
        if source.is_pruned:  # the net of one method, for which no other will ask
            return self._new_pruner(task, source, size)
        key = (
            source.digest,
            _network_key(task.network),
            self.sample_stream(task),
            task.holdout,
            size,
            task.delta,
            task.min_kept_per_layer,
            task.round_channels,
        )
        if self._unpruned is None or self._unpruned[0] != key:
            self._unpruned = (key, self._new_pruner(task, source, size))
        return self._unpruned[1]

    def forget_pruner(self) -> None:
        """Give up the pruner that is kept: a method that failed may have damaged its net."""
        self._unpruned = None

    def _new_pruner(self, task: Prune, source: NetState, size: int) -> Pruner:
        net = lay_out_by_default(copy_of(self.net(task.network)))
        masks = source.load_into(net)
        return Pruner(
            net,
            self.data_of(task).sample(size, self.sample_stream(task)),
            masks=masks,
            loss=cross_entropy,
            delta=task.delta,
            min_kept_per_layer=task.min_kept_per_layer,
            round_channels=task.round_channels,
        )

    def sample_stream(self, task: Prune) -> Stream:
        """The random stream by which S is drawn."""
        return task.net_stream.child("sample", task.place.repetition)

    @property
    def example(self) -> tuple[Tensor, Tensor]:
        """One batch of one image, for what depends on shapes alone."""
        return self._first_images(1)

    def _first_images(self, count: int) -> tuple[Tensor, Tensor]:
        return next(self.data.test.subset(torch.arange(count) % len(self.data.test)).batches(count))

    def _build(self, network: Part) -> nn.Module:
        net = build_network(
            network.name,
            input_shape=self.data.input_shape,
            num_classes=self.data.num_classes,
            **network.options,
        )
        return net.to(self.device)


def _corrupted(images: Split, corruption: CorruptionName, severity: int, seed: int) -> Split:
    return images.corrupted(Corruption(corruption, severity, Stream(seed).child("corruption")))


def _network_key(network: Part) -> str:
    return network.model_dump_json()
