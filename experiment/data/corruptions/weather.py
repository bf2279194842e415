"""Fog and snow."""

import numpy
from numpy import ndarray
from numpy.random import Generator

from experiment.data.corruptions.pixels import enlarged, grey, moved

Snow = tuple[float, float, float, float, float, float, float]


def fog(pixels: ndarray, strength: tuple[float, float], random: Generator) -> ndarray:
    """Add clouds that are so bright at most, whose details are fainter by this factor each time."""
    brightest, decay = strength
    _, height, width = pixels.shape
    clouds = plasma(max(height, width), decay, random)[:height, :width]
    largest = pixels.max()
    return (pixels + brightest * clouds) * largest / (largest + brightest)


def plasma(side: int, decay: float, random: Generator) -> ndarray:
    """A plasma fractal on the scale [0, 1], by the diamond-square algorithm, on a torus.

    Its side is a power of two, at least `side`. Each point is the mean of four around it and noise,
    which is weaker by the square of `decay` at each halving of distances, as in the benchmark.
    """
    step = 1 << max(1, (side - 1).bit_length())
    heights = numpy.zeros((step, step))
    roughness = 1.0

    def between(*points: ndarray) -> ndarray:
        mean = sum(points, numpy.zeros_like(points[0])) / len(points)
        return mean + random.uniform(-roughness, roughness, size=mean.shape)

    while step > 1:
        half = step // 2
        corners = heights[::step, ::step]
        below, right = numpy.roll(corners, -1, 0), numpy.roll(corners, -1, 1)
        centres = between(corners, below, right, numpy.roll(below, -1, 1))
        heights[half::step, half::step] = centres
        heights[::step, half::step] = between(corners, right, centres, numpy.roll(centres, 1, 0))
        heights[half::step, ::step] = between(corners, below, centres, numpy.roll(centres, 1, 1))
        step, roughness = half, roughness / decay**2
    heights -= heights.min()
    return heights / heights.max()


def snow(pixels: ndarray, strength: Snow, random: Generator) -> ndarray:
    """Whiten the image and add flakes: normal noise, enlarged, cut off, and moved downwards."""
    mean, deviation, factor, lowest, radius, blur, share = strength
    noise = random.normal(mean, deviation, size=pixels.shape[1:])
    flakes = enlarged(noise[None], factor)
    flakes = numpy.where(flakes < lowest, 0, flakes).clip(0, 1)
    flakes = moved(flakes, radius, blur, random.uniform(-135, -45))
    whitened = numpy.maximum(pixels, 1.5 * grey(pixels) + 0.5)
    return share * pixels + (1 - share) * whitened + flakes + flakes[:, ::-1, ::-1]
