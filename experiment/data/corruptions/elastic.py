"""Images that are stretched in some places and compressed in others."""

import numpy
from numpy import ndarray
from numpy.random import Generator


def elastic_transform(
    pixels: ndarray, strength: tuple[float, float, float], random: Generator
) -> ndarray:
    """Move each pixel: size and smoothness of that, and of a distortion of the whole image."""
    size, smoothness, distortion = strength
    side = min(pixels.shape[1:])
    rows, columns = _distorted(pixels.shape[1:], side * distortion, random)
    image = _at(pixels, rows, columns, "mirror")
    rows, columns = numpy.indices(pixels.shape[1:])
    right, down = (
        _smooth_field(pixels.shape[1:], side * size, side * smoothness, random) for _ in range(2)
    )
    return _at(image, rows + down, columns + right, "reflect")


def _distorted(shape: tuple[int, ...], distance: float, random: Generator) -> ndarray:
    """From where the pixels come if an affine map moves three points by this at most, at random."""
    height, width = shape
    middle, reach = numpy.array([height // 2, width // 2]), max(1, min(shape) // 3)
    corners = middle + reach * numpy.array([[1, 1], [-1, 1], [-1, -1]])  # rows, columns
    moved = corners + random.uniform(-distance, distance, size=(3, 2))
    backwards = numpy.linalg.solve(numpy.c_[moved, numpy.ones(3)], corners)
    rows, columns = numpy.indices(shape)
    return numpy.einsum("irc,ij->jrc", [rows, columns, numpy.ones(shape)], backwards)


def _smooth_field(
    shape: tuple[int, ...], size: float, deviation: float, random: Generator
) -> ndarray:
    """How far each pixel is moved in one direction."""
    from scipy.ndimage import gaussian_filter

    noise = random.uniform(-1, 1, size=shape)
    return size * gaussian_filter(noise, deviation, mode="reflect", truncate=3)


def _at(pixels: ndarray, rows: ndarray, columns: ndarray, mode: str) -> ndarray:
    """The image at other places, by linear interpolation."""
    from scipy.ndimage import map_coordinates

    return numpy.stack(
        [map_coordinates(channel, (rows, columns), order=1, mode=mode) for channel in pixels]
    )
