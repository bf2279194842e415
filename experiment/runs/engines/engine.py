"""What executes jobs, and what it tells about them: the same for every kind of engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from experiment.core import own_code
from experiment.core.errors import UnreadableError, UserError, details_of, one_line
from experiment.runs.results import Result
from experiment.runs.tasks import Task
from experiment.training.evaluation import DivergedError
from experiment.training.records import EpochRecord


@dataclass(frozen=True)
class Job:
    """One task, or several trainings that are done at once, with the results they start from."""

    tasks: Sequence[Task]
    inputs: Sequence[Sequence[Result]]  # those of each task, or the checkpoint it goes on from
    checkpoint_seconds: float | None = None  # between two checkpoints of a training; None: none


@dataclass(frozen=True)
class Failure:
    """What went wrong in a task, as text: exceptions cannot always be sent between processes."""

    message: str  # one line
    details: str = ""  # for the log
    is_bad_input: bool = False
    is_clear: bool = True  # from the message alone; otherwise the details help

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        details = details_of(error)
        if isinstance(error, UserError):
            is_bad_input = not isinstance(error, UnreadableError)
            return cls("; ".join(error.mistakes), details, is_bad_input)
        message = one_line(error) + own_code.place(error)
        return cls(message, details, is_clear=isinstance(error, DivergedError))


@dataclass(frozen=True)
class Finished:
    """A job has ended: what has become of each of its tasks, and how long it took."""

    outcomes: Sequence[Result | Failure]
    seconds: float


@dataclass(frozen=True)
class EpochEnded:
    """An epoch of a training has ended."""

    key: str  # of the task
    record: EpochRecord


@dataclass(frozen=True)
class Checkpointed:
    """How far a training is, and all that it needs to go on from there."""

    key: str  # of the task
    result: Result


@dataclass(frozen=True)
class Advanced:
    """How far a job is."""

    label: str
    done: int  # steps
    total: int
    loss: float  # means over the epoch so far
    accuracy: float

    @property
    def text(self) -> str:
        return f"loss {self.loss:.3f}, accuracy {self.accuracy:.1%}"


@dataclass(frozen=True)
class Lost:
    """The worker has died, and its job with it. The engine starts another in its place."""

    reason: str


Event = Finished | EpochEnded | Checkpointed | Advanced | Lost
Listen = Callable[[int, Event], None]  # called with the number of a worker


class Engine(Protocol):
    """Workers, numbered from 0, that do a job at a time each."""

    num_workers: int

    def idle(self) -> Sequence[int]:
        """The workers that wait for a job."""

    def start(self, worker: int, job: Job) -> None:
        """Give a job to a worker that waits for one.

        Raises:
            UserError: if a net that the job starts from cannot be read.
        """

    def wait(self, listen: Listen, seconds: float | None = None) -> None:
        """Wait until there is something to tell, at most for so long, and tell it."""

    def close(self) -> None:
        """End all workers, whatever they do."""
