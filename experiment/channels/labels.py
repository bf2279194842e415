"""Labels of the numbers in an activation: to which channel each belongs.

Joined labels stand for one channel.
"""

import torch
from torch import Tensor

CONSTANT = -1  # belongs to no filter: inputs of the net, zeros of a padding
FIXED = 0  # belongs to what cannot be removed


class Labels:
    """Disjoint sets of labels (union-find), and what operations do with tensors of labels."""

    def __init__(self):
        self.parent = [FIXED]

    def new(self, count: int) -> Tensor:
        """Labels that were not used before."""
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def find(self, label: int) -> int:
        while self.parent[label] != label:
            self.parent[label] = label = self.parent[self.parent[label]]
        return label

    def roots(self, labels: Tensor) -> Tensor:
        """The same label for all that were joined."""
        values, places = labels.unique(return_inverse=True)
        return torch.tensor(
            [label if label < 0 else self.find(label) for label in values.tolist()],
            dtype=torch.int64,
        )[places]

    def fix(self, labels: Tensor) -> None:
        """Their channels must stay."""
        self.join(labels, torch.tensor(FIXED))

    def join(self, one: Tensor, other: Tensor) -> Tensor:
        """Number by number one channel, but for constants; returns the labels of both, broadcast."""
        one, other = torch.broadcast_tensors(one, other)
        small, little = _shrunk(one, other)
        both = (small >= 0) & (little >= 0) & (small != little)
        for pair in (small[both] * len(self.parent) + little[both]).unique().tolist():
            first, second = sorted(self.find(label) for label in divmod(pair, len(self.parent)))
            self.parent[second] = first
        return torch.where(small >= 0, small, little).expand(one.shape)

    def joined_along(self, labels: Tensor) -> Tensor:
        """One label for each row [rows], of all that are in it."""
        rows = _shrunk(labels)[0].flatten(1)
        first = rows.amax(1) if rows.numel() else torch.tensor([CONSTANT])
        self.join(first[:, None], rows)
        return first.expand(len(labels))

    def single(self, labels: Tensor, dims: list[int]) -> Tensor:
        """The labels, of length 1 along some dimensions; several that meet there are fixed."""
        shape = [1 if dim in dims else size for dim, size in enumerate(labels.shape)]
        small = _shrunk(labels)[0]
        for dim in dims:
            if not _alike(small, dim):
                small = self.roots(small)
            if not _alike(small, dim):
                self.fix(small)
                return torch.tensor(FIXED).expand(shape)
            small = small.narrow(dim, 0, 1)
        return small.expand(shape)

    def write(self, target: Tensor, labels: Tensor) -> None:
        """Overwrite labels in all views of the same; where that cannot be told, both are fixed."""
        repeated = [
            dim for dim in range(target.dim()) if target.stride(dim) == 0 and target.shape[dim] > 1
        ]
        labels = labels.expand(target.shape)
        if not all(_alike(labels, dim) for dim in repeated):
            self.fix(labels)
            self.fix(target)
            labels = torch.full_like(labels, FIXED)
        for dim in repeated:
            target, labels = target.narrow(dim, 0, 1), labels.narrow(dim, 0, 1)
        target.copy_(labels)


def _alike(labels: Tensor, dim: int) -> bool:
    """Whether the labels are the same all along a dimension."""
    return labels.stride(dim) == 0 or bool((labels == labels.narrow(dim, 0, 1)).all())


def own_copy(labels: Tensor) -> Tensor:
    """A copy that shares no memory with the original, as small as it."""
    return _shrunk(labels)[0].clone().expand(labels.shape)


def _shrunk(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one shape with length 1 where all of them repeat themselves."""
    for dim in range(tensors[0].dim()):
        if all(tensor.stride(dim) == 0 for tensor in tensors) and tensors[0].shape[dim] > 1:
            tensors = tuple(tensor.narrow(dim, 0, 1) for tensor in tensors)
    return list(tensors)
