"""The engine that a command's options ask for."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment.commands._arguments import positive
from experiment.core import torchrun
from experiment.core.errors import UserError
from experiment.core.text import shown

if TYPE_CHECKING:
    from experiment.runs.engines.engine import Engine
    from experiment.runs.engines.team import Link

OF_RAY = {
    "address": "--address",
    "cpus_per_worker": "--cpus-per-worker",
    "gpus_per_worker": "--gpus-per-worker",
}


def add_engine(parser: argparse.ArgumentParser) -> None:
    """`--workers`, `--threads`, and what belongs to `--engine`."""
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="compute in so many processes (default: 1; with Ray, as many as there are places for)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads of each process (default: OMP_NUM_THREADS, or its share of the cores)",
    )
    parser.add_argument(
        "--engine",
        default="local",
        choices=["local", "ray"],
        help="where the processes are: on this machine, or on a Ray cluster (default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        help="of the Ray cluster, or auto for the one that this machine belongs to "
        "(default: RAY_ADDRESS, or a cluster of this machine alone)",
    )
    parser.add_argument(
        "--cpus-per-worker",
        type=share,
        metavar="X",
        help="the CPU cores that a worker takes of its Ray node (default: 1)",
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=share,
        metavar="X",
        help="the GPUs that a worker takes of its Ray node, for instance 0.25 "
        "(default: 1 if the cluster has GPUs)",
    )


def share(text: str) -> float:
    """A part of one, or a whole number."""
    try:
        number = float(text)
    except ValueError:  # for which the parser would name this function
        number = -1.0
    if not 0 <= number < 10_000 or (number > 1 and number != int(number)):
        raise argparse.ArgumentTypeError(
            f"must be from 0 to 1, or a whole number, not {shown(text)}"
        )
    return number


@dataclass(frozen=True)
class Workers:
    """Where the tasks of a command are computed."""

    device: str
    engine: "Engine | None" = None  # if not in this process
    hardware: dict[str, Any] | None = None  # if not of this machine
    link: "Link | None" = None  # to other processes, if they train each net together


@contextlib.contextmanager
def opened_workers(options: argparse.Namespace) -> Iterator[Workers]:
    """A block with the workers that options ask for.

    This process computes with as many threads as each of them does: some numbers depend on it.

    Raises:
        UserError: if the options contradict each other, or there is no such device or cluster.
    """
    if options.engine == "ray":
        with _on_ray(options) as workers:
            yield workers
        return
    _check_local(options)
    with _on_this_machine(options) as workers:
        yield workers


@contextlib.contextmanager
def opened_team(options: argparse.Namespace, member: torchrun.Member) -> Iterator[Workers]:
    """A block in which this process is one of those that torchrun has started.

    Raises:
        UserError: if the options contradict that, or there is no such device for each process.
    """
    asked = {"--workers": (options.workers or 1) > 1, "--engine ray": options.engine == "ray"}
    for option in (option for option, is_asked in asked.items() if is_asked):
        raise UserError(
            f"{option}: torchrun has started {member.size} processes, which train one net "
            f"together; use one or the other"
        )
    _check_local(options)
    # Each process would say that it looks for unused parameters; torch reads this on import.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

    import torch

    from experiment.core.devices import choose_device_in_team, threads_of_each
    from experiment.runs.engines.team import linked

    device = choose_device_in_team(options.device, member)
    torch.set_num_threads(threads_of_each(1, options.threads))
    with linked(member, device) as link:
        yield Workers(device, link=link)


def _check_local(options: argparse.Namespace) -> None:
    """Raises UserError for an option that belongs to Ray."""
    for name, option in OF_RAY.items():
        if getattr(options, name) is not None:
            raise UserError(f"{option}: belongs to a Ray cluster; add --engine ray")


@contextlib.contextmanager
def _on_this_machine(options: argparse.Namespace) -> Iterator[Workers]:
    import torch

    from experiment.core.devices import choose_device, devices_of_each, threads_of_each

    count = options.workers or 1
    device = choose_device(options.device)
    torch.set_num_threads(threads_of_each(count, options.threads))
    if count == 1:
        yield Workers(device)
        return

    from experiment.runs.engines.processes import Processes

    engine = Processes(devices_of_each(count, device), torch.get_num_threads())
    with contextlib.closing(engine):
        yield Workers(device, engine)


@contextlib.contextmanager
def _on_ray(options: argparse.Namespace) -> Iterator[Workers]:
    import torch

    from experiment.runs.engines.ray_cluster import RayCluster, Share, connected, default_gpus

    if options.device == "mps":
        raise UserError("--device mps: Ray knows nothing of it; use cpu or cuda")
    cpus = 1.0 if options.cpus_per_worker is None else options.cpus_per_worker
    if options.threads or not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(options.threads or max(1, int(cpus)))
    address = options.address or os.environ.get("RAY_ADDRESS")
    with connected(address, Path(options.results)):
        gpus = options.gpus_per_worker
        if gpus is None:
            gpus = default_gpus(options.device)
        if options.device == "cuda" and not gpus:
            raise UserError("--device cuda: workers with no GPU cannot use it")
        if options.device == "cpu" and gpus:
            raise UserError(f"--gpus-per-worker {gpus:g}: contradicts --device cpu")
        engine = RayCluster(Share(cpus, gpus), options.workers, torch.get_num_threads())
        with contextlib.closing(engine):
            yield Workers(engine.share.device, engine, engine.hardware)
