"""How long nets take for a batch of images, measured side by side.

All nets and runtimes take turns, one batch each, in an order that is drawn anew in every round, so
that whatever else the machine does meets all of them alike.
"""

import functools
import importlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy
import torch
from torch import Tensor

from experiment.core.errors import UserError, first_line
from experiment.core.seeding import Stream
from experiment.deployment.fidelity import OTHER_RUNTIME, relative_difference
from experiment.deployment.packages import is_installed
from experiment.deployment.runtimes import onnx_runtime, openvino, pytorch, pytorch_sparse
from experiment.deployment.subject import Subject
from experiment.nets.running import wait_for

if TYPE_CHECKING:
    import pandas

LEAST_ROUNDS = 10
WARM_UPS = 2
BATCH_SIZES = (1, 64)
ON_GPU = 1e-2  # relative difference of outputs that TF32's short mantissa explains


class Runtime(Protocol):
    """What a module of `runtimes` has."""

    NAME: str
    PACKAGE: str
    EXTRA: str  # of this software, that installs it
    ON_GPU: bool  # whether it is measured on a GPU too

    def prepare(
        self, subject: Subject, threads: int, device: str
    ) -> Callable[[Tensor], Tensor] | None:
        """A function from images to outputs; None if this runtime has no use for the net."""


RUNTIMES: tuple[Runtime, ...] = (pytorch, pytorch_sparse, onnx_runtime, openvino)


@dataclass(frozen=True)
class Contestant:
    """A net in a runtime."""

    net: str
    runtime: Runtime
    run: Callable[[Tensor], Tensor]
    device: torch.device


def measure_latency(
    subjects: Sequence[Subject],
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    threads: int = 1,
    seconds: float = 10.0,
    device: str = "cpu",
    runtimes: Sequence[Runtime] | None = None,
    say: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.perf_counter,
) -> "pandas.DataFrame":
    """The latency of nets, of which the first is what the others are compared with.

    Args:
        batch_sizes: how many images are passed at a time.
        threads: that each runtime may use on a CPU.
        seconds: how long each batch size is measured; at least 10 rounds are made.
        device: for the runtimes that can use a GPU.
        runtimes: by default all that are installed.
        say: hears which of them cannot be measured, and why.

    Returns:
        One row per net, runtime and batch size: net, runtime, version, device, threads, batch_size,
        rounds, median_ms and its quartiles, and speedup, the median over rounds of how many times
        as long the first net took in the same round and runtime, with its quartiles. Sparse rows
        are compared with the first net in PyTorch if that ran on the same device.

    Raises:
        UserError: if no runtime can run the nets, or all compute something else, or a batch does
            not fit into memory.
    """
    import pandas

    chosen = installed(RUNTIMES) if runtimes is None else runtimes
    rows: list[dict[str, object]] = []
    with torch_threads(threads):
        contestants = _prepared(subjects, chosen, threads, device, say)
        for batch_size in batch_sizes:
            try:
                images = _repeated(subjects[0].images, batch_size)
                times = _times(contestants, images, seconds, clock)
            except (RuntimeError, MemoryError) as error:  # too little memory, for instance
                raise UserError(
                    f"batches of {batch_size:,} images cannot be measured: {first_line(error)}"
                ) from error
            rows += _rows(contestants, times, subjects[0].name, threads, batch_size)
    return pandas.DataFrame(rows)


def installed(runtimes: Sequence[Runtime]) -> list[Runtime]:
    """Those of the runtimes whose packages are there."""
    return [one for one in runtimes if is_installed(one.PACKAGE)]


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """A block in which torch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _prepared(
    subjects: Sequence[Subject],
    runtimes: Sequence[Runtime],
    threads: int,
    device: str,
    say: Callable[[str], None],
) -> list[Contestant]:
    """Each net in each runtime that has a use for it.

    Raises UserError if no runtime can run them; one that cannot, while others can, is only told of.
    """
    contestants: list[Contestant] = []
    mistakes: list[str] = []
    for runtime in runtimes:
        try:
            contestants += _in_runtime(subjects, runtime, threads, device)
        except UserError as error:
            mistakes += error.mistakes
    if not contestants:
        raise UserError(*mistakes)
    for mistake in mistakes:
        say(f"not measured: {mistake}")
    return contestants


def _in_runtime(
    subjects: Sequence[Subject], runtime: Runtime, threads: int, device: str
) -> list[Contestant]:
    """The nets in a runtime. Raises UserError if it cannot run one, or computes something else."""
    where = torch.device(device if runtime.ON_GPU else "cpu")
    found = []
    for subject in subjects:
        try:
            run = runtime.prepare(subject, threads, str(where))
            if run is None:
                continue
            outputs = run(subject.images.to(where))
        except UserError as error:
            raise error.within(f"{subject.name} in {runtime.NAME}") from None
        except Exception as error:  # of another library
            raise UserError(
                f"{runtime.NAME} cannot run {subject.name}: {first_line(error)}"
            ) from error
        difference = relative_difference(outputs, subject.outputs)
        if difference > (OTHER_RUNTIME if where.type == "cpu" else ON_GPU):
            raise UserError(
                f"{subject.name} in {runtime.NAME} does not compute what the net does: the outputs "
                f"differ by {difference:.2g} of the largest"
            )
        found.append(Contestant(subject.name, runtime, run, where))
    return found


def _times(
    contestants: Sequence[Contestant],
    images: Tensor,
    seconds: float,
    clock: Callable[[], float],
) -> numpy.ndarray:
    """Seconds of each contestant [rounds, contestants]."""
    of_device = {one.device: images.to(one.device) for one in contestants}

    def measure(contestant: Contestant) -> float:
        batch = of_device[contestant.device]
        wait_for(contestant.device)
        start = clock()
        contestant.run(batch)
        wait_for(contestant.device)
        return clock() - start

    for _ in range(WARM_UPS):
        for contestant in contestants:
            measure(contestant)
    measures = [functools.partial(measure, contestant) for contestant in contestants]
    return take_turns(measures, "latency", seconds, clock)


def take_turns(
    measures: Sequence[Callable[[], float]],
    label: str,
    seconds: float,
    clock: Callable[[], float],
) -> numpy.ndarray:
    """What measures return [rounds, measures], one call of each in a round, in a random order.

    `label` names the stream of the order; at least 10 rounds are made.
    """
    generator = Stream(0).child(label).numpy_generator()
    rounds: list[numpy.ndarray] = []
    end = clock() + seconds
    while len(rounds) < LEAST_ROUNDS or clock() < end:
        taken = numpy.empty(len(measures))
        for index in generator.permutation(len(measures)):
            taken[index] = measures[index]()
        rounds.append(taken)
    return numpy.array(rounds)


def _rows(
    contestants: Sequence[Contestant],
    times: numpy.ndarray,
    first: str,
    threads: int,
    batch_size: int,
) -> Iterator[dict[str, object]]:
    """What is known of each contestant from its times [rounds, contestants]."""
    baseline = {
        (one.runtime.NAME, one.device): times[:, index]
        for index, one in enumerate(contestants)
        if one.net == first
    }
    for index, one in enumerate(contestants):
        lower, median, upper = numpy.percentile(1000 * times[:, index], [25, 50, 75])
        # The unpruned net has no zeros, so that sparse rows are compared with its dense ones, but
        # never with those on another device.
        dense = baseline.get((pytorch.NAME, one.device))
        before = baseline.get((one.runtime.NAME, one.device), dense)
        row: dict[str, object] = {
            "net": one.net,
            "runtime": one.runtime.NAME,
            "version": importlib.import_module(one.runtime.PACKAGE).__version__,
            "device": device_name(one.device),
            "threads": threads if one.device.type == "cpu" else None,
            "batch_size": batch_size,
            "rounds": len(times),
            "median_ms": median,
            "quartile_1_ms": lower,
            "quartile_3_ms": upper,
        }
        if before is not None:
            quartiles = numpy.percentile(before / times[:, index], [25, 50, 75])
            names = ("speedup_quartile_1", "speedup", "speedup_quartile_3")
            row |= dict(zip(names, quartiles))
        yield row


def device_name(device: torch.device) -> str:
    """The name of a processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() if device.type == "cpu" else device.type


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _repeated(images: Tensor, count: int) -> Tensor:
    """So many images, of which some may be the same."""
    times = -(-count // len(images))
    return images.repeat(times, *[1] * (images.dim() - 1))[:count]
