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
_handled: list[signal.Signals] = []  # those that end this process; empty before `install`
_received: int | None = None  # the first of them that has arrived


class Interrupted(KeyboardInterrupt):
    """A signal has arrived that is to end the program."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def exit_code(interruption: KeyboardInterrupt) -> int:
    """What a program returns that a signal has ended: 130 for Ctrl-C, 143 for SIGTERM.

    Libraries may replace an Interrupted that passes through them by a plain KeyboardInterrupt.
    """
    if isinstance(interruption, Interrupted):
        return 128 + interruption.number
    return 128 + (_received or signal.SIGINT)


def has_come() -> bool:
    """Whether a signal that is to end the program has arrived, or may have."""
    return _received is not None or not _handled


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
    _handled[:] = [number for number in HANDLED if signal.getsignal(number) != signal.SIG_IGN]
    reinstall()
    # Python calls handlers between two of its own instructions, which may be far apart. This pipe
    # is written to at once.
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(receiving,), daemon=True).start()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=uninstall)


def reinstall() -> None:
    """Let signals end this process again, after a library has taken them for itself."""
    for number in _handled:
        signal.signal(number, _handle)


def uninstall() -> None:
    """Let signals do what they do in any process."""
    _handled.clear()
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
    global _received
    if _received is not None or not _num_orderly:
        _end_at_once(number)
    _received = number
    raise Interrupted(number)


def _watch(receiving: int) -> None:
    """End the process some seconds after the first signal."""
    while (number := os.read(receiving, 1)[0]) not in _handled:
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
