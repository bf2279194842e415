"""All prunable weights of a net as one vector, in the order of its layers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiment.masks import Masks, prunable_layers, weight_names


@dataclass(frozen=True)
class FlatWeights:
    """Where each layer's weight lies in the vector."""

    shapes: dict[str, torch.Size]  # by layer name
    parameters: dict[str, str]  # the name of each layer's weight

    @classmethod
    def of(cls, net: nn.Module, layers: list[str]) -> "FlatWeights":
        modules, names = prunable_layers(net), weight_names(net)
        return cls({name: modules[name].weight.shape for name in layers}, {name: names[name] for name in layers})

    def join(self, by_layer: dict[str, Tensor]) -> Tensor:
        """One vector from one tensor of the weight's shape for each layer."""
        return torch.cat([by_layer[name].flatten() for name in self.shapes])

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """The tensors of the layers from the vector."""
        pieces = vector.split([shape.numel() for shape in self.shapes.values()])
        return {name: piece.reshape(shape) for (name, shape), piece in zip(self.shapes.items(), pieces)}

    def join_masks(self, masks: Masks) -> Tensor:
        """The masks of the layers' weights as one vector."""
        return self.join({name: masks[self.parameters[name]] for name in self.shapes})

    def split_masks(self, vector: Tensor) -> Masks:
        """The inverse of `join_masks`."""
        return {self.parameters[name]: mask for name, mask in self.split(vector).items()}

    def weights(self, net: nn.Module) -> Tensor:
        """The layers' weights as one float32 vector."""
        modules = prunable_layers(net)
        return self.join({name: modules[name].weight.detach().float() for name in self.shapes})
