"""Data sets, their splits and variations."""

import numpy
import pytest
import torch
from PIL import Image

from experiment.config import Dataset
from experiment.data.dataset import channel_statistics, from_tensors
from experiment.data.split import Augmentation
from experiment.data.splits import load_data
from experiment.errors import UserError
from experiment.registry import DATASETS
from experiment.seeding import Stream


def load(name, seed=0, **options):
    options = DATASETS.complete(name, options)
    return load_data(Dataset(name=name, **options), Stream(seed))


def test_digits_are_split_without_overlap_and_by_seed():
    first, again, other = load("digits"), load("digits"), load("digits", 1)
    assert (len(first.train), len(first.validation), len(first.test)) == (1293, 144, 360)
    assert torch.equal(first.validation.images, again.validation.images)
    assert not torch.equal(first.validation.images, other.validation.images)
    assert torch.equal(first.test.images, other.test.images)
    assert first.test.labels.bincount().min() >= 34
    everything = torch.cat([first.train.images, first.validation.images])
    assert len(everything) == 1437


def test_the_sample_is_seeded_unvaried_and_at_most_half_of_the_validation_split():
    data = load("digits")
    sample = data.sample(40, Stream(3))
    assert sum(len(targets) for _, targets in sample) == 40
    assert all(torch.equal(a[0], b[0]) for a, b in zip(sample, data.sample(40, Stream(3))))
    validation = {image.numpy().tobytes() for images, _ in data.validation.batches(50) for image in images}
    assert all(image.numpy().tobytes() in validation for images, _ in sample for image in images)
    assert sum(len(targets) for _, targets in data.sample(1000, Stream(3))) == 72


def test_images_are_normalised_by_the_training_images():
    images = torch.tensor([0, 255, 255, 255], dtype=torch.uint8).reshape(4, 1, 1, 1)
    mean, std = channel_statistics([images])
    assert mean == [0.75] and std == pytest.approx([0.4330127])
    splits = from_tensors((images, torch.zeros(4).long()), (images, torch.zeros(4).long()))
    batch, _ = next(splits.test.batches(4))
    assert batch.flatten().tolist() == pytest.approx([-1.7320508, 0.5773503, 0.5773503, 0.5773503])


def test_crops_are_shifted_copies_and_flips_are_mirrored():
    image = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3).expand(64, 1, 3, 3)
    varied = Augmentation(crop_padding=1)(image, (3, 3), Stream(0).generator())
    padded = torch.nn.functional.pad(image[0, 0], (1, 1, 1, 1))
    shifts = {tuple(padded[y : y + 3, x : x + 3].flatten().tolist()) for y in range(3) for x in range(3)}
    assert {tuple(one.flatten().tolist()) for one in varied} == shifts
    flipped = Augmentation(horizontal_flip=True)(image, (3, 3), Stream(0).generator())
    assert {tuple(one.flatten().tolist()) for one in flipped} == {tuple(image[0].flatten().tolist()),
                                                                  tuple(image[0].flip(2).flatten().tolist())}


def test_a_larger_size_frames_the_images():
    images = torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)
    splits = from_tensors((images, torch.zeros(3).long()), (images, torch.zeros(3).long()), mean=[0.0], std=[1.0],
                          size=(4, 4))
    batch, _ = next(splits.test.batches(3))
    assert batch[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_an_epoch_takes_every_image_once_and_leaves_none_alone():
    data = load("digits")
    split = data.train.subset(torch.arange(65))
    sizes = [len(targets) for _, targets in split.training_batches(32, Stream(0).generator())]
    assert sizes == [32, 33]
    orders = [torch.cat([targets for _, targets in split.training_batches(32, Stream(seed).generator())])
              for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])
    assert orders[2].sort().values.tolist() == split.labels.sort().values.tolist()


@pytest.fixture
def folder(tmp_path):
    random = numpy.random.default_rng(0)
    for part, count in (("train", 10), ("test", 3)):
        for label in ("cat", "dog"):
            (tmp_path / part / label).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (12, 10, 3), dtype=numpy.uint8)
                Image.fromarray(pixels).save(tmp_path / part / label / f"{index}.png")
    return tmp_path


def test_image_folder_as_it_is_scaled_and_grey(folder):
    data = load("ImageFolder", root=str(folder))
    assert data.input_shape == (3, 12, 10) and data.num_classes == 2
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 6)
    with Image.open(folder / "test" / "cat" / "0.png") as image:
        assert torch.equal(data.test.images[0], torch.from_numpy(numpy.array(image)).permute(2, 0, 1))
    assert load("ImageFolder", root=str(folder), image_size=6, grayscale=True).test.images.shape == (6, 1, 6, 6)


def test_image_folder_mistakes(folder):
    with pytest.raises(UserError, match=r"no folder .*nowhere/train; images belong in"):
        load("ImageFolder", root=str(folder / "nowhere"))
    Image.new("RGB", (5, 5)).save(folder / "train" / "dog" / "small.png")
    with pytest.raises(UserError, match=r"small.png has 5x5 pixels .*: set dataset.image_size"):
        load("ImageFolder", root=str(folder))
    (folder / "train" / "dog" / "small.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"small\.png is not a readable image"):
        load("ImageFolder", root=str(folder))
    (folder / "train" / "dog" / "small.png").unlink()
    (folder / "test" / "cow").mkdir()
    Image.new("RGB", (10, 12)).save(folder / "test" / "cow" / "0.png")
    with pytest.raises(UserError, match="only in one of them: cow"):
        load("ImageFolder", root=str(folder))


def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*arguments, **keywords):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", no_network)
    with pytest.raises(UserError) as error:
        load("CIFAR10", root=str(tmp_path))
    for part in ("no network", "https://", f"put cifar-10-python.tar.gz into {tmp_path}/", "dataset.name=digits",
                 "dataset.name=ImageFolder"):
        assert part in str(error.value)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz, .* into .*/MNIST/raw/"):
        load("MNIST", root=str(tmp_path))
