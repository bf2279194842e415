"""Whether torchrun has started this process as one of several, and which one."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from experiment.core.errors import UserError


@dataclass(frozen=True)
class Member:
    """One of several processes that do the same together."""

    rank: int  # from 0, on all machines
    size: int  # how many processes there are
    local_rank: int  # from 0, on this machine
    local_size: int  # how many there are on this machine
    restarts: int  # how often torchrun has started all of them again

    @property
    def leads(self) -> bool:
        """Whether it is the one that drives and writes."""
        return self.rank == 0


def member() -> Member | None:
    """What the environment says of this process; None if it is on its own."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1 or not {"TORCHELASTIC_RUN_ID", "MASTER_ADDR"} & os.environ.keys():
        return None
    return Member(
        rank=int(os.environ["RANK"]),
        size=size,
        local_rank=int(os.environ.get("LOCAL_RANK", 0)),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)),
    )


def is_follower() -> bool:
    """Whether another process leads this one."""
    this = member()
    return this is not None and not this.leads


def leave(exit_code: int) -> NoReturn:
    """End this process; one of several without Python's tidying up.

    The threads of torch.distributed outlive its groups, and one that lets go of a Python object
    while Python ends aborts the process: torchrun would count a run that is complete as failed.
    After an interruption they may wait for processes that have ended already.
    """
    if member() is None:
        sys.exit(exit_code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


@contextlib.contextmanager
def one_speaks() -> Iterator[None]:
    """A block in which only the first of the processes on this machine prints anything.

    What is wrong with the arguments all of them find; the others end without a failure, for which
    torchrun would end the one that is about to say what is wrong.
    """
    this = member()
    if this is None or this.local_rank == 0:
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            yield
        except (UserError, SystemExit):
            raise SystemExit(0) from None
