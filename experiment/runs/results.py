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

    def __init__(self, record: Record, state: NetState | None = None, path: Path | None = None):
        self.record = record
        self._state = state
        self._path = path

    @property
    def has_state(self) -> bool:
        """Whether there is a net."""
        return self._state is not None or self._path is not None

    @property
    def state(self) -> NetState:
        """The net. Raises UserError if its file is gone or broken."""
        if self._state is None:
            if self._path is None:
                raise UserError("the result of a measurement holds no net")
            self._state = read_state(self._path)
        return self._state

    def release(self) -> None:
        """Forget a net that is stored, to free its memory."""
        if self._path is not None:
            self._state = None

    def __getstate__(self) -> tuple:
        """For other processes, which may not see the files: the net itself, if there is one."""
        return self.record, self.state if self.has_state else None

    def __setstate__(self, content: tuple) -> None:
        self.record, self._state = content
        self._path = None


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
        state = result.state if result.has_state else None
        path = None
        if state is not None:
            path = self._state_path(key)
            write_whole(path, safetensors.torch.save(_named_tensors(state)))
        # The record comes last: where there is one, all of the result is there.
        content = {"record": to_json(result.record), "state": state is not None}
        write_whole(self._record_path(key), json.dumps(content, indent=1))
        return Result(result.record, state, path)

    def discard_state(self, key: str) -> None:
        """Delete the net of a result that nothing will start from; its record stays."""
        self._state_path(key).unlink(missing_ok=True)

    def _record_path(self, key: str) -> Path:
        return self.directory / f"{key}.json"

    def _state_path(self, key: str) -> Path:
        return self.directory / f"{key}.safetensors"


def read_state(path: Path) -> NetState:
    """A stored net. Raises UserError if it cannot be read."""
    try:
        return _from_named_tensors(safetensors.torch.load(path.read_bytes()))
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{path}: the stored net cannot be read ({error}); delete {path.stem}.json beside it "
            f"to compute it again"
        ) from None


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
