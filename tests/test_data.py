"""Data sets, their splits and variations."""

import gzip
import hashlib
import struct
import sys

import numpy
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import experiment.data.sets.image_folder
from experiment.config.loading import load_config
from experiment.config.schema import DatasetPart
from experiment.core.errors import UserError
from experiment.core.registry import DATASETS
from experiment.core.seeding import Stream
from experiment.data import idx_files
from experiment.data.augmentation import Augmentation
from experiment.data.dataset import channel_statistics, from_tensors
from experiment.data.loading import allowed_sample_size, load_data, open_dataset
from experiment.main import main


def load(name, seed=0, **options):
    options = DATASETS.complete(name, options)
    return load_data(DatasetPart(name=name, **options), Stream(seed))


def test_digits_are_split_without_overlap_and_by_seed():
    first, again, other = load("digits"), load("digits"), load("digits", 1)
    assert (len(first.train), len(first.validation), len(first.test)) == (1293, 144, 360)
    assert torch.equal(first.validation.images, again.validation.images)
    assert not torch.equal(first.validation.images, other.validation.images)
    assert torch.equal(first.test.images, other.test.images)
    assert first.test.labels.bincount().min() >= 34
    everything = torch.cat([first.train.images, first.validation.images])
    assert len(everything) == 1437


def test_digits_are_those_of_scikit_learn_and_divided_as_it_does():
    bunch = load_digits()
    both = train_test_split(range(1797), test_size=360, random_state=0, stratify=bunch.target)
    splits = DATASETS.create("digits", {}).load()
    for split, chosen in zip((splits.train, splits.test), both, strict=True):
        pixels = torch.from_numpy(bunch.images[chosen] * (255 / 16)).round()
        assert torch.equal(split.images, pixels.to(torch.uint8)[:, None])
        assert split.labels.tolist() == bunch.target[chosen].tolist()


def test_the_sample_is_seeded_unvaried_and_at_most_half_of_the_validation_split():
    data = load("digits")
    sample = data.sample(40, Stream(3))
    assert sum(len(targets) for _, targets in sample) == 40
    assert all(torch.equal(a[0], b[0]) for a, b in zip(sample, data.sample(40, Stream(3))))
    validation = {
        image.numpy().tobytes() for images, _ in data.validation.batches(50) for image in images
    }
    assert all(image.numpy().tobytes() in validation for images, _ in sample for image in images)
    assert allowed_sample_size(1000, len(data.validation)) == 72
    assert allowed_sample_size(40, len(data.validation)) == 40


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
    shifts = {
        tuple(padded[y : y + 3, x : x + 3].flatten().tolist()) for y in range(3) for x in range(3)
    }
    assert {tuple(one.flatten().tolist()) for one in varied} == shifts
    flipped = Augmentation(horizontal_flip=True)(image, (3, 3), Stream(0).generator())
    assert {tuple(one.flatten().tolist()) for one in flipped} == {
        tuple(image[0].flatten().tolist()),
        tuple(image[0].flip(2).flatten().tolist()),
    }


def test_a_larger_size_frames_the_images():
    images = torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)
    splits = from_tensors(
        (images, torch.zeros(3).long()),
        (images, torch.zeros(3).long()),
        mean=[0.0],
        std=[1.0],
        size=(4, 4),
    )
    batch, _ = next(splits.test.batches(3))
    assert batch[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_an_epoch_takes_every_image_once_and_leaves_none_alone():
    data = load("digits")
    split = data.train.subset(torch.arange(65))
    sizes = [len(targets) for _, targets in split.training_batches(32, Stream(0).generator())]
    assert sizes == [32, 33]
    orders = [
        torch.cat([targets for _, targets in split.training_batches(32, Stream(seed).generator())])
        for seed in (0, 0, 1)
    ]
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
        assert torch.equal(
            data.test.images[0], torch.from_numpy(numpy.array(image)).permute(2, 0, 1)
        )
    assert load(
        "ImageFolder", root=str(folder), image_size=6, grayscale=True
    ).test.images.shape == (6, 1, 6, 6)


def test_image_folder_mistakes(folder):
    with pytest.raises(UserError, match=r"no folder .*nowhere/train; images belong in"):
        load("ImageFolder", root=str(folder / "nowhere"))
    Image.new("RGB", (5, 5)).save(folder / "train" / "dog" / "small.png")
    with pytest.raises(UserError, match=r"small.png has 5x5 pixels .*: set dataset.image_size"):
        load("ImageFolder", root=str(folder))
    Image.fromarray(numpy.full((12, 10), 40_000, dtype=numpy.uint16)).save(
        folder / "train" / "dog" / "small.png"
    )
    with pytest.raises(UserError, match=r"small\.png has more than 8 bits a channel"):
        load("ImageFolder", root=str(folder))
    (folder / "train" / "dog" / "small.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"small\.png is not a readable image"):
        load("ImageFolder", root=str(folder))
    (folder / "train" / "dog" / "small.png").unlink()
    (folder / "test" / "cow").mkdir()
    Image.new("RGB", (10, 12)).save(folder / "test" / "cow" / "0.png")
    with pytest.raises(UserError, match="only in test: cow"):
        load("ImageFolder", root=str(folder))


def test_a_download_that_fails_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*arguments, **keywords):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", no_network)
    with pytest.raises(UserError) as error:
        load("CIFAR10", root=str(tmp_path))
    for part in (
        "could not be downloaded",
        "no network",
        "https://",
        f"put cifar-10-python.tar.gz into {tmp_path}/",
        "dataset.name=digits",
        "dataset.name=ImageFolder",
    ):
        assert part in str(error.value)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz, .* into .*/MNIST/raw/"):
        load("MNIST", root=str(tmp_path))


def idx(array):
    """An array as the bytes of an IDX file."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(params=["MNIST", "FashionMNIST"])
def own_idx(request, tmp_path):
    """A folder as MNIST's, of 60 training and 20 test images of a person's own."""
    folder = tmp_path / request.param / "raw"
    folder.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = random.integers(0, 256, (count, 28, 28), dtype=numpy.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        labels = numpy.arange(count, dtype=numpy.uint8) % 10
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def launch_idx(folder, *arguments):
    """The exit code of a small experiment on such a folder."""
    path, results = folder.parent.parent / "own.yaml", folder.parent.parent / "results"
    path.write_text(
        f"network: {{name: lenet300_100}}\n"
        f"dataset: {{name: {folder.parent.name}, root: '{folder.parent.parent}'}}\n"
        f"training: {{epochs: 1, batch_size: 32, optimizer: {{name: SGD, lr: 0.05}}}}\n"
        f"pruning: {{methods: [WT], keep_ratios: [0.5]}}\n"
    )
    return main([str(path), "--results", str(results), "--device", "cpu", *arguments])


def test_idx_files_of_ones_own_are_counted_and_said_to_be_so(own_idx, capsys):
    note = (
        f"dataset {own_idx.parent.name}: 60 training and 20 test images in {own_idx}, "
        f"not the published ones (by the md5 of train-images-idx3-ubyte, "
        f"train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte)\n"
    )
    assert launch_idx(own_idx, "--dry-run") == 0
    assert f"half of the validation split allows 3; {note}" in capsys.readouterr().out
    assert launch_idx(own_idx) == 0
    assert note in next((own_idx.parent.parent / "results").rglob("log.txt")).read_text()


def test_idx_files_are_read_as_they_are(own_idx):
    data = load(own_idx.parent.name, root=str(own_idx.parent.parent), image_size=32)
    assert data.input_shape == (1, 32, 32)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [54, 6, 20]
    pixels = (own_idx / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert data.test.images.numpy().tobytes() == pixels
    assert data.test.labels.tolist() == [*range(10)] * 2


def test_published_idx_files_are_told_by_their_checksums(own_idx, monkeypatch):
    dataset = open_dataset(DatasetPart(name=own_idx.parent.name, root=str(own_idx.parent.parent)))
    checksums = {
        path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in own_idx.iterdir()
    }
    monkeypatch.setitem(idx_files.PUBLISHED, own_idx.parent.name, checksums)
    assert dataset.shape().note is None and dataset.shape().num_train == 60
    (own_idx / "t10k-labels-idx1-ubyte").write_bytes(idx(numpy.full(20, 3, dtype=numpy.uint8)))
    assert dataset.shape().note.endswith("published ones (by the md5 of t10k-labels-idx1-ubyte)")
    (own_idx / "t10k-labels-idx1-ubyte").unlink()  # what torchvision will complete
    assert dataset.shape().note is None and dataset.shape().num_train == 60_000


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("train-images-idx3-ubyte", b"", "ends after 0 bytes; expected a header of 16 bytes"),
        (
            "train-images-idx3-ubyte",
            idx(numpy.zeros((60, 28, 28), numpy.uint8))[:-1],
            "has 47055 bytes; expected the 47056 that its header states",
        ),
        (
            "t10k-images-idx3-ubyte",
            gzip.compress(idx(numpy.zeros((20, 28, 28), numpy.uint8)), mtime=0),
            "begins with the bytes '1f 8b 08 00'; expected '00 00 08 03'",
        ),
        (
            "train-images-idx3-ubyte",
            idx(numpy.zeros((60, 32, 30), numpy.uint8)),
            "holds images of 32x30 pixels; expected 28x28",
        ),
        (
            "t10k-images-idx3-ubyte",
            idx(numpy.zeros((0, 28, 28), numpy.uint8)),
            "holds no images; expected at least one",
        ),
        (
            "t10k-labels-idx1-ubyte",
            idx(numpy.zeros(19, numpy.uint8)),
            "holds 19 labels; expected 20, one for each image of t10k-images-idx3-ubyte",
        ),
        (
            "train-labels-idx1-ubyte",
            idx(numpy.full(60, 10, numpy.uint8)),
            "holds the label 10; expected labels 0 to 9",
        ),
        (
            "t10k-labels-idx1-ubyte",
            None,
            "is missing, while train-images-idx3-ubyte is there and not the published one; "
            "expected all four",
        ),
    ],
    ids=["empty", "truncated", "packed", "size", "none", "too few labels", "label", "missing"],
)
@pytest.mark.parametrize("arguments", [[], ["--dry-run"]], ids=["run", "plan"])
def test_broken_idx_files_are_refused_before_anything_else(
    own_idx, name, content, expected, arguments, capsys
):
    (own_idx / name).unlink()
    if content is not None:
        (own_idx / name).write_bytes(content)
    assert launch_idx(own_idx, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    md5 = idx_files.PUBLISHED[own_idx.parent.name][name]
    assert error.endswith(
        f"dataset {own_idx.parent.name}: {own_idx / name} {expected}, "
        f"or the published file, whose md5 is {md5} when unpacked\n"
    )
    assert not (own_idx.parent.parent / "results").exists()


def test_packed_idx_files_of_ones_own_are_not_replaced_by_a_download(own_idx, monkeypatch):
    def no_network(*arguments, **keywords):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", no_network)
    for path in list(own_idx.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    with pytest.raises(UserError, match=r"\.gz is not the published file, .* \w{32}; unpack it"):
        load(own_idx.parent.name, root=str(own_idx.parent.parent))
    for path in own_idx.iterdir():  # as a download leaves them that was stopped: it starts again
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="could not be downloaded"):
        load(own_idx.parent.name, root=str(own_idx.parent.parent))


def training_epoch(split, seed=0):
    """All images and labels of an epoch, as one tensor each."""
    images, labels = zip(*split.training_batches(4, Stream(seed).generator()))
    return torch.cat(images), torch.cat(labels)


def test_the_number_of_batches_is_that_of_an_epoch():
    split = load("digits").train
    for count in (1, 31, 32, 33, 64, 65):
        part = split.subset(torch.arange(count))
        assert part.num_batches(32) == len(list(part.training_batches(32, Stream(0).generator())))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_folder_gives_the_same_from_memory_and_from_files(folder, num_workers):
    options = {"root": str(folder), "image_size": 8, "crop_padding": 1}
    memory, files = (
        load("ImageFolder", **options),
        load("ImageFolder", **options, in_memory=False, num_workers=num_workers),
    )
    for part in ("train", "validation", "test"):
        one, other = getattr(memory, part), getattr(files, part)
        assert len(one) == len(other) and one.num_batches(4) == other.num_batches(4)
        for mine, theirs in zip(one.batches(4), other.batches(4), strict=True):
            assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])
    for mine, theirs in zip(training_epoch(memory.train), training_epoch(files.train)):
        assert torch.equal(mine, theirs)
    assert torch.equal(memory.sample(1, Stream(0))[0][0], files.sample(1, Stream(0))[0][0])


def test_an_image_folder_too_large_for_memory_is_read_from_its_files(folder, monkeypatch):
    monkeypatch.setattr(experiment.data.sets.image_folder, "MEMORY_LIMIT", 1000)
    data = load("ImageFolder", root=str(folder), num_workers=0)
    assert not hasattr(data.train, "images") and len(next(data.train.batches(5))[0]) == 5


@pytest.fixture
def imagenet(tmp_path):
    """A tree as ImageNet's, of two classes and photographs of several sizes, one of them grey."""
    random = numpy.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for label in ("n01440764", "n01443537"):
            (tmp_path / part / label).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (30 + 7 * index, 50, 3), dtype=numpy.uint8)
                image = Image.fromarray(pixels).convert("L" if index == 1 else "RGB")
                image.resize((300, 240 + 10 * index)).save(
                    tmp_path / part / label / f"{label}_{index}.JPEG"
                )
    return tmp_path


def load_imagenet(root, num_workers=0):
    options = DATASETS.complete("ImageNet", {"root": str(root), "num_workers": num_workers})
    return load_data(DatasetPart(name="ImageNet", validation_fraction=0.25, **options), Stream(0))


def test_imagenet_is_streamed_with_the_same_numbers_for_any_number_of_workers(imagenet):
    alone, helped = load_imagenet(imagenet), load_imagenet(imagenet, num_workers=2)
    assert alone.input_shape == (3, 224, 224) and alone.num_classes == 2
    assert [len(split) for split in (alone.train, alone.validation, alone.test)] == [9, 3, 4]
    for part in ("validation", "test"):
        pairs = zip(getattr(alone, part).batches(3), getattr(helped, part).batches(3), strict=True)
        assert all(
            torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) for one, other in pairs
        )
    state = torch.random.get_rng_state()
    images, labels = training_epoch(alone.train)
    assert images.shape == (9, 3, 224, 224) and images.dtype == torch.float32
    assert sorted(labels.tolist()) == sorted(alone.train.labels.tolist())
    for same, other in zip((images, labels), training_epoch(helped.train)):
        assert torch.equal(same, other)
    assert torch.equal(state, torch.random.get_rng_state())  # dropout's draws are not disturbed
    assert not torch.equal(images, training_epoch(alone.train, seed=1)[0])


def test_imagenet_images_are_cut_and_normalised_as_usual(imagenet):
    with Image.open(imagenet / "val" / "n01440764" / "n01440764_0.JPEG") as file:
        pixels = torch.from_numpy(
            numpy.array(file.resize((320, 256), Image.Resampling.BILINEAR))
        ).permute(2, 0, 1)
    expected = (
        pixels[:, 16:240, 48:272].float() / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    ) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    images, labels = next(load_imagenet(imagenet).test.batches(1))
    assert labels.tolist() == [0] and (images[0] - expected).abs().max() < 2.5 / 255 / 0.224


def test_imagenet_mistakes(imagenet, tmp_path):
    with pytest.raises(
        UserError,
        match=r"no folder .*nowhere/train; ImageNet cannot be downloaded .*/train/<class>/",
    ):
        load_imagenet(tmp_path / "nowhere")
    assert open_dataset(DatasetPart(name="ImageNet", root="nowhere")).shape().num_train == 1_281_167
    broken = imagenet / "val" / "n01443537" / "n01443537_1.JPEG"
    broken.write_bytes(broken.read_bytes()[:500])
    for num_workers in (0, 2):
        with pytest.raises(
            UserError,
            match=r"^dataset ImageNet: .*n01443537_1.JPEG is not a readable image: [^\n]*$",
        ):
            list(load_imagenet(imagenet, num_workers).test.batches(2))
    for folder in list((imagenet / "val").iterdir()):
        folder.rename(imagenet / folder.name)
    with pytest.raises(
        UserError, match=r"find any class folder in .*val.*; ImageNet cannot be downloaded"
    ):
        load_imagenet(imagenet)


OWN_DATASET = """
from dataclasses import dataclass

import torch

from experiment.data.dataset import Dataset, Shape, from_tensors
from experiment.data.augmentation import Augmentation


@dataclass(frozen=True, kw_only=True)
class Stripes(Dataset):
    \"\"\"Images of horizontal (class 0) and vertical (class 1) stripes.\"\"\"

    image_size: int = 8
    num_images: int = 40
    folder: str = "data"

    not_affecting_numbers = ("folder",)

    def shape(self):
        return Shape((1, self.image_size, self.image_size), 2, self.num_images)

    def load(self):
        augmentation = Augmentation(crop_padding=1)
        return from_tensors(self._part(self.num_images), self._part(10), augmentation=augmentation)

    def _part(self, count):
        labels = torch.arange(count) % 2
        row = (torch.arange(self.image_size) % 2 * 255).to(torch.uint8)
        stripes = row.expand(self.image_size, -1)
        return torch.stack([stripes if label else stripes.T for label in labels])[:, None], labels


class Wrong(Stripes):
    def shape(self):
        return Shape((3, 8, 8), 2, 40)


class Labels(Stripes):
    def shape(self):
        return Shape((1, 8, 8), 1, 40)


class Floats(Stripes):
    def _part(self, count):
        return torch.rand(count, 1, 8, 8), torch.zeros(count, dtype=torch.long)


class Pairs(Stripes):
    def load(self):
        return self._part(40), self._part(10)


class NoLoad(Dataset):
    def shape(self):
        return Shape((1, 8, 8), 2, 40)


class Nothing:
    pass


stripes = Stripes()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_images.py").write_text(OWN_DATASET)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_images"
    sys.modules.pop("own_images", None)


def test_a_data_set_of_ones_own_with_options(own, tmp_path):
    data = load("own_images:Stripes", image_size=10)
    assert data.input_shape == (1, 10, 10) and (
        len(data.train),
        len(data.validation),
        len(data.test),
    ) == (36, 4, 10)
    path = tmp_path / "a.yaml"
    path.write_text(
        "network: {name: lenet5}\ndataset: {name: 'own_images:Stripes', num_images: 50}\n"
    )
    config = load_config(path)
    assert config.dataset.options == {"image_size": 8, "num_images": 50, "folder": "data"}
    assert load_config(path, ["dataset.folder=b"]).run_id() == config.run_id()
    with pytest.raises(
        UserError, match=r"a.yaml:2: dataset.num_imags: unknown key; did you mean 'num_images'"
    ):
        path.write_text(
            "network: {name: lenet5}\ndataset: {name: 'own_images:Stripes', num_imags: 50}\n"
        )
        load_config(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "Wrong",
            r"shape\(\) promises images of \[3, 8, 8\], but the training images are \[1, 8, 8\]",
        ),
        ("Labels", r"the training labels must lie in 0 ... 0, not in 0 ... 1"),
        (
            "Floats",
            r"the training images must be unsigned bytes \[N, C, H, W\], "
            r"not torch.float32 \[40, 1, 8, 8\]",
        ),
        ("Pairs", r"load\(\) must return an experiment.data.dataset.Splits, not a tuple"),
        ("NoLoad", r"own_images:NoLoad cannot be made with \(\): TypeError: .*abstract.*load"),
        (
            "Nothing",
            r"a Nothing has no method shape and no load; "
            r"derive it from experiment.data.dataset.Dataset",
        ),
        (
            "stripes",
            r"'own_images:stripes' is of type Stripes, not a class or function that makes one",
        ),
        (
            "Absent",
            r"cannot import dataset 'own_images:Absent': AttributeError: .*no attribute 'Absent'",
        ),
    ],
)
def test_data_sets_of_ones_own_that_are_none(own, name, expected):
    with pytest.raises(UserError, match=expected):
        load(f"own_images:{name}")
