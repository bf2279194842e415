"""Writing a net in a format, and checking that what was written computes the same."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from experiment.core.errors import UserError, first_line
from experiment.core.files import writing
from experiment.deployment.cost import FileSize
from experiment.deployment.fidelity import require_equal
from experiment.deployment.formats import onnx, openvino, safetensors, torch_export
from experiment.deployment.metadata import Metadata


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


@dataclass(frozen=True)
class Written:
    """A file with a net."""

    path: Path
    metadata: Metadata
    size: FileSize
    difference: float  # of its outputs from the pruned net's, relative to the largest


def write_checked(
    net: nn.Module,
    format: str,
    path: Path,
    metadata: Metadata,
    images: Tensor,
    outputs: Tensor,
) -> Written:
    """Write a net to a file once it is sure that the file computes the right outputs.

    Args:
        path: of the file; others may be written beside it, by the same name with another suffix.
        images: on which the file is checked, all together and one alone.
        outputs: those that it should have.

    Raises:
        UserError: if the format cannot hold the net, or the outputs differ; nothing is written.
        StorageError: if the file cannot be written.
    """
    chosen = FORMATS[format]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export", dir=path.parent) as folder:
            temporary = Path(folder) / path.with_suffix(chosen.SUFFIX).name
            chosen.write(net, images, temporary, metadata)
            difference = _check(chosen, temporary, images, outputs)
            parts = sorted(Path(folder).iterdir())
            size = FileSize.of(parts)
            for part in parts:
                part.replace(path.with_suffix(part.suffix))
    return Written(path.with_suffix(chosen.SUFFIX), metadata, size, difference)


def _check(chosen: Format, path: Path, images: Tensor, outputs: Tensor) -> float:
    """The difference of the outputs of a file. Raises UserError if it is too large."""
    run = chosen.read(path)
    try:
        together, alone = run(images), run(images[:1])
    except UserError:
        raise
    except Exception as error:  # of another runtime
        raise UserError(
            f"the {chosen.SUFFIX} file cannot be run: {first_line(error)}; nothing was written"
        ) from error
    what = f"the {chosen.SUFFIX} file"
    require_equal(alone, outputs[:1], chosen.TOLERANCE, what)
    return require_equal(together, outputs, chosen.TOLERANCE, what)
