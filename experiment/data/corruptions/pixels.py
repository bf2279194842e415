"""What several corruptions do with pixels [C, H, W] on the scale [0, 1]."""

from collections.abc import Sequence

import numpy
from numpy import ndarray

RED_GREEN_BLUE = (0.299, 0.587, 0.114)  # the weights of the colours in grey, as in ITU-R BT.601


def as_bytes(pixels: ndarray) -> ndarray:
    """Pixels as bytes: clipped and rounded, where the authors of the benchmark cut off."""
    return numpy.rint(255 * pixels.clip(0, 1)).astype(numpy.uint8)


def grey(pixels: ndarray) -> ndarray:
    """The brightness [H, W] of each pixel; the mean of its channels if they are not colours."""
    weights = RED_GREEN_BLUE if len(pixels) == 3 else [1 / len(pixels)] * len(pixels)
    return numpy.einsum("c,chw->hw", weights, pixels)  # not BLAS, whose threads may differ


def paint(colour: Sequence[float], num_channels: int) -> ndarray:
    """A colour as [C, 1, 1]; its brightness in each channel if the channels are not colours."""
    values = numpy.array(colour)[:, None, None]
    return values if num_channels == 3 else grey(values)[None].repeat(num_channels, 0)


def enlarged(pixels: ndarray, factor: float) -> ndarray:
    """The centre of an image, enlarged to the size of the whole."""
    from scipy.ndimage import zoom

    _, height, width = pixels.shape
    cropped = centre(pixels, int(numpy.ceil(height / factor)), int(numpy.ceil(width / factor)))
    return centre(zoom(cropped, (1, factor, factor), order=1), height, width)


def centre(pixels: ndarray, height: int, width: int) -> ndarray:
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return pixels[:, top : top + height, left : left + width]


def gaussian(pixels: ndarray, deviation: float) -> ndarray:
    """Blur the last two dimensions; beyond its edge, an image goes on as it is there."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(pixels, deviation, mode="nearest", axes=(-2, -1))


def moved(pixels: ndarray, radius: float, deviation: float, degrees: float) -> ndarray:
    """Average each pixel with those ahead of it in a direction, which count less the farther.

    This is ImageMagick's `-motion-blur`: the weights are half of a Gaussian over `2 * radius + 1`
    pixels, 0 degrees are to the right and 90 degrees down, and pixels are not interpolated.
    """
    distances = numpy.arange(2 * int(numpy.ceil(radius)) + 1)
    weights = numpy.exp(-(distances**2) / (2 * deviation**2))
    angle = numpy.radians(degrees)
    downs, rights = (
        numpy.ceil(distances * share - 0.5).astype(int) + len(distances)
        for share in (numpy.sin(angle), numpy.cos(angle))
    )
    _, height, width = pixels.shape
    around = numpy.pad(pixels, ((0, 0), *[(len(distances),) * 2] * 2), mode="edge")
    shifted = (
        weight * around[:, down : down + height, right : right + width]
        for weight, down, right in zip(weights / weights.sum(), downs, rights)
    )
    return sum(shifted, numpy.zeros_like(pixels))
