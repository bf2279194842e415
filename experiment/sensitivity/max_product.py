"""The matrix product in the (max, times) semiring, for each weight's own sign; picks the kernel."""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from experiment.sensitivity import max_product_eager

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor], None]
# The fast kernel of each kind of device; the eager one runs on any.
COMPILED = {"cpu": "numba", "cuda": "triton"}

# So many products a process leaves to the eager kernel, which takes a second at most: compiling
# another takes several. One pruning of a small net needs fewer, a cascade of them many more.
EAGER_PRODUCTS = 2**30


@dataclass
class EagerWork:
    """The products that this process has left to the eager kernel."""

    products: int = 0

    def takes(self, products: int) -> bool:
        """Whether these are left to it too; then they count."""
        if self.products >= EAGER_PRODUCTS:
            return False
        self.products += products
        return True


eager_work = EagerWork()


def max_product_(running: Tensor, points: Tensor, reciprocals: Tensor, weight: Tensor) -> None:
    """Raise running[g,i,j] to max_{n,p} points[n,g,j,p] * reciprocals[n,g,s,i,p]; in place.

    s is 1 if weight[g,i,j] is negative, else 0; where the weight is 0, `running` may stay as it is.
    All kernels give the same numbers, to the bit.

    Shapes: running and weight [groups, filters, K], points [samples, groups, K, P] and reciprocals
    [samples, groups, 2, filters, P]. All are contiguous, float32 and finite, and all but weight are
    at least 0.
    """
    num_products = running.numel() * len(points) * points.shape[-1]
    is_eager = eager_work.takes(num_products)
    name = "eager" if is_eager else COMPILED.get(running.device.type, "eager")
    kernel(name)(running, points, reciprocals, weight)


@functools.cache
def kernel(name: str) -> Kernel:
    """The kernel "numba", "triton" or "eager"; the eager one if the compiler is not installed.

    The compilers are imported when first needed. Numba raises RuntimeError if it has nowhere to
    write its cache.
    """
    try:
        return importlib.import_module(f"experiment.sensitivity.max_product_{name}").max_product_
    except (ImportError, RuntimeError):
        return max_product_eager.max_product_
