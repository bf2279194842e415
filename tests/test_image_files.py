"""Image folders with files that are no images: refused or left out before anything is computed."""

import errno
import os
import shutil
import socket
import tempfile
import zlib
from pathlib import Path

import numpy
import pytest
import torch
import whole_runs
from PIL import Image

from experiment.config.schema import DatasetPart
from experiment.core import available_memory
from experiment.core.errors import UserError
from experiment.core.registry import DATASETS
from experiment.core.seeding import Stream
from experiment.data import image_checks
from experiment.data.loading import load_data, shape_of
from experiment.data.tensor_split import TensorSplit
from experiment.main import main

BROKEN = Path("train", "cat", "broken.png")


def part(folder, name="ImageFolder", **options):
    options = DATASETS.complete(name, {"root": str(folder), "num_workers": 0, **options})
    return DatasetPart(name=name, **options)


def load(folder, **options):
    return load_data(part(folder, **options), Stream(0))


def save(path, seed=0, size=(12, 10), **options):
    pixels = numpy.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes with 40 training and 6 test images each, of which all are sound."""
    for split, count in (("train", 40), ("test", 6)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                path = tmp_path / split / name / f"{index:02}.png"
                save(path, seed=[len(split), label, index])
    return tmp_path


def image_bytes(name, **options):
    with tempfile.TemporaryDirectory() as inner:
        save(Path(inner, name), **options)
        return Path(inner, name).read_bytes()


def of_16_bits(path):
    Image.fromarray(numpy.full((12, 10), 40_000, dtype=numpy.uint16)).save(path)


def with_size(width, height):
    """A PNG file that claims to be of a size; nothing but its header is sound."""

    def write(path):
        content = bytearray(image_bytes("a.png"))
        content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        content[29:33] = _checksum(content[12:29])
        path.write_bytes(content)

    return write


def _checksum(chunk):
    return zlib.crc32(chunk).to_bytes(4, "big")


def a_socket(path):
    with tempfile.TemporaryDirectory() as short:  # the path of a socket has at most 100 characters
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(f"{short}/socket")
        shutil.move(f"{short}/socket", path)


# What is known from a listing or a header, so that a dry run knows it too.
KNOWN_EARLY = {
    "empty": (Path.touch, "is empty"),
    "text": (
        lambda path: path.write_text("no image\n" * 100),
        "is not a readable image: its content is in no known format",
    ),
    "cut header": (
        lambda path: path.write_bytes(image_bytes("a.png")[:20]),
        "is not a readable image: ",
    ),
    "pipe": (os.mkfifo, "is not a regular file: opening it could take forever"),
    "socket": (a_socket, "is not a regular file: opening it could take forever"),
    "device": (
        lambda path: path.symlink_to("/dev/zero"),
        "is not a regular file: opening it could take forever",
    ),
    "link to nothing": (lambda path: path.symlink_to("nowhere.png"), "is a link to nothing"),
    "link to itself": (
        lambda path: path.symlink_to(path.name),
        "is a link that leads back to itself",
    ),
    "bomb of which Pillow warns": (
        with_size(10_000, 10_000),
        "has more than the 89,478,485 pixels that are allowed; scale it down first",
    ),
    "bomb that Pillow refuses": (
        with_size(100_000, 100_000),
        "has more than the 89,478,485 pixels that are allowed; scale it down first",
    ),
    "long and narrow": (
        with_size(80_000_000, 1),
        "has 1x80000000 pixels: with a shorter side of 8 it would have more than the 89,478,485 "
        "that are allowed",
    ),
    "16 bits": (of_16_bits, "has more than 8 bits a channel; convert it to 8 bits first"),
    "program": (
        lambda path: path.write_text(
            "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
        ),
        "is not a readable image: ",
    ),
}
KNOWN_FROM_PIXELS = {
    "truncated PNG": (
        lambda path: path.write_bytes(image_bytes("a.png")[:-100]),
        "is not a readable image: ",
    ),
    "truncated JPEG": (
        lambda path: path.write_bytes(image_bytes("a.jpg", size=(64, 64))[:-900]),
        "is not a readable image: ",
    ),
    "truncated bitmap": (
        lambda path: path.write_bytes(image_bytes("a.bmp")[:-100]),
        "is not a readable image: ",
    ),
}
DAMAGES = KNOWN_EARLY | KNOWN_FROM_PIXELS


def write_config(folder):
    """A small experiment with the images of a folder."""
    path = folder / "own.yaml"
    path.write_text(
        f"network: {{name: lenet300_100}}\n"
        f"dataset: {{name: ImageFolder, root: '{folder}', image_size: 8, num_workers: 0}}\n"
        f"training: {{epochs: 1, batch_size: 32, optimizer: {{name: SGD, lr: 0.05}}}}\n"
        f"pruning: {{methods: [WT], keep_ratios: [0.5]}}\n"
    )
    return path


def launch(folder, *arguments):
    """The exit code of that experiment."""
    path = write_config(folder)
    return main([str(path), "--results", str(folder / "results"), "--device", "cpu", *arguments])


def the_error(capsys):
    """The only line of an error, which every mistake ends with."""
    error = capsys.readouterr().err
    error = "".join(line for line in error.splitlines(True) if not line.startswith("warning: "))
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_a_file_that_is_no_image_is_named_before_anything_is_trained(
    folder, damage, in_memory, capsys
):
    make, reason = DAMAGES[damage]
    make(folder / "test" / "dog" / "00-broken.png")
    assert launch(folder, "--set", f"dataset.in_memory={in_memory}") == 2
    error = the_error(capsys)
    assert f"dataset ImageFolder: {folder}/test/dog/00-broken.png {reason}" in error
    assert error.endswith("; dataset.skip_unreadable: true leaves such files out\n")
    assert not list(folder.glob("results/**/training.csv"))


@pytest.mark.parametrize("damage", KNOWN_EARLY)
def test_a_dry_run_finds_what_can_be_told_without_decoding(folder, damage, capsys):
    make, reason = KNOWN_EARLY[damage]
    make(folder / BROKEN)
    assert launch(folder, "--dry-run") == 2
    assert f"{folder / BROKEN} {reason}" in the_error(capsys)


def test_how_many_other_files_are_broken_is_told(folder):
    for name in ("00.png", "07.png", "31.png"):
        (folder / "train" / "dog" / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"dog/00\.png is empty; 2 more cannot be read either;"):
        shape_of(part(folder))


def damage_all_kinds(folder):
    """Put a broken file of each kind among the training images, and some among the test images."""
    for index, (make, _) in enumerate(DAMAGES.values()):
        make(folder / "train" / ("cat", "dog")[index % 2] / f"{index:02}-broken.png")
    DAMAGES["empty"][0](folder / "test" / "cat" / "0-broken.png")
    DAMAGES["truncated PNG"][0](folder / "test" / "dog" / "9-broken.png")


@pytest.mark.parametrize("options", [{}, {"image_size": 8}], ids=["own size", "scaled"])
@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "streamed"])
def test_with_broken_files_left_out_the_numbers_are_those_of_the_others(
    folder, options, in_memory, tmp_path_factory
):
    sound = tmp_path_factory.mktemp("sound") / "images"
    shutil.copytree(folder, sound)
    damage_all_kinds(folder)
    (folder / "train" / "cat" / "00-first.png").write_bytes(b"")  # it would tell the size of all
    options = {"in_memory": in_memory, "crop_padding": 1, **options}
    expected = load(sound, **options)
    found = load(folder, skip_unreadable=True, **options)
    assert found.input_shape == expected.input_shape
    for split in ("train", "validation", "test"):
        one, other = getattr(found, split), getattr(expected, split)
        for mine, theirs in zip(one.batches(7), other.batches(7), strict=True):
            assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])
    epochs = (data.train.training_batches(7, Stream(1).generator()) for data in (found, expected))
    for mine, theirs in zip(*epochs, strict=True):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])


@pytest.mark.parametrize("arguments", [["--dry-run"], []], ids=["plan", "run"])
def test_what_is_left_out_is_counted_and_named(folder, arguments, capsys):
    damage_all_kinds(folder)
    assert launch(folder, "--set", "dataset.skip_unreadable=true", *arguments) == 0
    text = capsys.readouterr().out
    if not arguments:
        text = next(folder.glob("results/**/log.txt")).read_text()
    broken = len(DAMAGES)
    assert (
        f"dataset ImageFolder: left out because they cannot be read: {broken} of {80 + broken} "
        f"training images and 2 of 14 test images ({folder}/train/cat/00-broken.png is empty; "
    ) in text
    assert f"; {broken + 2 - 3} more)" in text


@pytest.mark.parametrize("arguments", [["--dry-run"], []], ids=["plan", "run"])
def test_names_of_what_is_left_out_cannot_break_lines(folder, arguments, capsys):
    (folder / "train" / "cat" / "a\n\x1b[31m.png").write_bytes(b"")
    assert launch(folder, "--set", "dataset.skip_unreadable=true", *arguments) == 0
    assert r"train/cat/a\n\x1b[31m.png is empty" in capsys.readouterr().out


def test_what_is_left_out_belongs_to_the_plan_and_to_the_run_alike(folder):
    damage_all_kinds(folder)
    shape = shape_of(part(folder, skip_unreadable=True))
    assert (shape.num_train, shape.num_test) == (80, 12)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_of_which_nothing_can_be_read_is_a_mistake(folder, split):
    for path in (folder / split / "dog").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    expected = rf"no image in \S*/{split}/dog/ can be read, and .*: \S*/dog/00\.png is not a read"
    with pytest.raises(UserError, match=expected):
        shape_of(part(folder, skip_unreadable=True))


def test_images_of_another_size_are_not_left_out_in_silence(folder):
    save(folder / "train" / "dog" / "large.png", size=(20, 20))
    with pytest.raises(UserError, match=r"large\.png has 20x20 pixels .*: set dataset\.image_size"):
        load(folder, skip_unreadable=True)


def test_nothing_is_left_out_because_the_system_is_short_of_something(folder, monkeypatch):
    real = os.open

    def out_of_descriptors(path, *arguments, **keywords):
        if str(path).endswith("07.png"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", out_of_descriptors)
    with pytest.raises(UserError, match=r"cat/07\.png cannot be read: OSError: .*Too many open"):
        shape_of(part(folder, skip_unreadable=True))


def test_a_file_that_vanishes_after_it_was_listed_is_named(folder):
    data = load(folder, in_memory=False, image_size=8)
    for path in (folder / "test").rglob("03.png"):
        path.unlink()
    with pytest.raises(UserError, match=r"test/cat/03\.png cannot be read: No such file"):
        list(data.test.batches(4))


def test_a_pipe_that_takes_the_place_of_an_image_does_not_hang(folder):
    data = load(folder, in_memory=False, image_size=8)
    path = folder / "test" / "cat" / "03.png"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"test/cat/03\.png is not a regular file"):
        list(data.test.batches(4))


def test_what_was_found_out_is_forgotten_when_a_file_changes(folder):
    path = folder / "train" / "cat" / "05.png"
    content = path.read_bytes()
    for changed, expected in ((b"x" * len(content), 79), (content, 80)):
        path.write_bytes(changed)
        os.utime(path, ns=(expected, expected))
        assert shape_of(part(folder, skip_unreadable=True)).num_train == expected


@pytest.fixture
def nobody():
    """A process without the rights of the administrator, whom no permission concerns."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_and_folders_without_permission_are_named(nobody):
    with tempfile.TemporaryDirectory() as place:  # that nobody owns
        copy = Path(place, "images")
        os.mkdir(copy)
        for split in ("train", "test"):
            for name in ("cat", "dog"):
                (copy / split / name).mkdir(parents=True)
                save(copy / split / name / "0.png")
        (copy / "train" / "dog" / "0.png").chmod(0)
        with pytest.raises(UserError, match=r"dog/0\.png cannot be read: Permission denied"):
            shape_of(part(copy))
        (copy / "train" / "dog" / "0.png").chmod(0o600)
        (copy / "train" / "dog").chmod(0)
        with pytest.raises(UserError, match=r"train/dog cannot be read: Permission denied"):
            shape_of(part(copy))
        (copy / "train" / "dog").chmod(0o700)


@pytest.mark.parametrize("skip", [False, True])
def test_folders_without_images_are_named(folder, skip):
    (folder / "train" / "cow").mkdir()
    (folder / "train" / "cow" / "notes.txt").write_text("no image")
    with pytest.raises(
        UserError, match=r"no images in these class folders of \S*train: cow \(images end in .jpg"
    ):
        shape_of(part(folder, skip_unreadable=skip))


def test_classes_in_one_split_alone_are_told_by_a_dry_run(folder):
    (folder / "test" / "cow").mkdir()
    save(folder / "test" / "cow" / "0.png")
    with pytest.raises(UserError, match="only in test: cow"):
        shape_of(part(folder))


def test_a_folder_inside_itself_is_named_and_no_image_counts_twice(folder):
    (folder / "train" / "cat" / "again").symlink_to(folder / "train" / "cat")
    with pytest.raises(UserError, match=r"train/cat/again is a link that leads back to itself"):
        shape_of(part(folder))
    (folder / "train" / "cat" / "again").unlink()
    (folder / "train" / "lost").symlink_to(folder / "nowhere")
    with pytest.raises(UserError, match=r"train/lost is a link to nothing"):
        shape_of(part(folder))


def test_links_to_images_and_folders_elsewhere_are_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (folder / "train" / "cat").rename(elsewhere / "cats")
    (folder / "train" / "cat").symlink_to(elsewhere / "cats")
    assert shape_of(part(folder)).num_train == 80


def test_hidden_files_and_folders_do_not_count(folder):
    (folder / "train" / "cat" / "._00.png").write_bytes(b"what macOS leaves")
    (folder / "train" / ".checkpoints").mkdir()
    (folder / "train" / "readme.txt").write_text("beside the classes")
    assert shape_of(part(folder)).num_train == 80


def test_images_are_in_the_order_of_torchvision(folder):
    from torchvision.datasets import ImageFolder

    for inner in ("a/b", "a-b", "A", "a"):
        (folder / "train" / "cat" / inner).mkdir(parents=True, exist_ok=True)
        save(folder / "train" / "cat" / inner / "1.PNG", seed=len(inner))
    expected = ImageFolder(str(folder / "train"))
    found = load(folder, in_memory=False).train
    both = [*found.paths, *load(folder, in_memory=False).validation.paths]
    assert sorted(both) == sorted(path for path, _ in expected.samples)
    order = {path: index for index, (path, _) in enumerate(expected.samples)}
    places = [order[path] for path in found.paths]
    assert places == sorted(places)
    assert found.labels.tolist() == [expected.samples[place][1] for place in places]


@pytest.mark.parametrize(
    "name", ["a b", "-rf", "ü-猫", "a'b\"c", "$HOME", "x" * 200, "\udcff"], ids=ascii
)
def test_class_folders_may_have_odd_names(folder, name):
    for split in ("train", "test"):
        (folder / split / "dog").rename(folder / split / name)
    assert launch(folder, "--dry-run") == 0
    (folder / "train" / name / "00.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"00\.png is empty"):
        shape_of(part(folder))


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_images_of_all_modes_are_read_as_pillow_converts_them(folder, mode):
    name = "odd.tif" if mode in ("CMYK", "YCbCr") else "odd.png"
    path = folder / "test" / "cat" / name
    random = numpy.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=numpy.uint8)
    options = {"transparency": b"\x00\x80"} if mode == "P" else {}
    Image.fromarray(random).convert("P" if mode == "PA" else mode).save(path, **options)
    with Image.open(path) as image:
        expected = torch.from_numpy(numpy.array(image.convert("RGBA").convert("RGB")))
        if image.mode in ("CMYK", "YCbCr"):
            expected = torch.from_numpy(numpy.array(image.convert("RGB")))
    assert torch.equal(load(folder).test.images[6], expected.permute(2, 0, 1))


def test_what_pillow_warns_of_is_not_shown(folder):
    image = Image.new("P", (10, 12))
    image.save(folder / "train" / "cat" / "palette.png", transparency=b"\x00\x80")
    path = write_config(folder)
    process = whole_runs.launch(
        path, folder / "results", "--dry-run", "--set", "dataset.skip_unreadable=true"
    )
    assert process.returncode == 0 and process.stderr == ""


@pytest.mark.parametrize("name", ["odd.png", "odd.webp", "odd.tif"])
def test_of_an_animation_the_first_image_counts(folder, name):
    frames = [Image.new("RGB", (10, 12), colour) for colour in ("red", "blue", "lime")]
    path = folder / "test" / "cat" / name
    options = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    red, green, blue = load(folder).test.images[6].float().mean((1, 2)).tolist()
    assert (red, green, blue) == (255, 0, 0)


def test_very_many_files_are_not_opened_for_a_plan(folder, monkeypatch):
    (folder / BROKEN).write_text("no image")
    monkeypatch.setattr(image_checks, "MOST_OPENED", 80)
    assert shape_of(part(folder, image_size=8)).num_train == 81
    with pytest.raises(UserError, match=r"cat/broken\.png is not a readable image"):
        load(folder, image_size=8)


@pytest.fixture
def imagenet(folder):
    (folder / "test").rename(folder / "val")
    return folder


def test_imagenet_leaves_out_what_cannot_be_read(imagenet):
    KNOWN_FROM_PIXELS["truncated PNG"][0](imagenet / BROKEN)
    KNOWN_EARLY["empty"][0](imagenet / "val" / "dog" / "0-broken.png")
    with pytest.raises(UserError, match=r"val/dog/0-broken\.png is empty; dataset\.skip_unr"):
        shape_of(part(imagenet, "ImageNet"))
    data = load_data(part(imagenet, "ImageNet", skip_unreadable=True), Stream(0))
    assert len(data.train) + len(data.validation) == 80 and len(data.test) == 12
    assert "1 of 81 training images and 1 of 13 test images" in data.note
    assert sum(len(labels) for _, labels in data.test.batches(5)) == 12


def test_images_that_do_not_fit_into_memory_stay_in_their_files(folder, monkeypatch):
    everything = load(folder)
    meminfo = folder / "meminfo"
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable: 80 kB\n")  # 92 images take 33 kB
    monkeypatch.setattr(available_memory, "MEMINFO", meminfo)
    data = load(folder)
    assert not hasattr(data.train, "images")
    assert "the images need 0.0 MiB, more than the 0.0 MiB" in data.note
    for mine, theirs in zip(data.test.batches(5), everything.test.batches(5), strict=True):
        assert torch.equal(mine[0], theirs[0])


def test_data_that_must_be_in_memory_and_do_not_fit_are_refused_with_their_size(
    monkeypatch, tmp_path
):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 80 kB\n")
    monkeypatch.setattr(available_memory, "MEMINFO", meminfo)
    # 1,437 training images of 8x8 pixels
    with pytest.raises(UserError, match=r"need 0\.1 MiB of memory, but only 0\.1 MiB is free"):
        load_data(DatasetPart(name="digits", crop_padding=1), Stream(0))


def test_images_that_do_not_fit_onto_a_gpu_are_refused_with_their_size(monkeypatch):
    def full(split, device):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 MiB")

    monkeypatch.setattr(TensorSplit, "to", full)
    with pytest.raises(UserError, match=r"need 0\.1 MiB of memory on cuda:7, which has less"):
        load_data(DatasetPart(name="digits", crop_padding=1), Stream(0), "cuda:7")


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_container_counts(version, tmp_path, monkeypatch):
    inner = tmp_path / ("" if version == 2 else "memory") / "box"
    inner.mkdir(parents=True)
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    limit, used, cached = names[version]
    (inner / limit).write_text("5000\n")
    (inner / used).write_text("3000\n")
    active = cached.replace("inactive", "active")
    (inner / "memory.stat").write_text(f"anon 7\n{cached} 400\n{active} 100\n")
    (inner.parent / limit).write_text("max\n")
    groups = tmp_path / "groups"
    groups.write_text({1: "4:memory:/box\n2:cpu:/\n", 2: "0::/box\n"}[version])
    monkeypatch.setattr(available_memory, "OWN_GROUPS", groups)
    monkeypatch.setattr(available_memory, "GROUPS", tmp_path)
    assert available_memory.available_memory() == 2500


@pytest.mark.parametrize(
    ("name", "option", "allowed", "refused"),
    [
        ("ImageFolder", "image_size", (1, 4096), (0, -4, 100_000)),
        ("ImageFolder", "crop_padding", (0, 256), (-1, 257)),
        ("ImageFolder", "num_workers", (0, 1024), (-1, 1025)),
        ("ImageNet", "num_workers", (0, 1024), (-1, 1025)),
        ("MNIST", "image_size", (1, 1024), (0, -4, 100_000)),
        ("FashionMNIST", "crop_padding", (0, 256), (-1, 257)),
        ("CIFAR10", "crop_padding", (0, 256), (-1, 257)),
        ("CIFAR100", "crop_padding", (0, 256), (-1, 257)),
        ("digits", "crop_padding", (0, 256), (-1, 257)),
    ],
)
def test_options_have_a_range(name, option, allowed, refused):
    required = {"root": "images"} if name == "ImageFolder" else {}
    for value in allowed:
        DATASETS.create(name, {**required, option: value})
    for value in refused:
        with pytest.raises(UserError, match=f"dataset {name}: {option}: Input should be"):
            DATASETS.create(name, {**required, option: value})
