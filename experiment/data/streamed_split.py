"""A split whose images stay in their files and are read batch by batch by worker processes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from experiment.core.devices import num_cores
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.data.augmentation import UNVARIED, Augmentation, Variation, normalised
from experiment.data.split import Corrupt, Share, Split, training_order


@dataclass(frozen=True)
class StreamedSplit(Split):
    """Image files with their labels [N].

    `read(path)` returns the bytes [C, H, W] of an image, of one size for all images. Training
    images are read by `read_varied(path, seed)` if there is one, whose seed depends only on the
    epoch and the image, and then varied as a batch by `augmentation`. The number of workers never
    affects the numbers.
    """

    paths: tuple[str, ...]
    labels: Tensor
    read: Callable[[str], Tensor]
    mean: Tensor
    std: Tensor
    read_varied: Callable[[str, int], Tensor] | None = None
    augmentation: Augmentation = UNVARIED
    num_workers: int = 0
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Tensor) -> "StreamedSplit":
        indices = indices.cpu()
        return replace(
            self,
            paths=tuple(self.paths[index] for index in indices.tolist()),
            labels=self.labels[indices],
        )

    def to(self, device: torch.device | str) -> "StreamedSplit":
        return replace(self, mean=self.mean.to(device), std=self.std.to(device), device=device)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(len(self)).split(batch_size)
        for chosen, images in zip(order, self.stored_batches(order)):
            yield normalised(images, self.mean, self.std), self.labels[chosen].to(self.device)

    def corrupted(self, corrupt: Corrupt) -> "StreamedSplit":
        return replace(self, read=_Corrupted(self.read, corrupt, self.std.cpu()))

    def training_batches(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for _, (images, labels) in self.shared_draws(batch_size, generator, slice):
            yield images, labels

    def shared_draws(
        self, batch_size: int, generator: torch.Generator, share: Share
    ) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Only the images of the share are read."""
        sizes, own = [], []
        for chosen in training_order(len(self), batch_size, generator):
            sizes.append(len(chosen))
            own.append(chosen[share(len(chosen))])
        stream = None
        if self.read_varied is not None:
            stream = Stream(int(torch.randint(2**62, (), generator=generator)))
        for count, chosen, images in zip(sizes, own, self.stored_batches(own, stream)):
            size = (images.shape[2], images.shape[3])
            of_batch = self.augmentation.draw(count, size, size, generator)
            variation = Variation(*(drawn[share(count)] for drawn in of_batch))
            images = self.augmentation.apply(images, size, variation.to(images.device))
            labels = self.labels[chosen].to(self.device)
            yield count, (normalised(images, self.mean, self.std), labels)

    def stored_batches(
        self, order: list[Tensor] | tuple[Tensor, ...], stream: Stream | None = None
    ) -> Iterator[Tensor]:
        """Each batch of images as bytes [N, C, H, W] on the device, varied if a stream is given."""
        files = _Files(self.paths, self.read, self.read_varied, stream)
        # With a generator of its own the loader does not draw from the global one, as dropout does.
        loader = DataLoader(
            files,
            batch_size=None,
            sampler=[chosen.tolist() for chosen in order],
            num_workers=min(self.num_workers, num_cores(), len(order)),  # more would only slow down
            pin_memory=torch.device(self.device).type == "cuda",
            generator=torch.Generator(),
        )
        for images in loader:
            if isinstance(images, UserError):
                raise images
            yield images.to(self.device, non_blocking=True)


@dataclass(frozen=True)
class _Corrupted:
    """Reads images, and corrupts them."""

    read: Callable[[str], Tensor]
    corrupt: Corrupt
    std: Tensor

    def __call__(self, path: str) -> Tensor:
        return self.corrupt(self.read(path), self.std)


@dataclass(frozen=True)
class _Files(torch.utils.data.Dataset):
    """What a worker process knows.

    An item is a whole batch, or the error that a file caused, which the main process raises.
    """

    paths: tuple[str, ...]
    read: Callable[[str], Tensor]
    read_varied: Callable[[str, int], Tensor] | None
    stream: Stream | None

    def __getitem__(self, chosen: list[int]) -> Tensor | UserError:
        try:
            return torch.stack([self._image(index) for index in chosen])
        except UserError as error:
            return error

    def __len__(self) -> int:
        return len(self.paths)

    def _image(self, index: int) -> Tensor:
        path = self.paths[index]
        if self.read_varied is None or self.stream is None:
            return self.read(path)
        return self.read_varied(path, self.stream.child(index).integer())
