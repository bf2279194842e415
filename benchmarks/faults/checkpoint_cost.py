"""What a checkpoint costs: how long it keeps a training waiting, and which share of time that is.

Whole trainings with and without checkpoints differ by less than they differ from each other.
"""

import json
import statistics
import time
from pathlib import Path

from benchmarks.faults.commands import Command
from experiment.training.checkpoints import Checkpoints

CONFIG = """
network: {name: NETWORK}
dataset: {name: digits}
training: {epochs: EPOCHS, batch_size: 128, optimizer: {name: SGD, lr: 0.05, momentum: 0.9}}
pruning: {methods: [WT], keep_ratios: [0.5], schedule: train}
checkpoint_minutes: 0
"""
NETWORKS = ["resnet20", "wrn16_8"]  # 0.3 and 11 million parameters
DEFAULT_SECONDS = 300.0  # between two checkpoints


def table(folder: Path, epochs: int) -> str:
    """For each network, what a checkpoint takes, and which share of five minutes that is."""
    lines = ["| network | milliseconds of a checkpoint | of five minutes |", "|---|---|---|"]
    for network in NETWORKS:
        seconds = statistics.median(_durations(folder, network, epochs))
        share = seconds / DEFAULT_SECONDS
        lines.append(f"| {network} | {1000 * seconds:.0f} | {share:.3%} |")
    return "\n".join(lines)


def _durations(folder: Path, network: str, epochs: int) -> list[float]:
    """The seconds of each checkpoint of a training that keeps one after every epoch."""
    config, told = folder / f"cost-{network}.yaml", folder / f"cost-{network}.json"
    config.write_text(CONFIG.replace("NETWORK", network).replace("EPOCHS", str(epochs)))
    take = Checkpoints.take
    durations: list[float] = []

    def timed(checkpoints: Checkpoints, *arguments: object) -> None:
        start = time.perf_counter()
        take(checkpoints, *arguments)  # type: ignore[arg-type]
        durations.append(time.perf_counter() - start)
        told.write_text(json.dumps(durations))

    def prepare() -> None:
        Checkpoints.take = timed  # type: ignore[method-assign]

    results = folder / f"cost-{network}"
    arguments = [str(config), "--results", str(results), "--device", "cpu", "--threads", "1"]
    assert not Command.forked(arguments, folder / "cost", prepare).wait(3600).problems()
    return json.loads(told.read_text())
