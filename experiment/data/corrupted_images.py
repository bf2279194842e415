"""Corrupting images one by one, so that each is the same whoever asks for it, and when."""

import hashlib
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from experiment.config.schema import CorruptionName
from experiment.core.seeding import Stream
from experiment.data.corruptions.kinds import KINDS
from experiment.data.corruptions.pixels import as_bytes


@dataclass(frozen=True)
class Corruption:
    """A corruption of some severity, with its random stream.

    The random numbers for an image come from a stream that is named by the kind, the severity and
    the digest of the image itself. So they depend neither on its place in a split nor on batches,
    and what can be pickled may be called in any process.
    """

    name: CorruptionName
    severity: int
    stream: Stream

    def __call__(self, image: Tensor, std: Tensor) -> Tensor:
        """The image of bytes [C, H, W], corrupted; bytes, or floats on their scale.

        `std` [C] is by what pixels on the scale [0, 1] are divided when they are normalised.
        """
        kind = KINDS[self.name]
        values = image.numpy()
        strength = kind.strength(self.severity, *values.shape[1:])
        digest = hashlib.sha256(values.tobytes()).hexdigest()
        random = self.stream.child(self.name, self.severity, digest).numpy_generator()
        if not kind.is_after_normalisation:
            return torch.from_numpy(as_bytes(kind.apply(values / 255, strength, random)))
        scale = 255 * std.double().numpy()[:, None, None]  # of a normalised pixel, in levels
        corrupted = scale * kind.apply(values / scale, strength, random)
        return torch.from_numpy(corrupted.astype(numpy.float32))
