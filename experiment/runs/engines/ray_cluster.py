"""The engine of `--engine ray`: actors on the nodes of a Ray cluster."""

import contextlib
import logging
import os
import signal
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.core import signals
from experiment.core.devices import num_cores
from experiment.core.errors import UserError, one_line
from experiment.runs.engines.engine import Finished, Job, Listen, Lost
from experiment.runs.engines.remote_worker import Description, RemoteWorker, software
from experiment.runs.results import Result

try:
    import ray
except ImportError:
    raise UserError("--engine ray: Ray is not installed; pip install 'ray>=2.50,<2.61'") from None

START_ATTEMPTS = 3  # of a worker that dies before it has done anything
EVENTS_PER_SECOND = 100  # about how far trainings are, of all workers together
STATES_PER_WORKER = 4  # that are kept in Ray's store for jobs to come
NOT_SENT = ["/data", "/results", "/venv", "/.?*", "__pycache__"]  # of the current directory


@dataclass(frozen=True)
class Share:
    """What a worker takes of its node."""

    cpus: float
    gpus: float

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU cores" + (f" and {self.gpus:g} GPUs" if self.gpus else "")


@dataclass
class Member:
    """An actor, seen from the driver."""

    actor: Any
    description: Any  # that it will give once it has started
    is_ready: bool = False
    events: Any = None  # a generator of them while it is busy

    @property
    def pending(self) -> Any:
        """What to wait for; None while it waits itself."""
        return self.events if self.is_ready else self.description


class RayCluster:
    """Actors that are kept until the end; one that dies is replaced, where there is a place.

    States travel through Ray's object store, where each is put once.
    """

    def __init__(self, share: Share, num_workers: int | None, threads: int):
        """Raises UserError if the cluster, to which `connected` has led, has no place for one."""
        self.share = share
        self.num_workers = num_workers or num_places(share)
        self.hardware: dict[str, Any] = {}  # of the workers; known once one is ready
        self._software = software()
        self._arguments = (
            share.device,
            threads,
            os.getcwd(),
            uuid.uuid4().hex,
            max(0.5, self.num_workers / EVENTS_PER_SECOND),
        )
        self._failed_starts = 0
        self._states: OrderedDict[Result, Any] = OrderedDict()  # in Ray's store, newest last
        self._members = [self._new_member() for _ in range(self.num_workers)]
        while not self.idle():
            self.wait(lambda worker, event: None, None)

    def idle(self) -> Sequence[int]:
        return [
            number
            for number, member in enumerate(self._members)
            if member.is_ready and member.events is None
        ]

    def start(self, worker: int, job: Job) -> None:
        member = self._members[worker]
        states: list[Any] = []
        inputs = [[self._sent(result, states) for result in of_task] for of_task in job.inputs]
        member.events = member.actor.do.remote(job.tasks, inputs, job.checkpoint_seconds, *states)

    def wait(self, listen: Listen, seconds: float | None = None) -> None:
        members = {
            member.pending: number
            for number, member in enumerate(self._members)
            if member.pending is not None
        }
        if not members:
            time.sleep(seconds or 0.0)
            return
        pending = list(members)
        if not ray.wait(pending, num_returns=1, timeout=seconds)[0]:
            return
        ready, _ = ray.wait(pending, num_returns=len(pending), timeout=0)
        for one in ready:
            self._hear(members[one], listen)

    def close(self) -> None:
        for member in self._members:
            _kill(member)

    def _sent(self, result: Result, states: list[Any]) -> tuple[Any, int | None]:
        """A result for a worker: its record, and where its state is among all that are sent."""
        if not result.has_state:
            return result.record, None
        reference = self._states.pop(result, None) or ray.put(result.content)
        self._states[result] = reference  # now the newest
        while len(self._states) > STATES_PER_WORKER * self.num_workers:
            self._states.popitem(last=False)  # read from its file should it be needed again
        states.append(reference)
        return result.record, len(states) - 1

    def _hear(self, worker: int, listen: Listen) -> None:
        """Pass on what a worker says, or that it has died."""
        member = self._members[worker]
        try:
            if not member.is_ready:
                self._welcome(ray.get(member.description))
                member.is_ready = True
                return
            event = ray.get(next(member.events))
        except (ray.exceptions.RayError, StopIteration) as error:
            self._replace(worker, error, listen)
            return
        if isinstance(event, Finished):
            member.events = None
        listen(worker, event)

    def _welcome(self, description: Description) -> None:
        """Take down where a worker is. Raises UserError if it would find other numbers."""
        for name, version in description.software.items():
            if version != self._software[name]:
                raise UserError(
                    f"--engine ray: host {description.host} has {name} {version}, but this one "
                    f"has {self._software[name]}; all nodes of the cluster need the same"
                )
        self._failed_starts = 0
        for key, value in description.hardware.items():
            values = {*str(self.hardware.get(key, value)).split(", "), str(value)}
            self.hardware[key] = value if len(values) == 1 else ", ".join(sorted(values))

    def _replace(self, worker: int, error: Exception, listen: Listen) -> None:
        member = self._members[worker]
        reason = _short(error)
        _kill(member)
        if not member.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= START_ATTEMPTS:
                advice = ""
                if "No module named 'experiment'" in reason:
                    advice = "; install this software on all nodes, or start in its folder"
                raise UserError(f"--engine ray: workers die while they start: {reason}{advice}")
        self._members[worker] = self._new_member()
        if member.events is not None:
            listen(worker, Lost(reason))

    def _new_member(self) -> Member:
        place = {"num_cpus": self.share.cpus, "num_gpus": self.share.gpus}
        actor: Any = ray.remote(RemoteWorker).options(**place, max_restarts=0)
        actor = actor.remote(*self._arguments)
        return Member(actor, actor.describe.remote())


@contextlib.contextmanager
def connected(address: str | None, results: Path) -> Iterator[None]:
    """A block with a Ray cluster: that of an address, or else one of this machine alone.

    This software and the current directory, without the results, travel to the nodes of a cluster.

    Raises:
        UserError: if there is no cluster at the address.
    """
    if address is not None and "://" in address:
        raise UserError(
            f"--address {address}: Ray Client cannot be used here; run this command on a node of "
            f"the cluster with --address auto, or submit it as a Ray job"
        )
    arguments: dict[str, Any] = {"address": address}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        arguments = {"address": "local", "num_cpus": num_cores(), "include_dashboard": False}
    elif "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:  # where `ray job submit` has done so
        arguments["runtime_env"] = runtime_environment(results)
    with signals.orderly():  # or else an interruption would leave processes of Ray behind
        try:
            _start(arguments)
            yield
        finally:
            ray.shutdown()


def _start(arguments: dict[str, Any]) -> None:
    """Connect to a cluster. Raises UserError if there is none."""
    try:
        ray.init(**arguments, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(f"--engine ray: {_joined(error)}{_advice(error)}") from error
    except SystemExit:  # Ray's own answer to SIGTERM
        raise signals.Interrupted(signal.SIGTERM) from None
    signals.reinstall()


def runtime_environment(results: Path) -> dict[str, Any]:
    """What travels to the nodes of a cluster.

    The current directory, in which one's own parts are found, but for what `.gitignore` names,
    data and results. If this software lies elsewhere, it must be installed on the nodes.
    """
    working_directory = Path.cwd()
    not_sent = list(NOT_SENT)
    with contextlib.suppress(ValueError):  # they are elsewhere
        not_sent.append(f"/{results.resolve().relative_to(working_directory).as_posix()}")
    return {"working_dir": str(working_directory), "excludes": not_sent}


def _advice(error: Exception) -> str:
    """What may help if a cluster cannot be used."""
    if isinstance(error, ConnectionError):
        return (
            "; is there a cluster? If it asks for a token, set RAY_AUTH_MODE=token here, with the "
            "same ~/.ray/auth_token as there"
        )
    return ""


def default_gpus(device: str) -> float:
    """How many GPUs a worker takes if nobody says so: one if there are any, unless on the CPU."""
    return 1.0 if device in ("auto", "cuda") and ray.cluster_resources().get("GPU") else 0.0


def num_places(share: Share) -> int:
    """How many workers the nodes of the cluster have a place for. Raises UserError if for none."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    count = sum(_num_places_on(resources, share) for resources in nodes)
    if not count:
        found = "; ".join(
            str(Share(resources.get("CPU", 0), resources.get("GPU", 0))) for resources in nodes
        )
        raise UserError(
            f"--engine ray: no node has {share} for a worker (the nodes have: {found}); use "
            f"smaller --cpus-per-worker or --gpus-per-worker, or give --workers to wait for nodes"
        )
    return count


def _num_places_on(resources: dict[str, float], share: Share) -> int:
    asked = {"CPU": share.cpus, "GPU": share.gpus}
    # Ray counts in units of 1/10,000.
    places = [
        round(resources.get(kind, 0) * 10_000) // round(count * 10_000)
        for kind, count in asked.items()
        if count
    ]
    return min(places)


def _kill(member: Member) -> None:
    """End an actor, whatever it does."""
    with contextlib.suppress(ray.exceptions.RayError, ValueError):  # it has ended
        ray.kill(member.actor)


def _short(error: Exception) -> str:
    """What has happened to an actor, in one line: the end of what Ray says, less its advice."""
    last_line = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
    detail = last_line.partition("Worker exit detail: ")[2] or last_line
    return detail.partition(" Some common causes")[0].rstrip(". ")


def _joined(error: Exception) -> str:
    """All that Ray says, in one line, less what cannot be done here."""
    return one_line(error).partition(", or use the 'excludes'")[0].rstrip(". ")
