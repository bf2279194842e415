"""What is certified about the output of a whole pruned net."""

from dataclasses import asdict, dataclass

import pandas


@dataclass(frozen=True, kw_only=True)
class LayerBound:
    """What one layer has of the error, and what that leaves of it."""

    layer: str
    sign_complexity: float  # Delta, the largest of its neurons over S
    budget: float  # e_l, the relative error that its units may have
    unit_error: float  # the largest certified one that they have, at most the budget
    output_error: float  # certified relative error of the layer's outputs
    weights: int
    kept_weights: int  # before dead parameters are dropped


@dataclass(frozen=True, kw_only=True)
class NetworkBound:
    """A relative error that no entry of the pruned net's output exceeds.

    It holds for a sample on which no contribution of a weight to its neuron is above C times the
    sensitivity, and no neuron's sign complexity above the largest of its layer on S; for weights
    that were drawn except with probability `failure`, over the draws.
    """

    error: float  # asked for
    certified: float  # at most that, unless that is above 1
    failure: float  # 0 if nothing is drawn
    by_layer: tuple[LayerBound, ...]  # from the input to the output

    @property
    def layers(self) -> pandas.DataFrame:
        """One row per layer, with the fields of `LayerBound` as columns."""
        return pandas.DataFrame([asdict(layer) for layer in self.by_layer])

    @property
    def exact_layers(self) -> int:
        """How many layers have no error: they keep all weights with a sensitivity on S."""
        return sum(layer.unit_error == 0 for layer in self.by_layer)

    @property
    def sign_complexity(self) -> float:
        """The largest of all layers."""
        return max(layer.sign_complexity for layer in self.by_layer)
