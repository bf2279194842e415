"""What a process needs to execute tasks: the data, and what it keeps from one task to the next."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from experiment.config.schema import Part
from experiment.core.seeding import Stream
from experiment.data.loading import Data, allowed_sample_size, load_data
from experiment.nets.building import build_network
from experiment.nets.layers import Layers, find_layers
from experiment.nets.running import copy_of
from experiment.nets.state import NetState
from experiment.pruning.pruner import Pruner
from experiment.runs.tasks import Prune, Task
from experiment.sensitivity.sample_size import sample_size
from experiment.training.records import EpochRecord
from experiment.training.trainer import Progress, Silent, Trainer


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
    ):
        self.data = data
        self.device = torch.device(device)
        self.trainer = Trainer(data, progress)
        self.on_epoch = on_epoch
        self._nets: dict[str, nn.Module] = {}
        self._layers: dict[str, Layers] = {}
        self._unpruned: tuple[tuple, Pruner] | None = None

    @classmethod
    def of(cls, task: Task, device: torch.device | str = "cpu") -> "Workplace":
        """A workplace for the tasks of an experiment, in a process that has nothing yet."""
        return cls(load_data(task.dataset, Stream(task.seed), device), device)

    def net(self, network: Part) -> nn.Module:
        """The net of an architecture, built once; load a state before using it."""
        key = _network_key(network)
        if key not in self._nets:
            with Stream(0).as_global():
                self._nets[key] = self._build(network)
        return self._nets[key]

    def initial_state(self, task: Task) -> NetState:
        """The initialised net of a task."""
        with task.net_stream.child("initialise").as_global():
            return NetState.of(self._build(task.network))

    def layers(self, network: Part) -> Layers:
        """What of a network can be pruned."""
        key = _network_key(network)
        if key not in self._layers:
            self._layers[key] = find_layers(self.net(network), [self.example])
        return self._layers[key]

    def sample_size(self, network: Part, asked: int | None, delta: float) -> int:
        """|S|: as configured or else as the theory asks, as far as the validation images go."""
        if asked is None:
            asked = sample_size(self.net(network), self.example, delta)
        return allowed_sample_size(asked, len(self.data.validation))

    def pruner(self, task: Prune, source: NetState) -> Pruner:
        """A pruner of a net with the sample S of the task; that of an unpruned net is kept."""
        size = self.sample_size(task.network, task.sample_size, task.delta)
        if source.is_pruned:  # by one method, so that no other will ask for it
            return self._new_pruner(task, source, size)
        key = (
            source.digest,
            _network_key(task.network),
            self._sample_stream(task),
            size,
            task.delta,
            task.min_kept_per_layer,
        )
        if self._unpruned is None or self._unpruned[0] != key:
            self._unpruned = (key, self._new_pruner(task, source, size))
        return self._unpruned[1]

    def _new_pruner(self, task: Prune, source: NetState, size: int) -> Pruner:
        net = copy_of(self.net(task.network))
        masks = source.load_into(net)
        return Pruner(
            net,
            self.data.sample(size, self._sample_stream(task)),
            masks=masks,
            loss=cross_entropy,
            delta=task.delta,
            min_kept_per_layer=task.min_kept_per_layer,
        )

    def _sample_stream(self, task: Prune) -> Stream:
        return task.net_stream.child("sample", task.place.repetition)

    @property
    def example(self) -> Any:
        """One batch of one image, for what depends on shapes alone."""
        return next(self.data.test.batches(1))

    def _build(self, network: Part) -> nn.Module:
        net = build_network(
            network.name,
            input_shape=self.data.input_shape,
            num_classes=self.data.num_classes,
            **network.options,
        )
        return net.to(self.device)


def _network_key(network: Part) -> str:
    return network.model_dump_json()
