"""Noise of pixels."""

import numpy
from numpy import ndarray
from numpy.random import Generator


def gaussian_noise(pixels: ndarray, deviation: float, random: Generator) -> ndarray:
    """Add noise from a normal distribution of this standard deviation."""
    return pixels + random.normal(scale=deviation, size=pixels.shape)


def shot_noise(pixels: ndarray, photons: float, random: Generator) -> ndarray:
    """Count photons, of which white has so many on average."""
    return random.poisson(photons * pixels) / photons


def impulse_noise(pixels: ndarray, share: float, random: Generator) -> ndarray:
    """Set this share of the values to 0 or 1, with equal probability."""
    is_hit = random.random(pixels.shape) < share
    is_white = random.random(pixels.shape) < 0.5
    return numpy.where(is_hit, is_white, pixels)


def speckle_noise(pixels: ndarray, deviation: float, random: Generator) -> ndarray:
    """Add normal noise that is in proportion to the pixel, with this standard deviation."""
    return pixels + pixels * random.normal(scale=deviation, size=pixels.shape)


def uniform_noise(pixels: ndarray, level: float, random: Generator) -> ndarray:
    """Add noise between minus this level and this level to the normalised pixels."""
    return pixels + random.uniform(-level, level, size=pixels.shape)
