"""All prunable weights of a net as one vector, in the order of its layers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiment.nets.layers import PrunableLayer
from experiment.nets.masks import Masks


@dataclass(frozen=True)
class FlatWeights:
    """The vector and its pieces: the oriented weight of one layer after the other."""

    layers: dict[str, PrunableLayer]

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The oriented shape of each layer's weight."""
        return {name: layer.shape for name, layer in self.layers.items()}

    def join(self, by_layer: dict[str, Tensor]) -> Tensor:
        """One vector from one oriented tensor per layer."""
        return torch.cat([by_layer[name].flatten() for name in self.layers])

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """The oriented tensors of the layers in the vector."""
        lengths = [layer.shape.numel() for layer in self.layers.values()]
        pieces = vector.split(lengths)
        return {
            name: piece.reshape(layer.shape)
            for (name, layer), piece in zip(self.layers.items(), pieces)
        }

    def join_masks(self, masks: Masks) -> Tensor:
        """The masks of the layers' parameters as one vector."""
        return self.join(
            {name: layer.oriented(masks[layer.parameter]) for name, layer in self.layers.items()}
        )

    def split_masks(self, vector: Tensor) -> Masks:
        """The inverse of `join_masks`."""
        pieces = self.split(vector)
        return {
            layer.parameter: layer.oriented(pieces[name]) for name, layer in self.layers.items()
        }

    def weights(self, net: nn.Module) -> Tensor:
        """The layers' weights as one float32 vector."""
        return self.join(
            {name: layer.weight(net).detach().float() for name, layer in self.layers.items()}
        )
