"""All prunable weights of a net as one vector, in the order of its layers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiment.masks import Masks, parameter_name, prunable_layers


@dataclass(frozen=True)
class FlatWeights:
    """Where each layer's weight lies in the vector."""

    shapes: dict[str, torch.Size]  # by layer name

    @classmethod
    def of(cls, net: nn.Module, layers: list[str]) -> "FlatWeights":
        modules = prunable_layers(net)
        return cls({name: modules[name].weight.shape for name in layers})

    def join(self, by_layer: dict[str, Tensor]) -> Tensor:
        """One vector from one tensor of the weight's shape for each layer."""
        return torch.cat([by_layer[name].flatten() for name in self.shapes])

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """The tensors of the layers from the vector."""
        pieces = vector.split([shape.numel() for shape in self.shapes.values()])
        return {name: piece.reshape(shape) for (name, shape), piece in zip(self.shapes.items(), pieces)}

    def masks(self, masks: Masks) -> Tensor:
        """The layers' masks as one vector."""
        return self.join({name: masks[parameter_name(name)] for name in self.shapes})

    def weights(self, net: nn.Module) -> Tensor:
        """The layers' weights as one float32 vector."""
        modules = prunable_layers(net)
        return self.join({name: modules[name].weight.detach().float() for name in self.shapes})
