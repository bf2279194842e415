"""Whether a net that was changed for its users still computes what it should."""

from torch import Tensor

from experiment.core.errors import UserError

SAME_NET = 1e-5  # relative difference of the outputs of equal nets
OTHER_RUNTIME = 1e-4  # the same between two runtimes


def relative_difference(outputs: Tensor, reference: Tensor) -> float:
    """The largest difference of outputs, relative to the largest output; infinite for other shapes.

    What is not finite in one of them must be so in the other.
    """
    outputs, reference = outputs.detach().cpu().double(), reference.detach().cpu().double()
    if outputs.shape != reference.shape:
        return float("inf")
    if not reference.numel():
        return 0.0
    is_finite = reference.isfinite()
    if not (outputs.isfinite() == is_finite).all():
        return float("inf")
    difference = (outputs - reference)[is_finite].abs()
    largest = reference[is_finite].abs()
    if not difference.numel() or not float(difference.max()):
        return 0.0
    return float(difference.max()) / max(float(largest.max()), 1e-30)


def require_equal(outputs: Tensor, reference: Tensor, tolerance: float, what: str) -> float:
    """The relative difference of outputs. Raises UserError, in the name of `what`, if too large."""
    difference = relative_difference(outputs, reference)
    if difference > tolerance:
        raise UserError(
            f"{what} does not compute what the pruned net does: on {len(reference)} images the "
            f"largest difference of outputs is {difference:.2g} of the largest output, which may "
            f"be {tolerance:g}; nothing was written"
        )
    return difference
