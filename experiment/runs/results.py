"""What tasks compute, and the store that keeps it: each result is written whole or not at all."""

import json
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from experiment.core.errors import UserError
from experiment.core.files import write_whole
from experiment.nets.state import NetState
from experiment.runs.records import Record, from_json, to_json

EPOCH = "epoch"


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
    ):
        self.record = record
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
    """Results by key, e.g. `net0/repetition0/0-SiPP/003-prune`, in a directory."""

    def __init__(self, directory: Path):
        self.directory = directory

    def load(self, key: str) -> Result | None:
        """The stored result, None if there is none. Raises UserError if it is broken."""
        path = self._record_path(key)
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_text())
            record = from_json(stored["record"])
            return Result(record, path=self._state_path(key) if stored["state"] else None)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: the stored result is broken ({error}); delete this file to compute it "
                f"again"
            ) from None

    def save(self, key: str, result: Result) -> Result:
        """Store a result; return it, now with its net in a file."""
        path = None
        if result.has_state:
            path = self._state_path(key)
            write_whole(path, result.content)
        # The record comes last: where there is one, all of the result is there.
        content = {"record": to_json(result.record), "state": result.has_state}
        write_whole(self._record_path(key), json.dumps(content, indent=1))
        return Result(result.record, result._state, path=path)

    def discard_state(self, key: str) -> None:
        """Delete the net of a result that nothing will start from; its record stays."""
        self._state_path(key).unlink(missing_ok=True)

    def _record_path(self, key: str) -> Path:
        return self.directory / f"{key}.json"

    def _state_path(self, key: str) -> Path:
        return self.directory / f"{key}.safetensors"


def read_state(path: Path) -> NetState:
    """A stored net. Raises UserError if it cannot be read."""
    return _state_in(_read(path), path)


def _read(path: Path) -> bytes:
    """The bytes of a stored net. Raises UserError if there are none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _broken(path, error) from None


def _state_in(content: bytes, path: Path | None) -> NetState:
    """The net in the bytes of a file. Raises UserError if they are damaged."""
    try:
        return _from_named_tensors(safetensors.torch.load(content))
    except (KeyError, safetensors.SafetensorError) as error:
        raise _broken(path, error) from None


def _broken(path: Path | None, error: Exception) -> UserError:
    if path is None:
        return UserError(f"a net that another process has sent cannot be read ({error})")
    return UserError(
        f"{path}: the stored net cannot be read ({error}); delete {path.stem}.json beside it "
        f"to compute it again"
    )


def _named_tensors(state: NetState) -> dict[str, Tensor]:
    """All of a state by names that tell its parts."""
    named = {f"tensor:{name}": tensor for name, tensor in state.tensors.items()}
    named |= {f"mask:{name}": mask for name, mask in state.masks.items()}
    named |= {f"optimizer:{name}": tensor for name, tensor in state.optimizer.items()}
    if state.epoch:
        named[EPOCH] = torch.tensor(state.epoch)
    return named


def _from_named_tensors(named: dict[str, Tensor]) -> NetState:
    """The inverse of `_named_tensors`. Raises KeyError for a name that is no part of a state."""
    epoch = named.pop(EPOCH, torch.tensor(0))
    parts: dict[str, dict[str, Tensor]] = {"tensor": {}, "mask": {}, "optimizer": {}}
    for joint_name, tensor in named.items():
        kind, _, name = joint_name.partition(":")
        parts[kind][name] = tensor
    return NetState(parts["tensor"], parts["mask"], parts["optimizer"], int(epoch))
