"""The engine of a run without workers: this process does everything, one job after the other."""

import time
from collections.abc import Sequence

from experiment.config.schema import Config
from experiment.runs.engines.engine import Event, Job, Listen
from experiment.runs.engines.worker import Worker
from experiment.runs.workplace import Workplace


class InProcess:
    """One worker, in this process. A job is done while the driver waits for it."""

    num_workers = 1

    def __init__(self, workplace: Workplace, config: Config):
        self.worker = Worker(str(workplace.device), self._hear)
        self.worker.use(workplace, config.dataset, config.seed)
        self._job: Job | None = None
        self._listen: Listen = lambda worker, event: None

    def idle(self) -> Sequence[int]:
        return [0] if self._job is None else []

    def start(self, worker: int, job: Job) -> None:
        self._job = job

    def wait(self, listen: Listen, seconds: float | None = None) -> None:
        job, self._job = self._job, None
        self._listen = listen
        if job is not None:
            self.worker.do(job)
        elif seconds is not None:
            time.sleep(seconds)

    def close(self) -> None:
        pass

    def _hear(self, event: Event) -> None:
        self._listen(0, event)
