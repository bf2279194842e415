"""Refuse images that a network's pooling layers would shrink to nothing."""

from experiment.core.errors import UserError


def require_image_size(name: str, input_shape: tuple[int, int, int], smallest: int) -> None:
    """Raise UserError unless height and width of `input_shape` are at least `smallest` pixels."""
    _, height, width = input_shape
    if min(height, width) < smallest:
        raise UserError(
            f"{name} cannot take {height}x{width} images: "
            f"the smallest size that works is {smallest}x{smallest}"
        )
