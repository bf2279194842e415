"""What runs depend on besides their settings: files of data, and own code."""

import errno
import gzip
import hashlib
import importlib
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from PIL import Image

import experiment
from experiment.config.loading import load_config
from experiment.config.sweeps import load_sweep
from experiment.core.dependencies import looking_once
from experiment.core.errors import UserError
from experiment.core.registry import DATASETS
from experiment.core.shipped import PLUGIN_MODULES
from experiment.data import idx_files
from experiment.main import main
from tools import documentation

SHIPPED = [  # run id and fingerprint of the first training, as they were before there were others
    ("pfp/digits/cascade/lenet5", "473e90885e", "fd8c4e11a0"),
    ("sipp/digits/cascade/all_methods", "cca3af894f", "5bb6a9fc3c"),
    ("sipp/digits/cascade/resnet20", "e2c11014c5", "5bb6a9fc3c"),
    ("sipp/digits/sweep/lenet300_100", "1f71c9484f", "6d03586287"),
    ("sipp/cifar/cascade/wrn28_2", "51195d3a9b", "1f845d8e7c"),
    ("sipp/mnist/lenet300_100", "4f55f7cb0e", "91c3dac87b"),
    ("sipp/imagenet/resnet18", "d5a76d6073", "0df5df9420"),
]

NET = """
from torch import nn
from own_helper import WIDTH


class Net(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        size = input_shape[0] * input_shape[1] * input_shape[2]
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(size, WIDTH), nn.ReLU(), nn.Linear(WIDTH, num_classes)
        )

    def forward(self, images):
        return self.layers(images)
"""


ADDED = """
from torch import nn

from experiment.core.registry import NETWORKS


@NETWORKS.register
class AddedNet(nn.Module):
    def __init__(self, *, input_shape, num_classes):
        super().__init__()
"""


def identities(config):
    return config.run_id(), experiment.tasks(config)[0].fingerprint()


@pytest.mark.parametrize(("name", "run_id", "fingerprint"), SHIPPED)
def test_the_identities_of_shipped_files_stay_as_they_are(name, run_id, fingerprint):
    path = ROOT / "paper" / f"{name}.yaml"
    assert identities(load_config(path)) == (run_id, fingerprint)
    with looking_once(verify=True):
        assert identities(load_config(path)) == (run_id, fingerprint)


# Files of data.


@pytest.fixture
def images(tmp_path):
    """A folder with six small images for training and four for testing, in two classes."""
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("test", 2)):
        for label in ("cat", "dog"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                values = torch.randint(256, (4, 4, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(values.numpy()).save(folder / f"{index}.bmp")
    return tmp_path / "images"


def of_folder(small_config, root, *overrides, name="ImageFolder"):
    return identities(
        load_config(small_config, [f"dataset.name={name}", f"dataset.root={root}", *overrides])
    )


def test_a_copy_elsewhere_with_other_times_is_the_same(small_config, images, tmp_path):
    here = of_folder(small_config, images)
    copy = Path(shutil.copytree(images, tmp_path / "deeper" / "copy"))
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    (copy / "train" / "cat" / "notes.txt").write_text("no image")
    (copy / "train" / "list.csv").write_text("no class")
    (copy / "train" / "cat" / ".0.bmp").write_bytes(b"hidden")
    (copy / "train" / ".cache").mkdir()
    shutil.copy(images / "train/cat/0.bmp", copy / "train" / ".cache")
    assert of_folder(small_config, copy) == here
    linked = tmp_path / "linked"
    linked.symlink_to(copy)
    assert of_folder(small_config, linked, "dataset.num_workers=1") == here
    with looking_once(verify=True):
        verified = of_folder(small_config, images)
    with looking_once(verify=True):
        assert of_folder(small_config, copy) == verified != here


def add(images):
    shutil.copy(images / "train/cat/0.bmp", images / "train/cat/9.bmp")


def rename(images):
    (images / "test/dog/0.bmp").rename(images / "test/dog/first.bmp")


def change_class(images):
    (images / "train/dog").rename(images / "train/puppy")
    (images / "test/dog").rename(images / "test/puppy")


def resize(images):
    with (images / "test/cat/1.bmp").open("ab") as file:
        file.write(b"\0")


def delete(images):
    (images / "train/dog/3.bmp").unlink()


def nest(images):
    (images / "train/dog/inner").mkdir()
    (images / "train/dog/3.bmp").rename(images / "train/dog/inner/3.bmp")


@pytest.mark.parametrize("change", [add, rename, change_class, resize, delete, nest])
@pytest.mark.parametrize("name", ["ImageFolder", "ImageNet"])
def test_other_files_are_others(small_config, images, change, name):
    before = of_folder(small_config, images, name=name)
    if name == "ImageNet":
        (images / "test").rename(images / "val")
        before = of_folder(small_config, images, name=name)
        (images / "test").symlink_to(images / "val")
    change(images)
    after = of_folder(small_config, images, name=name)
    assert after[0] != before[0] and after[1] != before[1]


def test_other_contents_of_the_same_size_are_seen_if_verified(small_config, images):
    def verified():
        with looking_once(verify=True):
            return of_folder(small_config, images)

    names, contents = of_folder(small_config, images), verified()
    path = images / "train" / "dog" / "5.bmp"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    assert of_folder(small_config, images) == names
    assert verified()[0] != contents[0] and verified()[1] != contents[1]


def test_two_swapped_images_are_seen_if_verified(small_config, images):
    with looking_once(verify=True):
        before = of_folder(small_config, images)
    one, other = images / "train/cat/0.bmp", images / "train/dog/0.bmp"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with looking_once(verify=True):
        assert of_folder(small_config, images) != before


@pytest.mark.parametrize("verify", [False, True])
def test_what_is_no_readable_file_breaks_nothing(small_config, images, verify):
    folder = images / "train" / "cat"
    (folder / "dangling.png").symlink_to(images / "nowhere.png")
    (folder / "circle").symlink_to(folder)
    (folder / "itself.png").symlink_to(folder / "itself.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "also.png").mkdir()
    with looking_once(verify):
        first = of_folder(small_config, images)
    with looking_once(verify):
        assert of_folder(small_config, images) == first


def test_a_missing_folder_is_told_of_when_it_is_needed(small_config, tmp_path, capsys):
    of_folder(small_config, tmp_path / "nowhere")
    (tmp_path / "half" / "train" / "cat").mkdir(parents=True)
    of_folder(small_config, tmp_path / "half")
    overrides = ["--set", "dataset.name=ImageFolder", "--set", f"dataset.root={tmp_path}/nowhere"]
    arguments = [str(small_config), "--results", str(tmp_path / "results"), *overrides]
    for more in ([], ["--verify-data"], ["--dry-run"]):
        assert main([*arguments, *more]) == 2
        assert f"no folder {tmp_path}/nowhere/train" in capsys.readouterr().err


def test_a_folder_is_listed_once_by_a_command_and_again_by_the_next(
    small_config, images, monkeypatch
):
    listed = []
    image_folder = DATASETS.get("ImageFolder")
    original = image_folder.dependencies

    def dependencies(self, verify):
        listed.append(verify)
        return original(self, verify)

    monkeypatch.setattr(image_folder, "dependencies", dependencies)
    small_config.write_text(small_config.read_text() + "sweep: {grid: {seed: [0, 1, 2]}}\n")
    overrides = [*settings_of(images), "pruning.sample_size=1"]
    before = load_sweep(small_config, overrides).sweep_id()
    assert listed == [False]
    arguments = [str(small_config), "--dry-run", "--verify-data"]
    arguments += [text for override in overrides for text in ("--set", override)]
    assert main(arguments) == 0
    assert listed == [False, True]
    add(images)
    assert load_sweep(small_config, overrides).sweep_id() != before


def write_idx(folder, num_train, value=0):
    """The four files of MNIST with black images and one grey one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", num_train), ("t10k", 20)):
        pixels = bytearray(count * 784)
        pixels[0] = value
        header = struct.pack(">4I", 0x803, count, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + bytes(pixels))
        labels = bytes(index % 10 for index in range(count))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2I", 0x801, count) + labels
        )


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_own_files_of_mnist_count_by_their_contents(small_config, tmp_path, name):
    published = of_folder(small_config, tmp_path / "none", name=name)
    for root, num_train, value in (("a", 100, 0), ("b", 100, 0), ("c", 100, 1), ("d", 110, 0)):
        write_idx(tmp_path / root / name / "raw", num_train, value)
    found = [of_folder(small_config, tmp_path / root, name=name) for root in "abcd"]
    assert found[0] == found[1]
    assert len({published, *found}) == 4


def test_published_and_broken_files_of_mnist_add_nothing(small_config, tmp_path, monkeypatch):
    published = of_folder(small_config, tmp_path / "none", name="MNIST")
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, 100)
    assert of_folder(small_config, tmp_path, name="MNIST") != published
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setitem(idx_files.PUBLISHED, "MNIST", md5)
        assert of_folder(small_config, tmp_path, name="MNIST") == published
    (folder / "train-images-idx3-ubyte").write_bytes(b"broken")
    assert of_folder(small_config, tmp_path, name="MNIST") == published
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(b"other")
    (folder / "t10k-images-idx3-ubyte").unlink()
    assert of_folder(small_config, tmp_path, name="MNIST") == published


# Own code.


def ids_of(folder, config, *overrides, cwd=ROOT):
    """The identities of a configuration in a fresh process, as a workers' process sees them."""
    code = (
        "import sys, pickle, experiment\n"
        "config = experiment.load_config(sys.argv[1], sys.argv[2:])\n"
        "task = pickle.loads(pickle.dumps(experiment.tasks(config)[0]))\n"
        "print(config.run_id(), task.fingerprint())\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(config), *overrides],
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"},
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return tuple(finished.stdout.split())


def ids_here(folder, config, *overrides):
    """The identities in this process, which forgets the folder's modules afterwards."""
    importlib.invalidate_caches()
    try:
        return identities(load_config(config, overrides))
    finally:
        forget_modules(folder)


def forget_modules(folder):
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{folder}/"):
            del sys.modules[name]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder on Python's path with a network, and with a helper that it imports."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own_net.py").write_text(NET)
    (folder / "own_helper.py").write_text("WIDTH = 8\n")
    (folder / "unrelated.py").write_text("WIDTH = 1\n")
    monkeypatch.syspath_prepend(folder)
    yield folder
    forget_modules(folder)


OWN_NET = "network={name: 'own_net:Net'}"


def test_own_modules_and_their_helpers_count(own, small_config, tmp_path):
    first = ids_of(own, small_config, OWN_NET)
    (own / "unrelated.py").write_text("WIDTH = 2\n")
    assert ids_here(own, small_config, OWN_NET) == first
    copy = Path(shutil.copytree(own, tmp_path / "copy"))
    for path in copy.glob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))  # as on other systems
    assert ids_of(copy, small_config, OWN_NET, cwd=tmp_path) == first
    (own / "own_helper.py").write_text("WIDTH = 9\n")
    second = ids_here(own, small_config, OWN_NET)
    (own / "own_net.py").write_text(f"{NET}\n# changed\n")
    third = ids_here(own, small_config, OWN_NET)
    assert len({first[0], second[0], third[0]}) == len({first[1], second[1], third[1]}) == 3


def test_methods_count_for_runs_but_not_for_trained_nets(own, small_config):
    method = "pruning.methods=[{name: 'own_method:Mine'}]"
    path = own / "own_method.py"
    text = "from experiment.methods.magnitude import WT\nclass Mine(WT): pass\n"
    path.write_text(text)
    before = ids_here(own, small_config, method)
    path.write_text(text + "LATER = 1\n")
    after = ids_here(own, small_config, method)
    assert after[0] != before[0] and after[1] == before[1]


IMPORTS = {
    "import pack.inner": "pack/inner.py",
    "import pack.inner as short": "pack/inner.py",
    "from pack import inner": "pack/inner.py",
    "from pack.inner import VALUE": "pack/inner.py",
    "from pack.inner import *": "pack/inner.py",
    "from pack.sub import deep": "pack/__init__.py",
    "import pack.sub.deep": "pack/sub/sibling.py",  # imported by deep, relatively
    "from pack.sub.deep import VALUE": "pack/inner.py",  # likewise, from the package above
    "def later():\n    import pack.inner": "pack/inner.py",  # not imported when it is found
    "def later():\n    from pack.sub import deep": "pack/sub/sibling.py",
    "import pack.inner\ndef later(): import torch.classes.odd.odd, os.path.odd": "pack/inner.py",
    "def later():\n    import plain.folder.leaf": "plain/folder/leaf.py",  # without __init__.py
}


@pytest.mark.parametrize(("statement", "changed"), IMPORTS.items())
def test_imports_are_followed_however_they_are_written(own, small_config, statement, changed):
    files = {
        "pack/__init__.py": "",
        "pack/inner.py": "VALUE = 1\n",
        "pack/sub/__init__.py": "",
        "pack/sub/deep.py": "from . import sibling\nfrom ..inner import VALUE\n",
        "pack/sub/sibling.py": "",
        "plain/folder/leaf.py": "",
        "own_net.py": f"{statement}\n{NET}",
    }
    for name, text in files.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text)
    before = ids_here(own, small_config, OWN_NET)
    assert ids_here(own, small_config, OWN_NET) == before
    (own / changed).write_text(f"{files[changed]}CHANGED = 1\n")
    assert ids_here(own, small_config, OWN_NET) != before


OWN_DATASET = """
from experiment.core.dependencies import Dependency, Kind
from experiment.data.dataset import Dataset
from experiment.data.sets.image_folder import ImageFolder


def linked(*, root: str):
    return ImageFolder(root=root)


class Versioned(Dataset):
    def __init__(self, *, root: str = "", version: str = "1"):
        self.version = version

    def dependencies(self, verify):
        return [Dependency(Kind.FILES, "table", self.version, "the table")]

    def shape(self):
        raise NotImplementedError

    def load(self):
        raise NotImplementedError


class Failing(Versioned):
    def dependencies(self, verify):
        raise KeyError("version")


class Words(Versioned):
    def dependencies(self, verify):
        return ["version"]
"""


def test_data_sets_of_ones_own_tell_their_files(own, small_config, images):
    (own / "own_files.py").write_text(OWN_DATASET)

    def found(name, *overrides):
        of_data_set = [f"dataset.name=own_files:{name}", f"dataset.root={images}", *overrides]
        return ids_here(own, small_config, *of_data_set)

    one, other = (found("Versioned", f"dataset.version='{index}'") for index in (1, 2))
    assert one != other
    before = found("linked")
    add(images)
    assert found("linked") != before
    with pytest.raises(
        UserError,
        match=r"dataset.name: dependencies\(\) fails: KeyError: 'version' \(.*own_files.py, line",
    ):
        found("Failing")
    with pytest.raises(UserError, match=r"dependencies\(\) must return .*Dependency"):
        found("Words")


def test_installed_and_shipped_modules_do_not_count(small_config):
    by_name = load_config(small_config, ["network.name=torchvision.models:resnet18"])
    assert by_name.network.dependencies == ()
    shipped = load_config(small_config, ["network.name=experiment.networks.lenet:lenet5"])
    assert shipped.network.dependencies == ()
    collected = load_config(small_config, ["network.name=resnet18"])
    assert collected.network.dependencies == ()


def test_an_added_plug_in_counts_and_a_shipped_one_does_not(tmp_path, small_config):
    package = tmp_path / "experiment"
    shutil.copytree(ROOT / "experiment", package, ignore=lambda *_: {"__pycache__"})
    plug_in = package / "networks" / "added.py"
    plug_in.write_text(ADDED)
    added = "network={name: AddedNet}"
    before = ids_of(tmp_path, small_config, added, cwd=tmp_path)
    plug_in.write_text(f"{ADDED}LATER = 1\n")
    after = ids_of(tmp_path, small_config, added, cwd=tmp_path)
    assert after[0] != before[0] and after[1] != before[1]
    lenet = package / "networks" / "lenet.py"
    lenet.write_text(f"{lenet.read_text()}LATER = 1\n")
    assert ids_of(tmp_path, small_config, cwd=tmp_path) == identities(load_config(small_config))


def test_the_list_of_shipped_plug_ins_names_them_all():
    for folder in ("methods", "networks", "data/sets"):
        for path in (ROOT / "experiment" / folder).glob("*.py"):
            parts = ("experiment", *folder.split("/"), path.stem)
            assert ".".join(parts).removesuffix(".__init__") in PLUGIN_MODULES
    assert documentation.SHIPPED in documentation.documents()


def test_a_module_that_was_changed_after_its_import_counts_as_it_was(own, small_config):
    before = load_config(small_config, [OWN_NET]).run_id()
    (own / "own_net.py").write_text(f"{NET}\n# changed\n")
    assert load_config(small_config, [OWN_NET]).run_id() == before
    importlib.reload(sys.modules["own_net"])
    assert load_config(small_config, [OWN_NET]).run_id() != before


def test_parts_keep_what_they_depend_on(small_config, images):
    overrides = ["dataset.name=ImageFolder", f"dataset.root={images}"]
    config = load_config(small_config, overrides)
    assert pickle.loads(pickle.dumps(config)).run_id() == config.run_id()
    assert config.model_copy(deep=True).run_id() == config.run_id()
    assert config.without_dependencies().run_id() != config.run_id()
    assert "depends" not in config.model_dump_json()


# What a run says.


@pytest.fixture
def run(small_config, tmp_path, capsys):
    """A function that runs the small experiment and returns its directory and first lines."""
    results = tmp_path / "results"

    def command(*overrides, flags=()):
        known = set(results.rglob("config.yaml"))
        settings = [text for override in overrides for text in ("--set", override)]
        where = ["--results", str(results), "--device", "cpu"]
        assert main([str(small_config), *where, *settings, *flags]) == 0
        out = capsys.readouterr().out.splitlines()
        new = [path.parent for path in set(results.rglob("config.yaml")) - known]
        return new, out

    return command


def settings_of(images):
    return (
        "dataset.name=ImageFolder",
        f"dataset.root={images}",
        "dataset.validation_fraction=0.34",
        "dataset.image_size=12",
        "network.name=lenet300_100",
        "training.epochs=1",
        "pruning.methods=[WT]",
    )


def told(lines):
    """The lines that say what differs, which come before everything but where the results are."""
    found = [line for line in lines if line.endswith(": this is a new run")]
    assert lines[1 : 1 + len(found)] == found or not found
    return found


def test_a_run_says_what_has_changed_since_the_last_one(run, images, tmp_path):
    [first], lines = run(*settings_of(images))
    assert told(lines) == []
    add(images)
    [second], lines = run(*settings_of(images))
    expected = f"the images in {images} are not those of run {first.name}: this is a new run"
    assert told(lines) == [expected]
    assert len(experiment.load_results(second)) == len(experiment.load_results(first))
    nothing, lines = run(*settings_of(images))  # resumed
    assert (nothing, told(lines)) == ([], [])
    moved = shutil.move(images, tmp_path / "moved")
    nothing, lines = run(*settings_of(moved))
    assert (nothing, told(lines)) == ([], [])
    [_], lines = run(*settings_of(moved), "seed=1")  # another experiment
    assert told(lines) == []


def test_what_is_damaged_beside_a_run_is_ignored(run, images):
    [first], _ = run(*settings_of(images))
    other = first.parent / "0123456789"
    for index, content in enumerate([b"", b"{", b"[" * 100_000, b"\xff", b'{"settings": 3}']):
        folder = first.parent / f"damaged{index}"
        folder.mkdir()
        (folder / "identity.json").write_bytes(content)
    other.mkdir()
    (other / "identity.json").mkdir()
    resize(images)
    [second], lines = run(*settings_of(images))
    expected = f"the images in {images} are not those of run {first.name}: this is a new run"
    assert told(lines) == [expected]
    (second / "identity.json").write_bytes(b"{")
    nothing, lines = run(*settings_of(images))
    assert (nothing, told(lines)) == ([], [])
    assert json.loads((second / "identity.json").read_text())["dependencies"]["dataset"]


def test_a_run_says_that_contents_count_now(run, images):
    [first], _ = run(*settings_of(images))
    [second], lines = run(*settings_of(images), flags=["--verify-data"])
    assert told(lines) == [
        f"what the images in {images} hold counts now (--verify-data), unlike for run "
        f"{first.name}: this is a new run"
    ]
    path = images / "train" / "dog" / "5.bmp"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    [_], lines = run(*settings_of(images), flags=["--verify-data"])
    assert told(lines) == [
        f"the images in {images} do not hold the same as those of run {second.name}: this is a "
        f"new run"
    ]


def test_other_files_with_other_contents_are_one_difference(run, images):
    [first], _ = run(*settings_of(images), flags=["--verify-data"])
    resize(images)
    [_], lines = run(*settings_of(images), flags=["--verify-data"])
    expected = f"the images in {images} are not those of run {first.name}: this is a new run"
    assert told(lines) == [expected]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO])
def test_files_that_cannot_be_listed_for_a_moment_are_no_other_files(
    small_config, images, monkeypatch, number
):
    """The run would get another id, and train everything anew."""
    settings = settings_of(images)
    assert load_config(small_config, settings).run_id()

    def scandir(path):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=f"cannot be read: .*: {os.strerror(number)}"):
        load_config(small_config, settings)


def test_trained_nets_are_not_shared_between_other_images(run, images):
    [first], _ = run(*settings_of(images))
    nets = first.parent.parent / ".nets"
    assert len(list(nets.rglob("*.safetensors"))) == 1
    [_], _ = run(*settings_of(images), "pruning.delta=0.1")
    assert len(list(nets.rglob("*.safetensors"))) == 1
    rename(images)
    run(*settings_of(images))
    assert len(list(nets.rglob("*.safetensors"))) == 2


@pytest.mark.parametrize("name", ["ImageFolder", "ImageNet"])
def test_images_that_are_left_out_count_though_their_size_stays(small_config, images, name):
    if name == "ImageNet":
        (images / "test").rename(images / "val")
    skip = "dataset.skip_unreadable=true"
    sound = of_folder(small_config, images, name=name)
    assert of_folder(small_config, images, skip, name=name) == sound
    damage(images)
    assert of_folder(small_config, images, name=name) == sound  # such a run is refused
    damaged = of_folder(small_config, images, skip, name=name)
    assert damaged[0] != sound[0] and damaged[1] != sound[1]
    moved = shutil.copytree(images, images.parent / "moved")
    assert of_folder(small_config, moved, skip, name=name) == damaged


def test_nets_are_trained_anew_when_an_image_is_left_out(run, images):
    settings = (*settings_of(images), "dataset.skip_unreadable=true")
    [first], _ = run(*settings)
    damage(images)
    [_], lines = run(*settings)
    assert told(lines) == [
        f"the images left out of {images} are not those of run {first.name}: this is a new run"
    ]
    nets = first.parent.parent / ".nets"
    assert len(list(nets.rglob("*.safetensors"))) == 2


def damage(images):
    path = images / "train" / "dog" / "5.bmp"
    path.write_bytes(bytes(path.stat().st_size))


def test_a_run_says_that_own_code_has_changed(own, run, monkeypatch):
    monkeypatch.chdir(own)
    settings = (OWN_NET, "training.epochs=1", "pruning.methods=[WT]")
    [first], lines = run(*settings)
    assert told(lines) == []
    forget_modules(own)
    (own / "own_helper.py").write_text("import unrelated\n\nWIDTH = 16\n")
    [_], lines = run(*settings)
    assert told(lines) == [
        f"the source of own_helper.py has changed since run {first.name}: this is a new run",
        f"the source of unrelated.py counts now, unlike for run {first.name}: this is a new run",
    ]
