"""The nets of a run that is finished or still running, to be used elsewhere."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from experiment.core.columns import columns
from experiment.core.errors import UserError
from experiment.core.spelling import nearest
from experiment.core.text import shown
from experiment.data.loading import shape_of
from experiment.nets.building import build_network
from experiment.nets.masks import set_removed_to_zero
from experiment.nets.state import NetState
from experiment.reporting.records import REFERENCE, Place
from experiment.runs.execution import execute
from experiment.runs.found import FoundRun
from experiment.runs.paths import STEPS
from experiment.runs.results import DamagedError, Result, Store
from experiment.runs.tasks import Evaluate, Task, num_epochs, tasks
from experiment.runs.workplace import Workplace

SAME_RATIO = 0.01  # relative difference up to which the nearest keep ratio is the one that is meant
MOST_LISTED = 12


@dataclass(frozen=True)
class MeasuredNet:
    """A net of a run, whose accuracy is known."""

    values: dict[str, Any]  # the columns of its row in results.csv
    key: str  # of its result

    @property
    def keep_ratio(self) -> float:
        """That was asked for."""
        return self.values["keep_ratio_requested"]

    @property
    def title(self) -> str:
        """What it is, to show to people."""
        values = self.values
        if values["method"] == REFERENCE:
            return f"net {values['net_seed']}, unpruned"
        repetition = f", repetition {values['repetition']}" if values["repetition"] else ""
        return f"net {values['net_seed']}, {self.short_title}{repetition}"

    @property
    def short_title(self) -> str:
        """The same without which of several nets it is."""
        if self.values["method"] == REFERENCE:
            return "unpruned"
        return f"{self.values['method']} at {_shown_ratio(self)}"


class StoredNets:
    """The nets of a run."""

    def __init__(
        self, run: FoundRun, device: str = "cpu", say: Callable[[str], None] = lambda line: None
    ):
        """`say` hears what takes long; on `device` nets are computed again if they have to be."""
        self.run = run
        self.config = run.config
        self.device = device
        self.say = say
        self.store = Store(run.directory / STEPS, owner=None)
        self.tasks = {task.key: task for task in tasks(self.config)}

    @cached_property
    def measured(self) -> list[MeasuredNet]:
        """All nets of which a row is in results.csv, in its order."""
        keys = {
            _key_of_place(task.place): task.inputs[0]
            for task in self.tasks.values()
            if isinstance(task, Evaluate)  # the last one of a place counts, after any retraining
        }
        rows = self.run.results.to_dict("records")
        places = [Place(**{name: row[name] for name in columns(Place)}) for row in rows]
        of_rows = [keys.get(_key_of_place(place)) for place in places]
        return [MeasuredNet(row, key) for row, key in zip(rows, of_rows) if key is not None]

    def find(
        self, method: str | None, keep_ratio: float | None, net_seed: int, repetition: int
    ) -> MeasuredNet:
        """The net of a method at a keep ratio, or the unpruned one if there is no method.

        Raises:
            UserError: if there is none, which lists those that there are.
        """
        of_net = self._of_net(net_seed)
        if method is None or method == REFERENCE:
            unpruned = [one for one in of_net if one.values["method"] == REFERENCE]
            if not unpruned:
                raise UserError(f"{self.run.directory}: its unpruned net is not measured yet")
            return unpruned[0]
        of_method = self._of_method(of_net, method)
        repeated = [one for one in of_method if one.values["repetition"] == repetition]
        if not repeated:
            there = sorted({str(one.values["repetition"]) for one in of_method})
            raise self._missing(f"repetition {repetition}", there, "repetitions")
        if keep_ratio is None:
            if len(repeated) == 1:
                return repeated[0]
            raise UserError(
                f"{self.run.directory}: {method} has pruned to several keep ratios; name one of "
                f"{', '.join(map(_shown_ratio, repeated))}"
            )
        return self._closest(repeated, keep_ratio)

    def pruned(
        self, methods: Sequence[str], keep_ratios: Sequence[float], net_seed: int
    ) -> list[MeasuredNet]:
        """The pruned nets of some methods at some keep ratios; nothing named means all of them.

        Of several repetitions the first counts. Raises UserError for what is not there.
        """
        of_net = [one for one in self._of_net(net_seed) if not one.values["repetition"]]
        labels = dict.fromkeys(one.values["method"] for one in of_net)
        labels.pop(REFERENCE, None)
        found = []
        for method in methods or labels:
            of_method = self._of_method(of_net, method)
            if keep_ratios:
                of_method = [self._closest(of_method, ratio) for ratio in keep_ratios]
            found += of_method
        return found

    def _of_net(self, net_seed: int) -> list[MeasuredNet]:
        """All nets that come from one trained net."""
        of_net = [one for one in self.measured if one.values["net_seed"] == net_seed]
        if not of_net:
            seeds = sorted({one.values["net_seed"] for one in self.measured})
            raise self._missing(f"net_seed {net_seed}", [str(seed) for seed in seeds], "net seeds")
        return of_net

    def _closest(self, nets: Sequence[MeasuredNet], keep_ratio: float) -> MeasuredNet:
        """The net with the keep ratio that was asked for."""
        closest = min(nets, key=lambda one: abs(one.keep_ratio - keep_ratio))
        if abs(closest.keep_ratio - keep_ratio) > SAME_RATIO * closest.keep_ratio:
            what = f"keep ratio {keep_ratio:g} of {closest.values['method']}"
            raise self._missing(what, [*map(_shown_ratio, nets)], "keep ratios")
        return closest

    def load(self, found: MeasuredNet, recompute: bool = False) -> nn.Module:
        """A net in eval mode, with 0 where it is pruned.

        With `recompute`, a net that is no longer kept is computed again.

        Raises:
            UserError: if it cannot be had.
        """
        result = self._result(found, recompute)
        net = self.build()
        set_state(net, result.state, self.run.directory)
        return net.eval()

    def is_kept(self, found: MeasuredNet) -> bool:
        """Whether the net itself is stored."""
        return self.store.keeps_net(found.key)

    def build(self) -> nn.Module:
        """A net of the run's architecture, with any weights."""
        shape = shape_of(self.config.dataset)
        return build_network(
            self.config.network.name,
            input_shape=shape.input_shape,
            num_classes=shape.num_classes,
            **self.config.network.options,
        )

    def _result(self, found: MeasuredNet, recompute: bool) -> Result:
        result = self._load(found.key)
        if result is not None and result.has_state:
            return result
        if not recompute:
            kept = [one.title for one in self.measured if self.is_kept(one)]
            more = f" and {len(kept) - MOST_LISTED} more" if len(kept) > MOST_LISTED else ""
            raise UserError(
                f"{self.run.directory}: {found.title}: the net was not kept; kept are: "
                f"{'; '.join(kept[:MOST_LISTED]) or 'none'}{more}. --recompute computes it again; "
                f"runs with checkpoints: all keep every net"
            )
        again = self._recomputed(found.key)
        digest = None if result is None else result.digest
        if digest is not None and digest != hashlib.sha256(again.content).hexdigest():
            self.say(
                "the net that was computed again is not the one that was measured, bit for bit: "
                "the device, the number of threads or the versions are others now"
            )
        return again

    def _recomputed(self, key: str) -> Result:
        """The result of a task, computed from the nearest nets that are kept."""
        needed = self._missing_tasks(key)
        epochs = sum(num_epochs(needed))
        self.say(f"computing again: {len(needed)} steps, {epochs} epochs")
        workplace = Workplace.of(needed[0], self.device)
        found: dict[str, Result] = {}
        for task in needed:
            inputs = [found.get(one) or self._stored(one) for one in task.inputs]
            found[task.key] = execute(task, inputs, workplace)
        return found[key]

    def _missing_tasks(self, key: str) -> list[Task]:
        """The tasks to do for a net that is not kept, in order."""
        task = self.tasks[key]
        before = [
            one
            for name in task.inputs
            if not self.store.keeps_net(name)
            for one in self._missing_tasks(name)
        ]
        return [*dict.fromkeys(before), task]

    def _stored(self, key: str) -> Result:
        result = self._load(key)
        if result is None or not result.has_state:
            raise UserError(f"{self.store.directory}: {key}: its record is missing")
        return result

    def _load(self, key: str) -> Result | None:
        try:
            return self.store.load(key)
        except DamagedError as error:
            raise UserError(f"damaged: {error}; run the experiment again, which mends it") from None

    def _of_method(self, nets: Sequence[MeasuredNet], method: str) -> list[MeasuredNet]:
        """The nets of a method, by its label or, if that is clear, by its name."""
        labels = [
            one for one in dict.fromkeys(net.values["method"] for net in nets) if one != REFERENCE
        ]
        chosen = [method] if method in labels else list(_with_name(labels, method))
        if len(chosen) != 1:
            reason = "names several" if chosen else "is not among them"
            raise UserError(
                f"{self.run.directory}: method {shown(method)} {reason}"
                f"{'' if chosen else nearest(method, labels)}; this run has pruned with "
                f"{', '.join(labels) or 'no method yet'}"
            )
        return [one for one in nets if one.values["method"] == chosen[0]]

    def _missing(self, what: str, there: Sequence[str], kind: str) -> UserError:
        listed = ", ".join(there[:MOST_LISTED]) + (" ..." if len(there) > MOST_LISTED else "")
        return UserError(
            f"{self.run.directory}: has no {what}; its {kind} are {listed or 'none yet'}"
        )


def set_state(net: nn.Module, state: NetState, directory: Path) -> None:
    """Load a state, and set to 0 what is pruned. Raises UserError if the net is another one."""
    try:
        masks = state.load_into(net)
    except RuntimeError as error:
        raise UserError(
            f"{directory}: the stored net does not fit the network's code as it is now: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from None
    set_removed_to_zero(net, masks)


def _shown_ratio(net: MeasuredNet) -> str:
    return f"{net.keep_ratio:.4g}"


def _key_of_place(place: Place) -> tuple[str, int, int, int]:
    return place.method, int(place.net_seed), int(place.repetition), int(place.step)


def _with_name(labels: Sequence[str], name: str) -> Iterator[str]:
    """The labels of a method with that name, whatever its options."""
    return (label for label in labels if label.partition("(")[0] == name)
