"""Logger: all printing, tables, figures and files of a run."""

import datetime
import json
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas
import tqdm
import yaml

from experiment.config.schema import Config
from experiment.core.errors import UserError
from experiment.core.files import write_whole
from experiment.reporting import plots, summary

RESULT_COLUMNS = [
    "network",
    "dataset",
    "method",
    "net_seed",
    "repetition",
    "step",
    "keep_ratio_requested",
    "keep_ratio",
    "prune_ratio",
    "flop_keep_ratio",
    "retrained",
    "accuracy_before_retraining",
    "validation_accuracy",
    "test_accuracy",
    "test_top5",
    "test_loss",
    "prune_seconds",
    "retrain_seconds",
    "empty_layers",
    "constant_output",
    "note",
]
TRAINING_COLUMNS = [
    "method",
    "net_seed",
    "repetition",
    "step",
    "epoch",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "seconds",
]
RESULT_KEY = ["method", "net_seed", "repetition", "step"]
TRAINING_KEY = [*RESULT_KEY, "epoch"]


class Table:
    """A CSV file to which rows are appended as they come; a row that is there already is not added again."""

    def __init__(self, path: Path, columns: list[str], key: list[str]):
        self.path = path
        self.columns = columns
        self.key = key
        self._known = self._read() if path.exists() else None
        if self._known is None:  # a run that goes on adds the rows of its stored steps again
            write_whole(path, ",".join(columns) + "\n")
            self._known = set()

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; columns it does not give stay empty."""
        key = self._key_of(row)
        if key not in self._known:
            self._known.add(key)
            line = pandas.DataFrame([row], columns=self.columns).to_csv(header=False, index=False)
            with self.path.open("a") as file:
                file.write(line)

    def frame(self) -> pandas.DataFrame:
        return pandas.read_csv(self.path)

    def _read(self) -> set[tuple[str, ...]] | None:
        """The keys of the rows that are there; None if the file is damaged."""
        try:
            whole, newline, partial = self.path.read_text().rpartition("\n")
            if partial:  # the process died while it wrote this line
                write_whole(self.path, whole + newline)
            return {self._key_of(row) for row in self.frame()[self.key].to_dict("records")}
        except (ValueError, KeyError):
            return None

    def _key_of(self, row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in self.key)


class Progress:
    """A progress bar with loss, accuracy and remaining time."""

    def __init__(self, total: int, label: str):
        self._interval = 0.2 if sys.stderr.isatty() else 5.0
        self._bar = tqdm.tqdm(
            total=total,
            desc=label,
            leave=False,
            mininterval=self._interval,
            unit="step",
            dynamic_ncols=True,
        )
        self._drawn = time.monotonic()

    def update(self, sums: Any) -> None:
        """One step further. `sums` (of losses, correct answers, images) may lie on a GPU: read only when drawn."""
        if time.monotonic() - self._drawn >= self._interval:
            self._drawn = time.monotonic()
            loss, correct, count = sums.tolist()
            self._bar.set_postfix_str(
                f"loss {loss / count:.3f}, accuracy {correct / count:.1%}", refresh=False
            )
        self._bar.update()

    def close(self) -> None:
        self._bar.close()


class Logger:
    """The files of one run in its directory, and the lines on the console."""

    def __init__(self, directory: Path, config: Config, device: str):
        self.directory = directory
        try:
            write_whole(
                directory / "config.yaml", yaml.safe_dump(config.model_dump(), sort_keys=False)
            )
        except OSError as error:
            raise UserError(f"--results: cannot write to {directory}: {error}") from None
        self.config = config
        self.results = Table(directory / "results.csv", RESULT_COLUMNS, RESULT_KEY)
        self.training = Table(directory / "training.csv", TRAINING_COLUMNS, TRAINING_KEY)
        self._write_environment(device)

    def say(self, text: str) -> None:
        """One line on the console and, with the time, in log.txt."""
        tqdm.tqdm.write(text)
        self._log(text)

    def error(self, text: str, details: str) -> None:
        """A failure: one line on the console, all of it in log.txt."""
        tqdm.tqdm.write(text, file=sys.stderr)
        self._log(f"{text}\n{details}")

    def progress(self, total: int, label: str) -> Progress:
        return Progress(total, label)

    def result(self, row: dict[str, Any]) -> None:
        """A finished step of the experiment: its row in results.csv and its line."""
        self.results.add(
            {"network": self.config.network.name, "dataset": self.config.dataset.name, **row}
        )
        self.say(result_line(row))

    def epochs(self, records: list[dict[str, Any]], **where: Any) -> None:
        """The epochs of one training, into training.csv."""
        for record in records:
            self.training.add({**where, **record})

    def summary(self) -> None:
        """Write summary.csv, of what is in results.csv, and tell it."""
        table = summary.summarise(self.results.frame(), self.config.pruning.commensurate_margin)
        write_whole(self.directory / "summary.csv", table.to_csv(index=False))
        if len(table):
            self.say(summary.text(table))

    def figures(self) -> Path:
        """Draw the plots of what is in results.csv; the path of the main one."""
        return plots.accuracy_vs_sparsity(
            self.results.frame(), self.directory / "plots" / "accuracy_vs_sparsity"
        )

    def _log(self, text: str) -> None:
        now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        with (self.directory / "log.txt").open("a") as file:
            file.write(f"{now} {text}\n")

    def _write_environment(self, device: str) -> None:
        """Write environment.json; one that is there, of an earlier start of this run, is kept."""
        path, now = self.directory / "environment.json", environment(device)
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError):
            write_whole(path, json.dumps(now, indent=1) + "\n")
            return
        changed = [
            f"{key} was {before.get(key)}, is {value}"
            for key, value in now.items()
            if before.get(key) != value
        ]
        if changed:
            self._log(f"goes on in another environment: {'; '.join(changed)}")


def result_line(row: dict[str, Any]) -> str:
    """A row of results.csv for people."""
    note = f"  [{row['note']}]" if row["note"] else ""
    if row["method"] == "reference":
        return (
            f"net {row['net_seed']}  unpruned: test accuracy {row['test_accuracy']:.2%}, "
            f"trained in {row['retrain_seconds']:.0f} s{note}"
        )
    retraining = ""
    if row["retrained"]:
        retraining = f" ({row['accuracy_before_retraining']:.2%} before retraining, {row['retrain_seconds']:.0f} s)"
    return (
        f"net {row['net_seed']}  {row['method']}  repetition {row['repetition']}  step {row['step']}: "
        f"kept {row['keep_ratio']:.2%} (asked {row['keep_ratio_requested']:.2%}), "
        f"test accuracy {row['test_accuracy']:.2%}{retraining}{note}"
    )


def environment(device: str) -> dict[str, Any]:
    """Versions, device and commit: what one must know to reproduce a run."""
    import torch

    name = (
        torch.cuda.get_device_name()
        if device.startswith("cuda")
        else platform.processor() or platform.machine()
    )
    packages = ["torch", "torchvision", "numpy", "pandas", "scikit-learn", "safetensors"]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: version(package) for package in packages},
        "device": device,
        "device_name": name,
        "cpu_threads": torch.get_num_threads(),
        "git_commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit of this software, `+changes` added if files were changed since; None outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None
