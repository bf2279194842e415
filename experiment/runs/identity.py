"""What a run depends on, kept in its directory, and how that differs from an earlier run.

A run whose code or files have changed has another run id, and so lies beside the earlier one.
"""

from pathlib import Path

import pydantic

from experiment.config.schema import Config
from experiment.core.dependencies import Dependency, Kind
from experiment.core.files import write_whole

FILE_NAME = "identity.json"

Key = tuple[str, Kind, str]  # the place of the part, and what of it


class Identity(pydantic.BaseModel):
    """The file: a hash of all settings, and what each part depends on besides them."""

    settings: str
    dependencies: dict[str, list[Dependency]]

    @classmethod
    def of(cls, config: Config) -> "Identity":
        return cls(
            settings=config.without_dependencies().run_id(),
            dependencies={place: list(part.dependencies) for place, part in config.parts().items()},
        )

    def by_key(self) -> dict[Key, Dependency]:
        return {
            (place, one.kind, one.name): one
            for place, dependencies in self.dependencies.items()
            for one in dependencies
        }


def write_identity(directory: Path, config: Config) -> list[str]:
    """Keep what a run depends on when it first starts.

    Returns:
        What differs from the last run of the same settings beside it, if that depended on something
        else: one text per difference.
    """
    path = directory / FILE_NAME
    identity = Identity.of(config)
    is_new = not path.exists()
    if _read(path) != identity:  # the same files may lie elsewhere now
        write_whole(path, identity.model_dump_json(indent=1) + "\n")
    return _differences(identity, path) if is_new else []


def _differences(identity: Identity, path: Path) -> list[str]:
    """What differs from the last run beside that of a file which has the same settings."""
    others = [other for other in path.parent.parent.glob(f"*/{FILE_NAME}") if other != path]
    for other in sorted(others, key=_time, reverse=True):
        before = _read(other)
        if before is not None and before.settings == identity.settings:
            return differences(before, identity, other.parent.name)
    return []


def differences(before: Identity, now: Identity, run: str) -> list[str]:
    """What differs, in words; `run` is the name of the earlier run."""
    earlier, later = before.by_key(), now.by_key()
    keys = list(dict.fromkeys([*later, *earlier]))
    are_other_files = {
        (place, name)
        for place, kind, name in keys
        if kind == Kind.FILES and earlier.get((place, kind, name)) != later.get((place, kind, name))
    }
    found = [
        _difference(earlier.get(key), later.get(key), run)
        for key in keys
        if key[1] != Kind.CONTENTS or (key[0], key[2]) not in are_other_files
    ]
    return list(dict.fromkeys(line for line in found if line))  # parts may share a module


def _difference(before: Dependency | None, now: Dependency | None, run: str) -> str | None:
    """What differs in one dependency, of which one may be missing."""
    one = now or before
    if one is None or (before and now and before.digest == now.digest):
        return None
    if one.kind == Kind.FILES:  # published files are no dependency
        return f"{one.description} are not those of run {run}"
    if before and now:
        if one.kind == Kind.SOURCE:
            return f"{one.description} has changed since run {run}"
        return f"{one.description} do not hold the same as those of run {run}"
    if one.kind == Kind.SOURCE:
        if now:
            return f"{one.description} counts now, unlike for run {run}"
        return f"{one.description} counted for run {run}, unlike now"
    if now:
        return f"what {one.description} hold counts now (--verify-data), unlike for run {run}"
    return f"what {one.description} hold counted for run {run} (--verify-data), unlike now"


def read_identity(directory: Path) -> Identity | None:
    """What a run says that it depends on; None if it does not, or its file is damaged."""
    return _read(directory / FILE_NAME)


def _read(path: Path) -> Identity | None:
    """What a file says; None if it is not there, or damaged."""
    try:
        return Identity.model_validate_json(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError):
        return None


def _time(path: Path) -> float:
    """When a file was written; 0 if that cannot be told."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
