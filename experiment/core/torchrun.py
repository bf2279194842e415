"""Whether torchrun has started this process as one of several, and which one."""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One of several processes that do the same together."""

    rank: int  # from 0, on all machines
    size: int  # how many processes there are
    local_rank: int  # from 0, on this machine
    restarts: int  # how often torchrun has started all of them again

    @property
    def leads(self) -> bool:
        """Whether it is the one that talks and writes."""
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
        restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)),
    )


def is_follower() -> bool:
    """Whether another process leads this one."""
    this = member()
    return this is not None and not this.leads


@contextlib.contextmanager
def only_the_leader_speaks() -> Iterator[None]:
    """A block in which the processes that follow another print nothing."""
    if not is_follower():
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
