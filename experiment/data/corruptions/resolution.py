"""Images that lose their details: coarse pixels, and compression."""

import io
from collections.abc import Callable
from typing import Any

import numpy
from numpy import ndarray
from numpy.random import Generator

from experiment.data.corruptions.pixels import as_bytes


def pixelate(pixels: ndarray, share: float, random: Generator) -> ndarray:
    """Scale the image to this share of its size, and back."""
    from PIL.Image import Resampling

    def coarse(image: Any) -> Any:
        size = (max(1, int(share * image.width)), max(1, int(share * image.height)))
        small = image.resize(size, Resampling.BOX)
        return small.resize(image.size, Resampling.BOX)

    return _by_pillow(pixels, coarse)


def jpeg_compression(pixels: ndarray, quality: int, random: Generator) -> ndarray:
    """Compress as JPEG with this quality."""
    from PIL import Image

    def compressed(image: Any) -> Any:
        content = io.BytesIO()
        image.save(content, "JPEG", quality=quality)
        return Image.open(content)

    return _by_pillow(pixels, compressed)


def _by_pillow(pixels: ndarray, change: Callable[[Any], Any]) -> ndarray:
    """What a function of Pillow's images makes of one in colour or, otherwise, of each channel."""
    from PIL import Image

    values = as_bytes(pixels)
    if len(values) == 3:
        changed = numpy.asarray(change(Image.fromarray(values.transpose(1, 2, 0))))
        return changed.transpose(2, 0, 1) / 255
    return numpy.stack([change(Image.fromarray(channel)) for channel in values]) / 255
