"""The ways in which test images are corrupted, and how much at each severity.

The kinds and their strengths are those of Hendrycks and Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations" (ICLR 2019, arXiv:1903.12261): those of
CIFAR-10-C for small images, those of ImageNet-C for others. All are there but `frost`, which needs
photographs of the authors. The numbers are in the authors' scripts `make_cifar_c.py` and
`make_imagenet_c.py` (github.com/hendrycks/robustness). `uniform_noise` is that of Liebenwein et
al., "Lost in Pruning" (MLSys 2021, arXiv:2103.03014).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy import ndarray
from numpy.random import Generator

from experiment.config.schema import CorruptionName
from experiment.data.corruptions.blur import (
    defocus_blur,
    gaussian_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
)
from experiment.data.corruptions.colours import brightness, contrast, saturate
from experiment.data.corruptions.elastic import elastic_transform
from experiment.data.corruptions.noise import (
    gaussian_noise,
    impulse_noise,
    shot_noise,
    speckle_noise,
    uniform_noise,
)
from experiment.data.corruptions.resolution import jpeg_compression, pixelate
from experiment.data.corruptions.spatter import spatter
from experiment.data.corruptions.weather import fog, snow

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
    "defocus_blur": Kind(
        defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "glass_blur": Kind(
        glass_blur,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion_blur": Kind(
        motion_blur,
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "zoom_blur": Kind(
        zoom_blur,
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": Kind(
        snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "fog": Kind(
        fog,
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "spatter": Kind(
        spatter,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
    ),
    "brightness": Kind(brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Kind(contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "saturate": Kind(
        saturate,
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
    # In sides of the image. ImageNet-C has pixels: shares of 244, for images of 224.
    "elastic_transform": Kind(
        elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        (
            (2.1786, 0.7625, 0.1089),
            (2.1786, 0.0871, 0.2179),
            (0.0545, 0.0109, 0.0218),
            (0.0763, 0.0109, 0.0218),
            (0.1307, 0.0109, 0.0218),
        ),
    ),
    "pixelate": Kind(pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Kind(jpeg_compression, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
