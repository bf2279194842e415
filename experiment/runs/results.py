"""What tasks compute, and the store that keeps it: each result is written whole or not at all."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from experiment.core.errors import UnreadableError, UserError
from experiment.core.files import move_aside, read_file, remove, write_whole
from experiment.nets.masks import keep_all
from experiment.nets.state import NetState
from experiment.runs.paths import DAMAGED
from experiment.runs.records import Record, from_json, to_json

EPOCH = "epoch"
VERSION = 1  # of the files of a store

# Name of each parameter, buffer and mask of a stored net -> its type and shape.
Layout = Mapping[str, tuple[str, tuple[int, ...]]]


class DamagedError(Exception):
    """A stored result cannot be used. The message says which file, and what is wrong with it."""


class Result:
    """What a task computed: a record of plain values and, unless it only measured, a net.

    A stored net is read when it is first used, since most tasks of a finished run need none.
    """

    def __init__(
        self,
        record: Record,
        state: NetState | None = None,
        *,
        path: Path | None = None,
        content: bytes | None = None,
        digest: str | None = None,
        inputs: Sequence[str | None] = (),
    ):
        self.record = record
        self.digest = digest  # of the stored net, even where that is no longer kept
        self.inputs = tuple(inputs)  # the digests of the nets from which it was computed
        self._state = state
        self._path = path  # of the file with the net
        self._content = content  # of such a file

    @property
    def has_state(self) -> bool:
        """Whether there is a net."""
        return any(part is not None for part in (self._state, self._path, self._content))

    @property
    def state(self) -> NetState:
        """The net. Raises UserError if its file is gone or broken."""
        if self._state is None:
            if not self.has_state:
                raise UserError("the result of a measurement holds no net")
            self._state = _state_in(self.content, self._path)
        return self._state

    @property
    def content(self) -> bytes:
        """The net as the bytes of its file. Raises UserError if the file is gone."""
        if self._content is not None:
            return self._content
        if self._state is not None:
            return safetensors.torch.save(_named_tensors(self._state))
        assert self._path is not None
        return _read(self._path)

    def release(self) -> None:
        """Forget a net that is stored, to free its memory."""
        if self._path is not None:
            self._state = None

    def __getstate__(self) -> tuple:
        """For other processes, which may not see the files: the net itself, if there is one."""
        return self.record, self.content if self.has_state else None

    def __setstate__(self, state: tuple) -> None:
        record, content = state
        self.__init__(record, content=content)  # type: ignore[misc]


class Store:
    """Results by key, e.g. `net0/repetition0/0-SiPP/003-prune`, in a directory.

    Each record says to which key and owner it belongs, and has digests of itself and of its net, so
    that what was damaged, exchanged or brought from elsewhere is never used.
    """

    def __init__(self, directory: Path, owner: str | None, layout: Layout | None = None):
        self.directory = directory
        self.owner = owner  # whose results these are: the id of a run; None to read anybody's
        self.layout = layout  # of the nets; None if any will do

    def load(self, key: str) -> Result | None:
        """The stored result, None if there is none. It has no net if that is no longer kept.

        Raises:
            DamagedError: if it is not as it was stored.
        """
        path = self._record_path(key)
        for link in self._links(path):
            raise DamagedError(f"{link} is a link to another folder")
        try:
            text = read_file(path)
        except FileNotFoundError:
            _require_absent(path)
            return None
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: {error.strerror}") from None
        try:
            stored = json.loads(text, parse_constant=_refuse)
            self._check(stored, key)
            record = from_json(stored["record"])
            digest, inputs = stored["state"], tuple(stored["inputs"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error) if isinstance(error, ValueError) else "is not a record"
            raise DamagedError(f"{path}: {reason}") from None
        net = None if digest is None else self._net_if_kept(key, digest)
        return Result(record, path=net, digest=digest, inputs=inputs)

    def save(self, key: str, result: Result, inputs: Sequence[str | None] = ()) -> Result:
        """Store a result; return it, now with its net in a file.

        `inputs` are the digests of the nets from which it was computed.
        """
        path = digest = None
        if result.has_state:
            path = self._state_path(key)
            content = result.content
            digest = hashlib.sha256(content).hexdigest()
            remove(self._record_path(key))  # of another net, which this one replaces
            write_whole(path, content)
        # The record comes last: where there is one, all of the result is there.
        stored = {
            "version": VERSION,
            "owner": self.owner,
            "key": key,
            "inputs": list(inputs),
            "record": to_json(result.record),
            "state": digest,
        }
        stored["sha256"] = _digest(stored)
        # What only measures is quickly computed again, and waiting for the disk costs more.
        text = json.dumps(stored, indent=1)
        write_whole(self._record_path(key), text, durable=result.has_state)
        return Result(result.record, result._state, path=path, digest=digest, inputs=inputs)

    def keeps_net(self, key: str) -> bool:
        """Whether the net of a result is there; it is not looked at."""
        return self._state_path(key).is_file()

    def discard_state(self, key: str) -> None:
        """Delete the net of a result that nothing will start from; its record stays."""
        remove(self._state_path(key))

    def discard(self, key: str) -> None:
        """Delete a result, if there is one."""
        remove(self._record_path(key))  # first: without it there is no result
        remove(self._state_path(key))

    def put_aside(self, key: str) -> None:
        """Move the files of a result that cannot be used into the folder `damaged`.

        Of files in a folder that is a link only the link is moved: they belong to somebody else.
        """
        record = self._record_path(key)
        for path in self._links(record) or [record, self._state_path(key)]:
            move_aside(path, self.directory / DAMAGED / path.relative_to(self.directory))

    def _links(self, path: Path) -> list[Path]:
        """The outermost folder of the store above a file that is a link, if there is one."""
        found: list[Path] = []
        for folder in path.parents:
            if folder == self.directory:
                break
            if os.path.islink(folder):
                found = [folder]
        return found

    def _check(self, stored: Any, key: str) -> None:
        """Raise ValueError unless a record is what was stored with that key."""
        if stored["version"] != VERSION:
            raise ValueError(f"has version {stored['version']} of the format, not {VERSION}")
        if self.owner not in (None, stored["owner"]) or stored["key"] != key:
            raise ValueError(f"belongs to {stored['key']} of {stored['owner']}")
        digest = stored.pop("sha256")
        if digest != _digest(stored):
            raise ValueError("was changed or damaged: its digest is wrong")

    def _net_if_kept(self, key: str, digest: str) -> Path | None:
        """The file of a net. Raises DamagedError if it is not the one with that digest."""
        path = self._state_path(key)
        try:
            content = read_file(path)
        except FileNotFoundError:
            _require_absent(path)
            return None
        except OSError as error:
            raise DamagedError(f"{path} cannot be read: {error.strerror}") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise DamagedError(f"{path}: was changed or damaged: its digest is wrong")
        if self.layout is not None and _layout_in(content) != self.layout:
            raise DamagedError(f"{path}: holds another net than that of the experiment")
        return path

    def _record_path(self, key: str) -> Path:
        return self.directory / f"{key}.json"

    def _state_path(self, key: str) -> Path:
        return self.directory / f"{key}.safetensors"


def _require_absent(path: Path) -> None:
    """Raise DamagedError if there is something with the name of a file that is not found."""
    if path.is_symlink():
        raise DamagedError(f"{path}: is a link to nothing")


def _refuse(constant: str) -> None:
    """Raises ValueError for a number that is not finite, which no record holds."""
    raise ValueError(f"holds {constant}")


def _digest(stored: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()


def read_state(path: Path) -> NetState:
    """A stored net. Raises UserError if it cannot be read."""
    return _state_in(_read(path), path)


def _read(path: Path) -> bytes:
    """The bytes of a stored net. Raises UserError if there are none."""
    try:
        return read_file(path)
    except OSError as error:
        raise _broken(path, error) from None


def _state_in(content: bytes, path: Path | None) -> NetState:
    """The net in the bytes of a file. Raises UserError if they are damaged."""
    try:
        return _from_named_tensors(safetensors.torch.load(content))
    except (KeyError, safetensors.SafetensorError) as error:
        raise _broken(path, error) from None


def _broken(path: Path | None, error: Exception) -> UnreadableError:
    if path is None:
        return UnreadableError(f"a net that another process has sent cannot be read ({error})")
    return UnreadableError(
        f"{path}: the stored net cannot be read ({error}); run the same command again to compute "
        f"it anew"
    )


def _named_tensors(state: NetState) -> dict[str, Tensor]:
    """All of a state by names that tell its parts."""
    named = {f"tensor:{name}": tensor for name, tensor in state.tensors.items()}
    named |= {f"mask:{name}": mask for name, mask in state.masks.items()}
    named |= {f"optimizer:{name}": tensor for name, tensor in state.optimizer.items()}
    if state.epoch:
        named[EPOCH] = torch.tensor(state.epoch)
    return named


def layout_of(net: nn.Module) -> Layout:
    """The layout of a net, whatever its values, which are not copied."""
    named = _named_tensors(NetState(net.state_dict(), keep_all(net)))
    empty = safetensors.torch.save({name: tensor.new_empty(0) for name, tensor in named.items()})
    types = _layout_in(empty) or {}  # as safetensors calls them
    return {name: (types[name][0], tuple(tensor.shape)) for name, tensor in named.items()}


def _layout_in(content: bytes) -> Layout | None:
    """That of a stored net, apart from its optimiser; None if the bytes are not those of a net."""
    length = int.from_bytes(content[:8], "little")  # of the header, which is JSON
    try:
        header = json.loads(content[8 : 8 + length])
        return {
            name: (entry["dtype"], tuple(entry["shape"]))
            for name, entry in header.items()
            if name.startswith(("tensor:", "mask:"))
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _from_named_tensors(named: dict[str, Tensor]) -> NetState:
    """The inverse of `_named_tensors`. Raises KeyError for a name that is no part of a state."""
    epoch = named.pop(EPOCH, torch.tensor(0))
    parts: dict[str, dict[str, Tensor]] = {"tensor": {}, "mask": {}, "optimizer": {}}
    for joint_name, tensor in named.items():
        kind, _, name = joint_name.partition(":")
        parts[kind][name] = tensor
    return NetState(parts["tensor"], parts["mask"], parts["optimizer"], int(epoch))
