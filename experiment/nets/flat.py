"""All prunable weights of a net as one vector, in the order of its layers."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiment.nets.layers import PrunableLayer
from experiment.nets.masks import Masks, keeps_all
from experiment.nets.tensors import storage_of


@dataclass(frozen=True)
class FlatWeights:
    """The vector and its pieces: the oriented weight of one layer after the other."""

    layers: dict[str, PrunableLayer]

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The oriented shape of each layer's weight."""
        return {name: layer.shape for name, layer in self.layers.items()}

    def join(self, by_layer: dict[str, Tensor]) -> Tensor:
        """One vector from one oriented tensor per layer; no copy if they are pieces of one."""
        pieces = [by_layer[name].flatten() for name in self.layers]
        whole = _whole(pieces)
        return torch.cat(pieces) if whole is None else whole

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """The oriented tensors of the layers in the vector."""
        lengths = [layer.shape.numel() for layer in self.layers.values()]
        pieces = vector.split(lengths)
        return {
            name: piece.reshape(layer.shape)
            for (name, layer), piece in zip(self.layers.items(), pieces)
        }

    def join_masks(self, masks: Masks) -> Tensor:
        """The masks of the layers' parameters as one vector, not to be written to.

        It takes no memory if each keeps everything.
        """
        own = {name: layer.oriented(masks[layer.parameter]) for name, layer in self.layers.items()}
        if all(map(keeps_all, own.values())):
            mask = next(iter(own.values()))
            return mask.flatten()[0].expand(sum(one.numel() for one in own.values()))
        return self.join(own)

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


def _whole(pieces: list[Tensor]) -> Tensor | None:
    """The vector that pieces [lengths] are views of, one after the other; None if there is none."""
    first = pieces[0]
    position = first.storage_offset()
    for piece in pieces:
        if storage_of(piece) != storage_of(first) or piece.dtype != first.dtype:
            return None
        if piece.storage_offset() != position or piece.stride() != (1,):
            return None
        position += len(piece)
    return first.as_strided((position - first.storage_offset(),), (1,))
