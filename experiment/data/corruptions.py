"""The ways in which test images are corrupted, and how much at each severity.

The kinds and their strengths are those of Hendrycks and Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations" (ICLR 2019, arXiv:1903.12261), ten of 19 that
take no more than numpy, scipy and Pillow: those of CIFAR-10-C for small images, those of ImageNet-C
for others. The numbers are in the authors' scripts `make_cifar_c.py` and `make_imagenet_c.py`
(github.com/hendrycks/robustness). `uniform_noise` is that of Liebenwein et al., "Lost in Pruning"
(MLSys 2021, arXiv:2103.03014).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
from numpy import ndarray
from numpy.random import Generator

from experiment.config.schema import CorruptionName

LARGEST_SMALL = 64  # pixels of the shorter side of an image to which CIFAR-10-C's numbers apply

# Pixels [C, H, W] on the scale [0, 1], a strength and random numbers -> pixels, which may leave
# that scale.
Apply = Callable[[ndarray, Any, Generator], ndarray]


@dataclass(frozen=True)
class Kind:
    """A kind of corruption, with its strengths at severities 1 to 5."""

    apply: Apply
    for_small: tuple[Any, ...]
    for_large: tuple[Any, ...]
    # Pixels are on the scale of normalised ones, and are neither clipped nor rounded afterwards.
    is_after_normalisation: bool = False

    def strength(self, severity: int, height: int, width: int) -> Any:
        """The strength for images of a size."""
        is_small = min(height, width) <= LARGEST_SMALL
        return (self.for_small if is_small else self.for_large)[severity - 1]


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


def gaussian_blur(pixels: ndarray, deviation: float, random: Generator) -> ndarray:
    """Blur by a Gaussian of this standard deviation, in pixels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(pixels, (0, deviation, deviation), mode="nearest")


def zoom_blur(pixels: ndarray, zoom: tuple[float, float], random: Generator) -> ndarray:
    """Average the image with enlarged ones: by factors from 1 to below a limit, in steps."""
    limit, step = zoom
    factors = numpy.arange(1, limit, step)
    return (pixels + sum(_enlarged(pixels, factor) for factor in factors)) / (len(factors) + 1)


def _enlarged(pixels: ndarray, factor: float) -> ndarray:
    """The centre of an image, enlarged to the size of the whole."""
    from scipy.ndimage import zoom

    _, height, width = pixels.shape
    cropped = _centre(pixels, int(numpy.ceil(height / factor)), int(numpy.ceil(width / factor)))
    return _centre(zoom(cropped, (1, factor, factor), order=1), height, width)


def _centre(pixels: ndarray, height: int, width: int) -> ndarray:
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return pixels[:, top : top + height, left : left + width]


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


def as_bytes(pixels: ndarray) -> ndarray:
    """Pixels as bytes: clipped and rounded, where the authors of the benchmark cut off."""
    return numpy.rint(255 * pixels.clip(0, 1)).astype(numpy.uint8)


KINDS: dict[CorruptionName, Kind] = {
    "gaussian_noise": Kind(
        gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)
    ),
    "shot_noise": Kind(shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": Kind(
        impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)
    ),
    "speckle_noise": Kind(
        speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)
    ),
    # The authors measure 15 levels from 0 to 0.7, for CIFAR-10 and ImageNet alike (`eps_ball.py` of
    # github.com/lucaslie/torchprune). Which of these are severities 1 to 5 is our choice.
    "uniform_noise": Kind(
        uniform_noise,
        (0.1, 0.2, 0.3, 0.5, 0.7),
        (0.1, 0.2, 0.3, 0.5, 0.7),
        is_after_normalisation=True,
    ),
    "gaussian_blur": Kind(gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    "zoom_blur": Kind(
        zoom_blur,
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "brightness": Kind(brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Kind(contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "pixelate": Kind(pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Kind(jpeg_compression, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
