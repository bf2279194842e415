"""Writing a net in a format, and checking that what was written computes the same."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError, first_line
from experiment.core.files import writing
from experiment.core.spelling import nearest
from experiment.core.text import shown
from experiment.deployment.cost import FileSize
from experiment.deployment.fidelity import require_equal
from experiment.deployment.formats import onnx, openvino, safetensors, torch_export
from experiment.deployment.metadata import Metadata
from experiment.nets.running import run_in_eval_mode


class Format(Protocol):
    """What a module of `formats` has."""

    SUFFIX: str  # of the file
    TOLERANCE: float  # of outputs, relative to the largest

    def write(self, net: nn.Module, images: Tensor, path: Path, metadata: Metadata) -> None:
        """Write a net; `images` is an example of what it takes."""

    def read(self, path: Path) -> Callable[[Tensor], Tensor]:
        """What the file computes, in the runtime that it is for."""


FORMATS: dict[str, Format] = {
    "safetensors": safetensors,
    "onnx": onnx,
    "torch-export": torch_export,
    "openvino": openvino,
}


def format_for(name: str | None, path: str | Path | None) -> str:
    """The name of the format that is asked for, or that the suffix of the file says.

    Raises:
        UserError: for a format that there is not, or a suffix of none or of another one.
    """
    suffix = Path(path).suffix if path is not None else ""
    if name is None:
        by_suffix = [key for key, one in FORMATS.items() if one.SUFFIX == suffix]
        if suffix and not by_suffix:
            suffixes = ", ".join(one.SUFFIX for one in FORMATS.values())
            raise UserError(f"{path}: no format has the suffix {suffix}; there are {suffixes}")
        return by_suffix[0] if by_suffix else "safetensors"
    if name not in FORMATS:
        raise UserError(
            f"format {shown(name)}: there is {', '.join(FORMATS)}{nearest(name, FORMATS)}"
        )
    if suffix and suffix != FORMATS[name].SUFFIX:
        raise UserError(f"{path}: a file of format {name} ends in {FORMATS[name].SUFFIX}")
    return name


@dataclass(frozen=True)
class Written:
    """A file with a net."""

    path: Path
    metadata: Metadata
    size: FileSize
    outputs: Tensor  # what it computes for the images


def write_checked(
    net: nn.Module,
    format: str,
    path: Path,
    metadata: Metadata,
    images: Tensor,
) -> Written:
    """Write a net to a file once it is sure that the file computes what the net does.

    Args:
        path: of the file; others may be written beside it, by the same name with another suffix.
        images: on which both are compared, all together and one alone.

    Raises:
        UserError: if the format cannot hold the net, or the outputs differ; nothing is written.
        StorageError: if the file cannot be written.
    """
    chosen = FORMATS[format]
    expected = _together_and_alone(lambda some: run_in_eval_mode(net, (some, None)), images)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export", dir=path.parent) as folder:
            temporary = Path(folder) / path.with_suffix(chosen.SUFFIX).name
            chosen.write(net, images, temporary, metadata)
            outputs = _checked(chosen, temporary, images, expected)
            parts = sorted(Path(folder).iterdir())
            size = FileSize.of(parts)
            for part in parts:
                part.replace(path.with_suffix(part.suffix))
    return Written(path.with_suffix(chosen.SUFFIX), metadata, size, outputs)


def _checked(chosen: Format, path: Path, images: Tensor, expected: Tensor) -> Tensor:
    """The outputs of a file. Raises UserError if they are not those that are expected."""
    try:
        found = _together_and_alone(chosen.read(path), images)
    except UserError:
        raise
    except Exception as error:  # of another runtime
        raise UserError(
            f"the {chosen.SUFFIX} file cannot be run: {first_line(error)}; nothing was written"
        ) from error
    require_equal(found, expected, chosen.TOLERANCE, f"the {chosen.SUFFIX} file")
    return found[:-1]


def _together_and_alone(run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The outputs of all images, and after them those of the first one in a batch of its own."""
    return torch.cat([run(images), run(images[:1])])
