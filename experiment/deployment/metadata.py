"""What a file with a net says of itself, so that people can use it without this software."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from experiment.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The entries of a file. None where something is not known."""

    software: str  # that has written the file, with a digest of its code
    network: str
    network_options: dict[str, Any]
    input_shape: tuple[int, int, int]  # channels, height, width
    num_classes: int
    classes: tuple[str, ...] | None  # their names, in the order of the outputs
    mean: tuple[float, ...] | None  # of each channel, of images on the scale 0 to 1
    std: tuple[float, ...] | None
    dataset: str
    run_id: str
    method: str
    net_seed: int
    repetition: int
    keep_ratio_requested: float
    keep_ratio: float  # of the original parameters
    test_accuracy: float
    validation_accuracy: float
    parameters: int  # that the file holds, zeros included
    macs: int  # multiplications and additions for one image, zeros included

    def as_texts(self) -> dict[str, str]:
        """The entries as texts: those that are no texts as JSON."""
        return {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_texts(cls, texts: dict[str, str], source: str) -> "Metadata":
        """The inverse of `as_texts`. Raises UserError, in the name of `source`, if it is none."""
        try:
            values: dict[str, Any] = {
                name: texts[name]
                if field.type == "str" or field.type is str
                else json.loads(texts[name])
                for name, field in cls.__dataclass_fields__.items()
            }
            for name in ("input_shape", "classes", "mean", "std"):
                if values[name] is not None:
                    values[name] = tuple(values[name])
            return cls(**values)
        except (KeyError, ValueError, TypeError):
            raise UserError(
                f"{source}: was not written by `python -m experiment export`: it does not say "
                f"which network it holds"
            ) from None
