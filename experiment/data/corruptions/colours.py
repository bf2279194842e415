"""Corruptions that change each pixel by itself, or with the mean of all."""

import numpy
from numpy import ndarray
from numpy.random import Generator


def brightness(pixels: ndarray, added: float, random: Generator) -> ndarray:
    """Add this to the value of each pixel, its largest channel; hue and saturation stay."""
    value = pixels.max(0)
    brighter = numpy.minimum(value + added, 1)
    factor = brighter / numpy.where(value > 0, value, 1)
    return numpy.where(value > 0, factor * pixels, brighter)


def contrast(pixels: ndarray, factor: float, random: Generator) -> ndarray:
    """Multiply the distance of each pixel to the mean of its channel by this factor."""
    means = pixels.mean((1, 2), keepdims=True)
    return means + factor * (pixels - means)


def saturate(pixels: ndarray, strength: tuple[float, float], random: Generator) -> ndarray:
    """Multiply the saturation of each pixel by a factor, and add; hue and value stay.

    Images that are not in colour stay as they are. A grey pixel of one that is becomes reddish if
    there is something to add, as red is the hue that conversions give to grey.
    """
    if len(pixels) != 3:
        return pixels
    factor, added = strength
    value, lowest = pixels.max(0), pixels.min(0)
    range_ = value - lowest
    saturation = range_ / numpy.where(value > 0, value, 1)
    red = numpy.array([0, 1, 1])[:, None, None]
    # How far each channel is below the value: from 0 for the largest to 1 for the least.
    depth = numpy.where(range_ > 0, (value - pixels) / numpy.where(range_ > 0, range_, 1), red)
    return value * (1 - depth * (factor * saturation + added).clip(0, 1))
