"""Speed of training and evaluation: `python -m benchmarks.training`.

Our Trainer against the usual recipe, which is written here plainly: torchvision's transforms of PIL
images, a DataLoader with workers, float32, torch's default layout, and masks that are multiplied
parameter by parameter. The images are random, of CIFAR's size; 80% of the weights are masked away
in both. All versions take turns, in several rounds, and the fastest round of each counts.

A round of our Trainer is a whole `fit_together` with an epoch of all images: data, masks, learning
rates and sums included, and setting up the training too, which others do once for many epochs. Its
validation split is a single image. On a GPU an epoch to warm up comes first, in which steps are
recorded, and is not timed.
"""

import argparse
import contextlib
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pandas
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

import experiment
from experiment.config.schema import SGD, Part, Training
from experiment.core.devices import choose_device, num_cores
from experiment.core.files import write_whole
from experiment.core.seeding import Stream
from experiment.data.loading import Data
from experiment.data.tensor_split import TensorSplit
from experiment.nets.masks import enforcer
from experiment.nets.state import NetState
from experiment.runs.timing import VARIATIONS, random_split, timed
from experiment.runs.workplace import Workplace
from experiment.training.trainer import Fit, Trainer

SHAPE = (3, 32, 32)
NUM_CLASSES = 10
KEEP_RATIO = 0.2
LEARNING_RATE = 0.01
# More epochs than are ever trained here.
SETTINGS = Training(epochs=1000, batch_size=128, optimizer=SGD(lr=LEARNING_RATE))
EVALUATION_BATCH = 512
MASKS = "train, our masks alone"
MASKED = 100  # times, in a round
PEAK_SIZE = {"cpu": 2048, "cuda": 8192, "mps": 4096}  # of the matrices whose product is the peak
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Version:
    """One way of training or evaluating; `seconds()` does it once with `num_images` images."""

    what: str
    seconds: Callable[[], float]
    num_images: int
    flops_per_image: float
    precision: str = "float32"
    compile: str = "off"
    nets: int = 1
    with_loading: str  # the versions that this one is compared with
    without_loading: str


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    device = torch.device(choose_device(options.device))
    with without_compiled_code():
        versions = all_versions(options, device)
        first, best, peak = fastest(versions, options.rounds, device)
    table = as_table(versions, first, best, peak)
    write_whole(options.csv, table.to_csv(index=False))
    print(table.to_string(index=False, na_rep="", float_format="{:.3g}".format))
    print(f"table: {options.csv}")
    return 0


@contextlib.contextmanager
def without_compiled_code() -> Iterator[None]:
    """A block in which what earlier runs have compiled is not found, so that all of it is timed."""
    with (
        tempfile.TemporaryDirectory() as empty,
        mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=empty),
    ):
        yield


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--images", type=int, help="default: 2048 on a CPU, 12800 on a GPU")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--nets", type=int, help="at once; default: 2 on a CPU, 4 on a GPU")
    parser.add_argument(
        "--workers", type=int, default=num_cores(), help="of the usual recipe's DataLoader"
    )
    parser.add_argument("--without-compile", action="store_true")
    parser.add_argument("--csv", type=Path, default=Path("results/benchmarks/training.csv"))
    options = parser.parse_args(arguments)
    is_gpu = options.device == "cuda"
    options.images = options.images or (12_800 if is_gpu else 2048)
    options.nets = options.nets or (4 if is_gpu else 2)
    return options


# The usual recipe


class PilImages(torch.utils.data.Dataset):
    """Images as torchvision's CIFAR10 keeps and returns them."""

    def __init__(self, split: TensorSplit, transforms: Sequence[Callable]):
        self.images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = split.labels.tolist()
        self.transform = torchvision.transforms.Compose(transforms)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def usual_loader(
    split: TensorSplit, varied: bool, workers: int, device: torch.device
) -> DataLoader:
    transforms = torchvision.transforms
    variations = [
        transforms.RandomCrop(SHAPE[1], VARIATIONS.crop_padding),
        transforms.RandomHorizontalFlip(),
    ]
    normalised = transforms.Normalize(split.mean.tolist(), split.std.tolist())
    converted = [transforms.ToTensor(), normalised]
    return DataLoader(
        PilImages(split, [*(variations if varied else []), *converted]),
        batch_size=SETTINGS.batch_size,
        shuffle=varied,
        num_workers=workers,
        persistent_workers=workers > 0,  # starting them is not what is compared
        pin_memory=device.type == "cuda",
    )


class UsualTraining:
    """A net in training as most examples write it."""

    def __init__(self, net: nn.Module, masks: dict[str, Tensor]):
        self.net = net
        self.device = next(net.parameters()).device
        self.masks = {name: mask.to(self.device).float() for name, mask in masks.items()}
        self.optimizer = torch.optim.SGD(
            net.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4
        )
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [1000])

    def epoch(self, batches: Batches) -> float:
        """One pass over the batches; returns the sum of their losses."""
        self.net.train()
        total = 0.0
        for images, labels in batches:
            images = images.to(self.device, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            total += self.step(images, labels).item()
        self.scheduler.step()
        return total

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = cross_entropy(self.net(images), labels)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for name, parameter in self.net.named_parameters():
                parameter.mul_(self.masks[name])
        return loss


@torch.no_grad()
def usual_evaluation(net: nn.Module, batches: Batches) -> float:
    """The accuracy of a net."""
    device = next(net.parameters()).device
    net.eval()
    correct = 0
    total = 0
    for images, labels in batches:
        predicted = net(images.to(device)).argmax(1)
        correct += (predicted == labels.to(device)).sum().item()
        total += len(labels)
    return correct / total


# What is compared


@dataclass(frozen=True)
class Subject:
    """What all versions train and evaluate: the same pruned net, on the same data."""

    options: argparse.Namespace
    data: Data
    state: NetState
    device: torch.device
    flops: dict[str, float]  # of each task, per image


def all_versions(options: argparse.Namespace, device: torch.device) -> list[Version]:
    """Training and evaluation, the usual way and ours, all from the same pruned net."""
    data = random_data(options.images, device)
    state = pruned_state(options.network, data)
    flops = flops_per_image(UsualTraining(build(options.network), state.masks))
    subject = Subject(options, data, state, device, flops)
    return [*usual_versions(subject), *our_versions(subject)]


def random_data(num_images: int, device: torch.device) -> Data:
    """Random images of CIFAR's size, the same for training and testing; one for validation."""
    split = random_split(SHAPE, NUM_CLASSES, num_images, device)
    return Data(split, split.subset(torch.arange(1)), split, SHAPE, NUM_CLASSES)


def pruned_state(network: str, data: Data) -> NetState:
    """A net that magnitude pruning has left a fifth of."""
    net = build(network)
    [batch] = data.test.subset(torch.arange(1)).to("cpu").batches(1)
    pruned = experiment.prune(net, [batch], method="WT", keep_ratio=KEEP_RATIO)
    return NetState.of(pruned.net, pruned.masks)


def build(network: str) -> nn.Module:
    torch.manual_seed(0)
    return experiment.build_network(network, input_shape=SHAPE, num_classes=NUM_CLASSES)


def usual_versions(subject: Subject) -> list[Version]:
    """The usual recipe with its data loading, and with batches that lie ready on the device."""
    options, data, state, device = subject.options, subject.data, subject.state, subject.device
    net = build(options.network).to(device)
    masks = state.load_into(net)
    training = UsualTraining(net, masks)
    evaluated = build(options.network).to(device)
    state.load_into(evaluated)
    on_cpu = data.test.to("cpu")
    loader = usual_loader(on_cpu, True, options.workers, device)
    test_loader = usual_loader(on_cpu, False, options.workers, device)
    ready = list(data.test.batches(SETTINGS.batch_size))
    large = list(data.test.batches(EVALUATION_BATCH))
    runs = {
        "train, usual recipe": lambda: training.epoch(loader),
        "train, usual recipe without loading": lambda: training.epoch(ready),
        "evaluate, usual recipe": lambda: usual_evaluation(evaluated, test_loader),
        "evaluate, usual recipe without loading": lambda: usual_evaluation(evaluated, ready),
        f"evaluate, batches of {EVALUATION_BATCH}": lambda: usual_evaluation(evaluated, large),
    }
    return [
        version(what, functools.partial(timed, run, device), options.images, subject.flops)
        for what, run in runs.items()
    ]


def our_versions(subject: Subject) -> list[Version]:
    """Our Trainer in every precision, compiled and not, with one net and with several."""
    options, data, state, device = subject.options, subject.data, subject.state, subject.device
    workplace = Workplace(data, device)
    versions = [
        version(
            "train, our Trainer",
            OurTraining(workplace, options.network, state, settings, nets).seconds,
            options.images * nets,
            subject.flops,
            precision=settings.precision,
            compile=settings.compile,
            nets=nets,
        )
        for settings in our_settings(options.without_compile)
        for nets in dict.fromkeys([1, options.nets])
    ]
    net = Workplace(data, device).net(Part(name=options.network))
    masks = version(
        MASKS,
        functools.partial(timed, repeated(enforcer(net, state.load_into(net)), MASKED), device),
        MASKED * SETTINGS.batch_size,
        subject.flops,
    )
    evaluate = functools.partial(Trainer(data).evaluate, net, data.test)
    evaluation = version(
        "evaluate, our Trainer",
        functools.partial(timed, evaluate, device),
        options.images,
        subject.flops,
    )
    return [*versions, masks, evaluation]


def repeated(function: Callable, count: int) -> Callable:
    def repeat() -> None:
        for _ in range(count):
            function()

    return repeat


def our_settings(without_compile: bool) -> list[Training]:
    return [
        SETTINGS.model_copy(update={"precision": precision, "compile": compiled})
        for compiled in (["off"] if without_compile else ["off", "on"])
        for precision in PRECISIONS
    ]


def version(
    what: str,
    seconds: Callable[[], float],
    num_images: int,
    flops: dict[str, float],
    **details: object,
) -> Version:
    """A version that is compared with the usual recipe for the same task, the word before ','."""
    task = what.partition(",")[0]
    return Version(
        what=what,
        seconds=seconds,
        num_images=num_images,
        flops_per_image=flops[task],
        with_loading=f"{task}, usual recipe",
        without_loading=f"{task}, usual recipe without loading",
        **details,
    )


class OurTraining:
    """Trainings of one or several nets by our Trainer."""

    def __init__(
        self,
        workplace: Workplace,
        network: str,
        state: NetState,
        settings: Training,
        num_nets: int,
    ):
        self.state = state
        self.settings = settings
        self.trainer = workplace.trainer
        self.nets = [workplace.net(Part(name=network), seat) for seat in range(num_nets)]
        # Recording starts anew with every training; on a CPU nothing does.
        self.warm_up_epochs = 1 if workplace.device.type == "cuda" else 0

    def seconds(self) -> float:
        """The time of one epoch of all nets."""
        ends: dict[int, float] = {}

        def note_end(record: object) -> None:
            ends[record.epoch] = time.perf_counter()  # of the last net

        start = time.perf_counter()
        fits = [
            Fit(
                net=net,
                state=self.state,
                settings=self.settings,
                stream=Stream(number),
                until=self.warm_up_epochs + 1,
                on_epoch=note_end,
            )
            for number, net in enumerate(self.nets)
        ]
        for outcome in self.trainer.fit_together(fits):
            if isinstance(outcome, Exception):
                raise outcome
        if self.warm_up_epochs:
            return ends[self.warm_up_epochs + 1] - ends[self.warm_up_epochs]
        return time.perf_counter() - start


# Measuring


def flops_per_image(training: UsualTraining) -> dict[str, float]:
    """Floating-point operations of a training step and of an evaluation, as torch counts them."""
    images = torch.zeros(2, *SHAPE)
    labels = torch.zeros(2, dtype=torch.long)
    with FlopCounterMode(display=False) as of_step:
        training.step(images, labels)
    with FlopCounterMode(display=False) as of_evaluation, torch.no_grad():
        training.net(images)
    return {
        "train": of_step.get_total_flops() / len(images),
        "evaluate": of_evaluation.get_total_flops() / len(images),
    }


def fastest(
    versions: list[Version], rounds: int, device: torch.device
) -> tuple[list[float], list[float], dict[str, float]]:
    """Seconds of each version in its first call and in its fastest round, and the highest peaks.

    The first call includes the warm-up. Peaks are measured in each round too, since a share of them
    means nothing if something else was computing meanwhile.
    """
    first = []
    for one in versions:
        start = time.perf_counter()
        one.seconds()
        first.append(time.perf_counter() - start)
    best = [float("inf")] * len(versions)
    highest = dict.fromkeys(PRECISIONS, 0.0)
    for _ in range(rounds):
        best = [min(before, one.seconds()) for before, one in zip(best, versions)]
        found = peaks(device)
        highest = {precision: max(highest[precision], found[precision]) for precision in found}
    return first, best, highest


def peaks(device: torch.device) -> dict[str, float]:
    """Floating-point operations per second in each precision.

    Those of a large matrix product or of a large convolution, whichever is faster: on some
    processors a library's matrix products are far from the best. On a GPU, float32 as convolutions
    compute it: by default in TensorFloat-32.
    """
    size = PEAK_SIZE[device.type]
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = torch.backends.cudnn.conv.fp32_precision
    found = {}
    for precision, dtype in PRECISIONS.items():
        matrix = torch.randn(size, size, device=device, dtype=dtype)
        filters, images = (
            torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)
            for shape in ((256, 256, 3, 3), (8, 256, 56, 56))
        )
        num_positions = images[:, 0, 2:, 2:].numel()  # of the filters, in all images
        computations = {  # with the operations that each takes
            functools.partial(torch.mm, matrix, matrix): 2 * size**3,
            functools.partial(torch.conv2d, images, filters): 2 * filters.numel() * num_positions,
        }
        found[precision] = max(
            operations / min(timed(computation, device) for _ in range(5))
            for computation, operations in computations.items()
        )
    products.fp32_precision = before
    return found


def as_table(
    versions: list[Version], first: list[float], best: list[float], peak: dict[str, float]
) -> pandas.DataFrame:
    rates = {
        one.what: one.num_images / seconds
        for one, seconds in zip(versions, best)
        if "usual recipe" in one.what
    }
    rows = []
    for one, first_seconds, seconds in zip(versions, first, best):
        rate = one.num_images / seconds
        computes = one.what != MASKS
        rows.append(
            {
                "what": one.what,
                "precision": one.precision,
                "compile": one.compile,
                "nets": one.nets,
                "images_per_second": rate,
                "to_recipe": rate / rates[one.with_loading],
                "to_recipe_without_loading": rate / rates[one.without_loading],
                "share_of_peak": rate * one.flops_per_image / peak[one.precision]
                if computes
                else None,
                "warm_up_seconds": max(0.0, first_seconds - seconds),
            }
        )
    return pandas.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(main())
