"""Drops on the lens, of water or of mud."""

import numpy
from numpy import ndarray
from numpy.random import Generator

from experiment.data.corruptions.pixels import gaussian, paint

WATER = (175 / 255, 238 / 255, 238 / 255)  # pale turquoise
MUD = (63 / 255, 42 / 255, 20 / 255)
THINNEST_MUD = 0.8  # share of a pixel
FARTHEST = 20  # pixels from the edge of a drop, from which on its brightness is the same
WEAK_EDGE, STRONG_EDGE = 50, 150
TINY = 1e-6  # pixels, by which a mean may be too small
# Makes drops bright at their lower right.
RELIEF = numpy.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])

Spatter = tuple[float, float, float, float, float, bool]


def spatter(pixels: ndarray, strength: Spatter, random: Generator) -> ndarray:
    """Cover parts with drops: normal noise, smoothed and cut off; of water or, at last, of mud."""
    mean, deviation, smoothness, lowest, amount, is_mud = strength
    liquid = gaussian(random.normal(mean, deviation, size=pixels.shape[1:]), smoothness)
    liquid = numpy.where(liquid < lowest, 0, liquid)
    if is_mud:
        cover = gaussian((liquid > lowest).astype(float), amount)
        cover = numpy.where(cover < THINNEST_MUD, 0, cover)
        return pixels * (1 - cover) + cover * paint(MUD, len(pixels))
    light = light_of(liquid)
    return pixels + amount * light * paint(WATER, len(pixels))


def light_of(liquid: ndarray) -> ndarray:
    """How much light drops of water reflect, from 0 to 1: most at one side of their edges."""
    levels = (255 * liquid.clip(0, 1)).astype(numpy.uint8)
    light = levels * _relief(_distances(edges(levels)))
    return light / max(light.max(), 1)


def _distances(is_edge: ndarray) -> ndarray:
    """How far each pixel is from an edge, at most `FARTHEST`."""
    from scipy.ndimage import distance_transform_edt

    if not is_edge.any():
        return numpy.full(is_edge.shape, float(FARTHEST))
    return distance_transform_edt(~is_edge).clip(max=FARTHEST)


def _relief(distances: ndarray) -> ndarray:
    """Distances as levels of light, spread over all from 0 to 255."""
    from scipy.ndimage import correlate, uniform_filter

    smooth = uniform_filter(distances, 3, mode="mirror") + TINY  # means of whole numbers are whole
    spread = _equalised(smooth.astype(numpy.uint8))
    relief = correlate(spread.astype(int), RELIEF, mode="mirror").clip(0, 255)
    return numpy.rint(uniform_filter(relief.astype(float), 3, mode="mirror"))


def _equalised(levels: ndarray) -> ndarray:
    """Levels after histogram equalisation, by which the lowest of them becomes 0."""
    counts = numpy.bincount(levels.ravel(), minlength=256)
    num_lowest = counts[levels.min()]
    if num_lowest == levels.size:
        return levels
    shares = (counts.cumsum() - num_lowest) / (levels.size - num_lowest)
    return numpy.rint(255 * shares.clip(0, 1)).astype(numpy.uint8)[levels]


def edges(levels: ndarray) -> ndarray:
    """Where the edges of an image are [H, W], by Canny's algorithm."""
    from scipy.ndimage import label, sobel

    image = levels.astype(int)
    down, right = (sobel(image, axis, mode="nearest") for axis in (0, 1))
    size = abs(down) + abs(right)
    is_edge = _is_ridge(size, down, right) & (size > WEAK_EDGE)
    connected, _ = label(is_edge, numpy.ones((3, 3)))
    return is_edge & numpy.isin(connected, connected[is_edge & (size > STRONG_EDGE)])


def _is_ridge(size: ndarray, down: ndarray, right: ndarray) -> ndarray:
    """Where a gradient is the largest on the line along it, of which there are four kinds."""
    around = numpy.pad(size, 1)
    height, width = size.shape

    def larger(before: tuple[int, int], after: tuple[int, int], or_equal: bool) -> ndarray:
        one, other = (
            around[1 + row : 1 + row + height, 1 + column : 1 + column + width]
            for row, column in (before, after)
        )
        return (size > one) & (size >= other if or_equal else size > other)

    steepness = abs(down) - numpy.tan(numpy.pi / 8) * abs(right)
    is_flat = steepness < 0
    is_steep = abs(down) > numpy.tan(3 * numpy.pi / 8) * abs(right)
    is_falling = down * right >= 0  # as numpy's rows grow downwards
    return numpy.select(
        [is_flat, is_steep, is_falling],
        [
            larger((0, -1), (0, 1), True),
            larger((-1, 0), (1, 0), True),
            larger((-1, -1), (1, 1), False),
        ],
        larger((-1, 1), (1, -1), False),
    )
