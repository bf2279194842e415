"""Blurred images."""

import numpy
from numpy import ndarray
from numpy.random import Generator

from experiment.data.corruptions.pixels import enlarged, gaussian, moved

SMALLEST_GRID = 8  # pixels from the centre of a disk to the edge of the grid that holds it


def gaussian_blur(pixels: ndarray, deviation: float, random: Generator) -> ndarray:
    """Blur by a Gaussian of this standard deviation, in pixels."""
    return gaussian(pixels, deviation)


def defocus_blur(pixels: ndarray, strength: tuple[float, float], random: Generator) -> ndarray:
    """Average over a disk of this radius, whose edge is softened by this standard deviation."""
    from scipy.ndimage import correlate

    return correlate(pixels, disk(*strength)[None], mode="mirror")


def disk(radius: float, softness: float) -> ndarray:
    """The weights of a disk, softened by a Gaussian of 3x3 pixels or, if it is large, of 5x5."""
    from scipy.ndimage import gaussian_filter

    is_small = radius <= SMALLEST_GRID
    reach = SMALLEST_GRID if is_small else int(radius)
    squares = numpy.arange(-reach, reach + 1) ** 2
    weights = (squares[:, None] + squares <= radius**2).astype(float)
    return gaussian_filter(
        weights / weights.sum(), softness, mode="mirror", radius=1 if is_small else 2
    )


def glass_blur(pixels: ndarray, strength: tuple[float, int, int], random: Generator) -> ndarray:
    """Blur by this deviation, let near pixels so far away replace others so often, and blur."""
    deviation, distance, times = strength
    return gaussian(_displaced(gaussian(pixels, deviation), distance, times, random), deviation)


def _displaced(pixels: ndarray, distance: int, times: int, random: Generator) -> ndarray:
    """Replace pixels by near ones, one after the other, from the last to the first.

    The authors of the benchmark meant to swap them. But their `a[i], a[j] = a[j], a[i]` with arrays
    for pixels, of which no copies are made, leaves both with what was at j: so are their images.
    """
    _, height, width = pixels.shape
    places = numpy.arange(height * width)
    inner = places.reshape(height, width)[
        distance + 1 : height - distance + 1, distance + 1 : width - distance + 1
    ]
    targets = inner[::-1, ::-1].ravel()
    origins = places.tolist()
    for _ in range(times):
        down, right = random.integers(-distance, distance, size=(2, len(targets)))
        for target, source in zip(targets.tolist(), (targets + width * down + right).tolist()):
            origins[target] = origins[source]
    return pixels.reshape(len(pixels), -1)[:, origins].reshape(pixels.shape)


def motion_blur(pixels: ndarray, strength: tuple[float, float], random: Generator) -> ndarray:
    """Blur to the right, at most 45 degrees up or down: radius and standard deviation."""
    return moved(pixels, *strength, random.uniform(-45, 45))


def zoom_blur(pixels: ndarray, zoom: tuple[float, float], random: Generator) -> ndarray:
    """Average the image with enlarged ones: by factors from 1 to below a limit, in steps."""
    limit, step = zoom
    factors = numpy.arange(1, limit, step)
    return (pixels + sum(enlarged(pixels, factor) for factor in factors)) / (len(factors) + 1)
