"""Labels of the numbers in an activation: to which channel each belongs.

Joined labels stand for one channel.
"""

import torch
from torch import Tensor

CONSTANT = -1  # belongs to no filter: inputs of the net, zeros of a padding
FIXED = 0  # belongs to what cannot be removed


class Labels:
    """Disjoint sets of labels (union-find), and what operations do with tensors of labels."""

    def __init__(self) -> None:
        self.parent = [FIXED]

    def new(self, count: int) -> Tensor:
        """Labels that were not used before."""
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def find(self, label: int) -> int:
        """The root of a label, the same for all labels joined with it."""
        while self.parent[label] != label:
            grandparent = self.parent[self.parent[label]]
            self.parent[label] = grandparent  # halves the path
            label = grandparent
        return label

    def roots(self, labels: Tensor) -> Tensor:
        """The labels with each, but constants, replaced by its root."""
        values, inverse = labels.unique(return_inverse=True)
        roots = [label if label < 0 else self.find(label) for label in values.tolist()]
        return torch.tensor(roots, dtype=torch.int64)[inverse]

    def fix(self, labels: Tensor) -> None:
        """Mark the channels of the labels as not removable."""
        self.join(labels, torch.tensor(FIXED))

    def join(self, left: Tensor, right: Tensor) -> Tensor:
        """Make one channel of each pair of labels, except constants; return the labels."""
        left, right = torch.broadcast_tensors(left, right)
        small_left, small_right = _shrunk(left, right)
        differ = (small_left >= 0) & (small_right >= 0) & (small_left != small_right)
        base = len(self.parent)
        for pair in (small_left[differ] * base + small_right[differ]).unique().tolist():
            first, second = sorted(self.find(label) for label in divmod(pair, base))
            self.parent[second] = first
        return torch.where(small_left >= 0, small_left, small_right).expand(left.shape)

    def joined_along(self, labels: Tensor) -> Tensor:
        """One label for each row [rows], after joining all labels in it."""
        (small,) = _shrunk(labels)
        rows = small.flatten(1)
        first = rows.amax(1) if rows.numel() else torch.tensor([CONSTANT])
        self.join(first[:, None], rows)
        return first.expand(len(labels))

    def single(self, labels: Tensor, dims: list[int]) -> Tensor:
        """The labels, of length 1 along some dimensions; if different ones meet, all are fixed."""
        shape = [1 if dim in dims else size for dim, size in enumerate(labels.shape)]
        (small,) = _shrunk(labels)
        for dim in dims:
            if not _repeats(small, dim):
                small = self.roots(small)
            if not _repeats(small, dim):
                self.fix(small)
                return torch.tensor(FIXED).expand(shape)
            small = small.narrow(dim, 0, 1)
        return small.expand(shape)

    def write(self, target: Tensor, labels: Tensor) -> None:
        """Overwrite labels, in all views of them; if views cannot tell them apart, fix both."""
        repeated = [
            dim for dim in range(target.dim()) if target.stride(dim) == 0 and target.shape[dim] > 1
        ]
        labels = labels.expand(target.shape)
        if not all(_repeats(labels, dim) for dim in repeated):
            self.fix(labels)
            self.fix(target)
            labels = torch.full_like(labels, FIXED)
        for dim in repeated:
            target = target.narrow(dim, 0, 1)
            labels = labels.narrow(dim, 0, 1)
        target.copy_(labels)


def _repeats(labels: Tensor, dim: int) -> bool:
    """Whether the labels are the same all along a dimension."""
    return labels.stride(dim) == 0 or bool((labels == labels.narrow(dim, 0, 1)).all())


def own_copy(labels: Tensor) -> Tensor:
    """A copy that shares no memory with the original and takes no more of it."""
    (small,) = _shrunk(labels)
    return small.clone().expand(labels.shape)


def _shrunk(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one shape, cut to length 1 along the dimensions in which all repeat themselves."""
    for dim in range(tensors[0].dim()):
        if all(tensor.stride(dim) == 0 for tensor in tensors) and tensors[0].shape[dim] > 1:
            tensors = tuple(tensor.narrow(dim, 0, 1) for tensor in tensors)
    return list(tensors)
