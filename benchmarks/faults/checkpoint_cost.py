"""What checkpoints cost: a training without any, with the default, and with one every epoch."""

import statistics
import time
from pathlib import Path

from benchmarks.faults.commands import Command

CONFIG = """
network: {name: resnet20}
dataset: {name: digits}
training: {epochs: EPOCHS, batch_size: 128, optimizer: {name: SGD, lr: 0.05, momentum: 0.9}}
pruning: {methods: [WT], keep_ratios: [0.5], schedule: train}
"""
SETTINGS = ["null", "5", "0"]
ROUNDS = 5


def table(folder: Path, epochs: int) -> str:
    """Seconds of a training with each setting, in turn, and their ratios to that without any."""
    config = folder / "cost.yaml"
    config.write_text(CONFIG.replace("EPOCHS", str(epochs)))
    seconds: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    for number in range(ROUNDS):
        for setting in SETTINGS[number % 3 :] + SETTINGS[: number % 3]:
            results = folder / f"cost-{number}-{setting}"
            arguments = [str(config), "--results", str(results), "--device", "cpu"]
            arguments += ["--threads", "1", "--set", f"checkpoint_minutes={setting}"]
            start = time.perf_counter()
            assert not Command.forked(arguments, folder / "cost").wait(3600).problems()
            seconds[setting].append(time.perf_counter() - start)
    lines = ["| checkpoint_minutes | seconds | to none, median of rounds |", "|---|---|---|"]
    for setting in SETTINGS:
        ratios = [one / none for one, none in zip(seconds[setting], seconds["null"])]
        median = statistics.median(seconds[setting])
        lines.append(f"| {setting} | {median:.1f} | {statistics.median(ratios):.3f} |")
    return "\n".join(lines)
