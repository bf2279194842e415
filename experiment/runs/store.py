"""The stored results of an experiment's steps: each is computed once and written whole or not at all."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from experiment.core.errors import UserError
from experiment.core.files import write_whole
from experiment.nets.masks import Masks


@dataclass
class State:
    """A net's parameters and buffers, and its masks, on the CPU."""

    tensors: dict[str, Tensor]
    masks: Masks

    @classmethod
    def of(cls, net: nn.Module, masks: Masks) -> "State":
        return cls(
            {
                name: tensor.detach().cpu().clone().contiguous()
                for name, tensor in net.state_dict().items()
            },
            {name: mask.cpu().contiguous() for name, mask in masks.items()},
        )

    def restore(self, net: nn.Module, device: torch.device) -> Masks:
        """Load into a net, in place; return the masks on its device."""
        net.load_state_dict(self.tensors)
        return {name: mask.to(device) for name, mask in self.masks.items()}


class StepResult:
    """What a step computed: a record of plain values, and a net unless it only measured.

    A stored net is read when it is first used, since most steps of a finished chain need none.
    """

    def __init__(
        self,
        record: dict[str, Any] | None = None,
        state: State | None = None,
        path: Path | None = None,
    ):
        self.record = record or {}
        self._state = state
        self._path = path

    @property
    def has_state(self) -> bool:
        return self._state is not None or self._path is not None

    @property
    def state(self) -> State:
        """The net. Raises UserError if its file is gone or broken."""
        if self._state is None:
            self._state = _read_state(self._path)
        return self._state


class Store:
    """Step results by key, e.g. `net0/SiPP/0/003-prune`, in a directory."""

    def __init__(self, directory: Path):
        self.directory = directory

    def step(self, key: str, compute: Callable[..., StepResult], *arguments: Any) -> StepResult:
        """The stored result of a step, or else that of `compute(*arguments)`, which is then stored."""
        record_path = self.directory / f"{key}.json"
        if record_path.exists():
            return self.load(key)
        result = compute(*arguments)
        if result.has_state:
            named = {f"tensor:{name}": tensor for name, tensor in result.state.tensors.items()}
            named |= {f"mask:{name}": mask for name, mask in result.state.masks.items()}
            write_whole(self._state_path(key), safetensors.torch.save(named))
        # The record comes last: where there is one, all of the step is there.
        write_whole(
            record_path, json.dumps({"record": result.record, "state": result.has_state}, indent=1)
        )
        return result

    def load(self, key: str) -> StepResult:
        """The stored result of a step. Raises UserError if it is missing or broken."""
        path = self.directory / f"{key}.json"
        try:
            stored = json.loads(path.read_text())
            return StepResult(
                stored["record"], path=self._state_path(key) if stored["state"] else None
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: the stored result is broken ({error}); delete the folder {path.parent} to "
                f"compute its steps anew"
            ) from None

    def discard_state(self, key: str) -> None:
        """Delete the net of a step that nothing will start from; its record stays."""
        self._state_path(key).unlink(missing_ok=True)

    def _state_path(self, key: str) -> Path:
        return self.directory / f"{key}.safetensors"


def _read_state(path: Path) -> State:
    try:
        named = safetensors.torch.load(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{path}: the stored net cannot be read ({error}); delete the folder "
            f"{path.parent} to compute its steps anew"
        ) from None
    parts = {"tensor": {}, "mask": {}}
    for key, tensor in named.items():
        kind, _, name = key.partition(":")
        parts[kind][name] = tensor
    return State(parts["tensor"], parts["mask"])
