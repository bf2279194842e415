"""The engine of torchrun: all processes train and evaluate one net together.

The first process drives the run and prunes. What is to be trained or evaluated it sends to the
others, which do the same and keep nothing of it but their data and nets.
"""

import contextlib
import os
import pickle
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn

import torch
from torch import distributed

from experiment.config.schema import Config
from experiment.core import signals
from experiment.core.torchrun import Member
from experiment.runs.engines.engine import Event, Failure, Finished, Job, Listen
from experiment.runs.engines.worker import Worker
from experiment.runs.tasks import Prune
from experiment.runs.workplace import Workplace
from experiment.training.team import Team

LONGEST_EXCHANGE = timedelta(hours=1)  # within a job, in which all are equally fast
LONGEST_WAIT = timedelta(days=7)  # for what one process does alone: pruning, loading data
GRACE = timedelta(seconds=30)  # between two processes that fail for the same reason
POLL = 0.01  # seconds between two looks at how the others have ended a job


class Link:
    """What the processes of a team tell each other between jobs."""

    def __init__(self, team: Team, store: distributed.Store):
        self.team = team
        self._store = store
        self._num_jobs = 0
        group = distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        assert isinstance(group, distributed.ProcessGroup)  # of which this process is a member
        self._group = group

    def send(self, content: bytes | None) -> None:
        """Give a job to the others; None: there are no more."""
        distributed.broadcast_object_list([content], src=0, group=self._group)

    def receive(self) -> bytes | None:
        """What the first process sends next."""
        received: list[bytes | None] = [None]
        distributed.broadcast_object_list(received, src=0, group=self._group)
        return received[0]

    def meet(self) -> None:
        """Wait until all processes are here."""
        distributed.barrier(group=self._group)

    def compare(self, finished: Finished) -> None:
        """Go on if a job has ended in all processes alike: well, or in a failure.

        If one alone has failed, the others may wait for it in the middle of the job. It ends its
        process, whereupon torchrun ends all.
        """
        failures = [one for one in finished.outcomes if isinstance(one, Failure)]
        try:
            ends = self._ends_of_all("failed" if failures else "done", bool(failures))
        except RuntimeError as error:
            self.break_off(failures[0].details if failures else str(error))
        if len(ends) > 1:
            self.break_off(failures[0].details if failures else "the others have failed")

    def _ends_of_all(self, own: str, is_hurried: bool) -> set[str]:
        """How a job has ended in the processes. Raises RuntimeError if that of one is not known."""
        self._num_jobs += 1
        keys = [f"{self._num_jobs}/{rank}" for rank in range(self.team.size)]
        self._store.set(keys[self.team.rank], own)
        deadline = time.monotonic() + (GRACE if is_hurried else LONGEST_WAIT).total_seconds()
        while not self._store.check(keys):
            if time.monotonic() > deadline:
                raise RuntimeError("the others have not ended the job")
            time.sleep(POLL)  # the store's own wait could not be interrupted
        self._store.delete_key(f"{self._num_jobs - 1}/{self.team.rank}")  # all have read it
        return {end.decode() for end in self._store.multi_get(keys)}

    def break_off(self, reason: str) -> NoReturn:
        """End this process at once: usually it would wait for what is under way on a GPU."""
        print(
            f"failed: process {self.team.rank} of {self.team.size} cannot go on with the others: "
            f"{reason}",
            file=sys.__stderr__,
            flush=True,
        )
        os._exit(1)


class Leader:
    """The team as one worker, in its first process. A job is done while the driver waits for it."""

    num_workers = 1

    def __init__(self, workplace: Workplace, config: Config, link: Link):
        self.link = link
        self.worker = Worker(str(workplace.device), self._hear, link.team)
        self.worker.use(workplace, config.dataset, config.seed)
        self._job: Job | None = None
        self._sent: bytes | None = None  # the job, if all processes do it
        self._listen: Listen = lambda worker, event: None

    def idle(self) -> Sequence[int]:
        return [0] if self._job is None else []

    def start(self, worker: int, job: Job) -> None:
        self._sent = None if isinstance(job.tasks[0], Prune) else pickle.dumps(job)
        self._job = job

    def wait(self, listen: Listen, seconds: float | None = None) -> None:
        self._listen = listen
        if self._job is None:
            time.sleep(seconds or 0)
            return
        if self._sent is not None:
            self.link.send(self._sent)
            self.link.meet()
        self.worker.do(self._job)

    def close(self) -> None:
        pass

    def _hear(self, event: Event) -> None:
        if isinstance(event, Finished):
            if self._sent is not None:
                self.link.compare(event)
            self._job = self._sent = None
        self._listen(0, event)


def follow(link: Link, device: str) -> None:
    """What the other processes do until there are no more jobs."""
    signals.uninstall()  # there is nothing to tidy up

    def hear(event: Event) -> None:
        if isinstance(event, Finished):
            link.compare(event)

    worker = Worker(device, hear, link.team)
    while (content := _next_job(link)) is not None:
        try:
            job: Job = pickle.loads(content)
            worker.workplace_for(job.tasks[0])
            link.meet()
        except Exception:
            link.break_off(traceback.format_exc())
        worker.do(replace(job, checkpoint_seconds=None))  # the first process keeps them


def _next_job(link: Link) -> bytes | None:
    try:
        return link.receive()
    except RuntimeError:  # the first process has ended, and says why
        os._exit(1)


@contextlib.contextmanager
def linked(member: Member, device: str) -> Iterator[Link]:
    """A block in which this process is one of a team. At its end the first one lets all go."""
    if device == "cuda":
        torch.cuda.set_device(member.local_rank)
    lasting, rank, size = next(distributed.rendezvous("env://"))
    # It outlives processes: restarted ones must not find where the old ones were.
    store = distributed.PrefixStore(f"start {member.restarts} of {size}", lasting)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=LONGEST_EXCHANGE,
    )
    link = Link(Team(rank, size), distributed.PrefixStore("jobs", store))
    try:
        yield link
    except Exception:
        _dismiss(link)
        raise
    else:  # if it is interrupted, all may be in the middle of a job; torchrun ends them
        _dismiss(link)


def _dismiss(link: Link) -> None:
    if link.team.rank == 0:
        link.send(None)
    distributed.destroy_process_group()
