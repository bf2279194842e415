"""How much memory there is to take, before the system would end a process that takes more."""

import math
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def available_memory() -> float:
    """Bytes that this process can take without swapping; infinite where that cannot be told.

    That is what the machine has free and, in a container, what its limit leaves.
    """
    return min([_free_on_machine(), *map(_left_in_group, _own_groups())])


def in_words(num_bytes: float) -> str:
    """A number of bytes for people."""
    return (
        f"{num_bytes / 2**30:,.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:,.1f} MiB"
    )


def _free_on_machine() -> float:
    for line in _text(MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return math.inf


def _own_groups() -> list[Path]:
    """The folders of the control groups that limit this process, of version 1 or 2."""
    folders = []
    for line in _text(OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = GROUPS / controllers
            inner = top / path.lstrip("/")
            folders += [one for one in [inner, *inner.parents] if one.is_relative_to(top)]
    return folders


def _left_in_group(folder: Path) -> float:
    """What a group's limit leaves; files that the system caches can be given up."""
    limit, used = (
        _number(folder / "memory.max", folder / "memory.limit_in_bytes"),
        _number(folder / "memory.current", folder / "memory.usage_in_bytes"),
    )
    if math.isinf(limit) or math.isinf(used):
        return math.inf
    return max(0, limit - used + _cached(folder / "memory.stat"))


def _cached(path: Path) -> int:
    """The bytes of files that a group has in memory, which the system drops for what needs it."""
    amounts = dict(line.split(maxsplit=1) for line in _text(path).splitlines())
    return sum(
        int(amounts.get(f"total_{kind}") or amounts.get(kind) or 0)
        for kind in ("inactive_file", "active_file")
    )


def _number(*paths: Path) -> float:
    """The number in the first of these files that holds one: others are not there, or say `max`."""
    texts = (_text(path).strip() for path in paths)
    return next((int(text) for text in texts if text.isdigit()), math.inf)


def _text(path: Path) -> str:
    """What a file holds, or nothing where there is none, as outside of Linux."""
    try:
        return path.read_text()
    except OSError:
        return ""
