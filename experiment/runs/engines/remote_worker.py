"""What an actor of a Ray cluster does. Nothing here needs Ray itself."""

import contextlib
import hashlib
import os
import queue
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiment.config.schema import DatasetPart
from experiment.core.errors import LockedError
from experiment.reporting.environment import code_digest, hardware, versions
from experiment.runs.engines.engine import Event, Job
from experiment.runs.engines.worker import Worker
from experiment.runs.lock import Lock
from experiment.runs.records import Record
from experiment.runs.results import Result
from experiment.runs.tasks import Task

PAUSE = 0.2  # seconds between two looks whether another worker has prepared the data


@dataclass(frozen=True)
class Description:
    """Where a worker is, and with what it computes."""

    host: str
    software: dict[str, str]  # packages and their versions
    hardware: dict[str, Any]


def software() -> dict[str, str]:
    """What must be the same on all nodes."""
    return {**versions(), "code of this software, with digest": code_digest()}


class RemoteWorker:
    """A worker in a process of a cluster.

    It computes in a thread of its own, always the same, and tells what happens meanwhile as the
    items of a generator. `session` is a name that the workers of one driver share.
    """

    def __init__(self, device: str, threads: int, directory: str, session: str, interval: float):
        if Path(directory).is_dir():  # the driver's: paths mean the same here
            os.chdir(directory)
        self._device = device
        self._session = session
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._worker = Worker(
            device, self._events.put, preparing=self._preparing, interval=interval
        )
        self._thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))

    def describe(self) -> Description:
        """Where this worker is. Raises RuntimeError if it has not the device it is to use."""
        hardware_here = self._thread.submit(hardware, self._device).result()
        return Description(socket.gethostname(), software(), hardware_here)

    def do(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[Sequence[tuple[Record, int | None]]],
        checkpoint_seconds: float | None,
        *states: bytes,
    ) -> Iterator[Event]:
        """Do a job; `inputs` are records and which of the states belong to them."""
        results = [
            [
                Result(record, content=None if number is None else states[number])
                for record, number in of_task
            ]
            for of_task in inputs
        ]
        work = self._thread.submit(self._worker.do, Job(tasks, results, checkpoint_seconds))
        work.add_done_callback(lambda work: self._events.put(None))
        while (event := self._events.get()) is not None:
            yield event
        work.result()  # raises what nobody expects

    def _preparing(self, dataset: DatasetPart) -> contextlib.AbstractContextManager[None]:
        name = hashlib.sha256(dataset.model_dump_json().encode()).hexdigest()[:10]
        marker = Path(tempfile.gettempdir()) / f"experiment-{self._session}" / name
        return first_one_alone(marker)


@contextlib.contextmanager
def first_one_alone(marker: Path) -> Iterator[None]:
    """A block that one process of a node goes through alone, before all others.

    Then the file `marker` is there. If the first one fails, the next one tries alone.
    """
    lock = None
    while lock is None and not marker.exists():
        try:
            lock = Lock.take(marker.with_name(f"{marker.name}.lock"))
        except LockedError:
            time.sleep(PAUSE)
    try:
        yield
        if lock is not None:
            marker.touch()
    finally:
        if lock is not None:
            lock.release()
