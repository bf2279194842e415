"""How signals end this program: Ctrl-C, SIGTERM and SIGHUP, with one line and within seconds."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

GRACE = 4.0  # seconds for a program to end by itself
HANDLED = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
LINE = "interrupted; run the same command again to resume"

_num_orderly = 0  # blocks that have to be left in order
_was_said = False
_was_received = False


class Interrupted(KeyboardInterrupt):
    """A signal has arrived that is to end the program."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def exit_code(interruption: KeyboardInterrupt) -> int:
    """What a program returns that a signal has ended: 130 for Ctrl-C, 143 for SIGTERM."""
    number = interruption.number if isinstance(interruption, Interrupted) else signal.SIGINT
    return 128 + number


def acknowledge() -> None:
    """Say that the program was interrupted, if there is a terminal, and hear no more signals."""
    global _was_said
    for number in HANDLED:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_IGN)
    if not _was_said:
        _was_said = True
        with contextlib.suppress(OSError, ValueError):
            print(LINE, file=sys.stderr, flush=True)


def install() -> None:
    """Let signals end this process; those that it was started to ignore stay ignored.

    Within a block of `orderly`, the first one raises Interrupted. Elsewhere, at the second one, or
    if the process has not ended by itself after some seconds, it ends at once. Nothing is lost by
    that, since all files are written whole.
    """
    handled = [number for number in HANDLED if signal.getsignal(number) != signal.SIG_IGN]
    for number in handled:
        signal.signal(number, _handle)
    # Python calls handlers between two of its own instructions, which may be far apart. This pipe
    # is written to at once.
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(receiving, handled), daemon=True).start()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=uninstall)


def uninstall() -> None:
    """Let signals do what they do in any process."""
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """A block with something to tidy up, which a signal ends by raising Interrupted."""
    global _num_orderly
    _num_orderly += 1
    try:
        yield
    finally:
        _num_orderly -= 1


def _handle(number: int, frame: FrameType | None) -> None:
    global _was_received
    if _was_received or not _num_orderly:
        _end_at_once(number)
    _was_received = True
    raise Interrupted(number)


def _watch(receiving: int, handled: list[int]) -> None:
    """End the process some seconds after the first signal."""
    while (number := os.read(receiving, 1)[0]) not in handled:
        pass
    time.sleep(GRACE)
    _end_at_once(number)


def _end_at_once(number: int) -> None:
    global _was_said
    if not _was_said:
        _was_said = True
        with contextlib.suppress(OSError):
            os.write(2, f"{LINE}\n".encode())  # what `print` uses may be in use just now
    os._exit(128 + number)
