"""The engine of `--workers N`: processes on this machine."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from experiment.core.errors import UserError
from experiment.runs.engines.engine import Event, Finished, Job, Listen, Lost
from experiment.runs.engines.worker import Worker

START_ATTEMPTS = 3  # of a worker that dies before it has done anything
GRACE = 2.0  # seconds for a process to end by itself

HAS_GROUPS = hasattr(os, "setsid")  # groups of processes; Windows has none

READY = "ready"


@dataclass
class Member:
    """A worker process, seen from the driver."""

    process: SpawnProcess
    connection: Connection
    is_ready: bool = False
    is_busy: bool = False


class Processes:
    """Worker processes that are kept until the end; one that dies is replaced.

    Each is the leader of a process group of its own, so that what it has started ends with it.
    """

    def __init__(self, devices: Sequence[str], threads: int):
        self.num_workers = len(devices)
        self.devices = devices
        self.threads = threads
        self._failed_starts = 0
        self._context = multiprocessing.get_context("spawn")
        self._members = [self._new_member(device) for device in devices]

    def idle(self) -> Sequence[int]:
        return [
            number
            for number, member in enumerate(self._members)
            if member.is_ready and not member.is_busy
        ]

    def start(self, worker: int, job: Job) -> None:
        member = self._members[worker]
        content = pickle.dumps(job)
        member.is_busy = True
        with contextlib.suppress(OSError):  # it has died, which is seen when waiting for it
            member.connection.send_bytes(content)

    def wait(self, listen: Listen, seconds: float | None = None) -> None:
        members = {member.connection: number for number, member in enumerate(self._members)}
        for connection in wait(list(members), seconds):
            self._hear(members[connection], listen)  # type: ignore[index]

    def close(self) -> None:
        for member in self._members:
            _kill(member)

    def _hear(self, worker: int, listen: Listen) -> None:
        """Pass on what a worker says, or that it has died."""
        member = self._members[worker]
        try:
            message = member.connection.recv()
        except (EOFError, OSError):
            self._replace(worker, listen)
            return
        if message == READY:
            member.is_ready = True
            self._failed_starts = 0
            return
        event, ends_job = message
        if ends_job:
            member.is_busy = False
        listen(worker, event)

    def _replace(self, worker: int, listen: Listen) -> None:
        member = self._members[worker]
        reason = _end_of(member)
        _kill(member)
        if not member.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= START_ATTEMPTS:
                raise UserError(f"--workers: workers die while they start: {reason}")
        self._members[worker] = self._new_member(self.devices[worker])
        if member.is_busy:
            listen(worker, Lost(reason))

    def _new_member(self, device: str) -> Member:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve, args=(theirs, device, self.threads), daemon=False
        )
        with _without_interrupts():
            process.start()
        theirs.close()
        return Member(process, ours)


def serve(connection: Connection, device: str, threads: int) -> None:
    """What a worker process does until the driver's end of the connection is closed."""
    if HAS_GROUPS:
        os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if device.startswith("cuda"):
        torch.cuda.set_device(device)

    def tell(event: Event) -> None:
        connection.send((event, isinstance(event, Finished)))

    worker = Worker(device, tell)
    connection.send(READY)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        worker.do(job)


def _end_with_parent() -> None:
    """Kill this process and all that it has started as soon as the driver is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    if HAS_GROUPS:
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _kill(member: Member) -> None:
    """End a worker process with all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if HAS_GROUPS and member.process.pid is not None:
            os.killpg(member.process.pid, signal.SIGKILL)
    member.process.kill()  # if it had no group of its own yet
    member.process.join(GRACE)
    member.connection.close()


def _end_of(member: Member) -> str:
    """How a worker process has ended."""
    member.process.join(GRACE)
    code = member.process.exitcode
    if code is None:
        return "it closed its connection"
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, out of memory?" if name == "SIGKILL" else name


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A block whose new processes ignore Ctrl-C, which the driver alone hears."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
