"""Build a small vision transformer (Dosovitskiy et al. 2021).

All of its projections are plain linear layers.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from experiment.core.errors import UserError
from experiment.core.registry import NETWORKS

MLP_RATIO = 4  # of the hidden features of a block's perceptron to its width


class Attention(nn.Module):
    """Let every token gather values from all tokens.

    This is done separately in each of `num_heads` slices of the width.
    """

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # each [batch, head, token, feature]
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Add attention, then a perceptron of one hidden layer, to tokens [batch, token, width]."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class VisionTransformer(nn.Module):
    """Classify the mean of the tokens that `depth` blocks make of an image's patches."""

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        patch_size: int,
        depth: int,
        width: int,
        num_heads: int,
    ):
        super().__init__()
        channels, height, width_of_image = input_shape
        num_patches = (height // patch_size) * (width_of_image // patch_size)
        self.patches = nn.Unfold(patch_size, stride=patch_size)
        self.embedding = nn.Linear(channels * patch_size**2, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, num_patches, width))
        self.blocks = nn.Sequential(*[Block(width, num_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(self.patches(x).mT) + self.position
        return self.fc(self.norm(self.blocks(x)).mean(1))


@NETWORKS.register
def vit(
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    patch_size: Annotated[int, Field(ge=1)] = 4,
    depth: Annotated[int, Field(ge=1, le=1000)] = 6,
    width: Annotated[int, Field(ge=1, le=65536)] = 192,
    num_heads: Annotated[int, Field(ge=1)] = 3,
) -> nn.Module:
    """Vision transformer without class token; 2,693,194 parameters on CIFAR-10."""
    _, height, width_of_image = input_shape
    if height % patch_size or width_of_image % patch_size:
        raise UserError(
            f"vit cannot cut {height}x{width_of_image} images into patches of "
            f"{patch_size}x{patch_size}: patch_size must divide height and width"
        )
    if width % num_heads:
        raise UserError(f"vit: width ({width}) must be a multiple of num_heads ({num_heads})")
    return VisionTransformer(input_shape, num_classes, patch_size, depth, width, num_heads)
