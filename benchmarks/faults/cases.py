"""A case: one disturbed experiment, drawn from a seed."""

import functools
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.commands import Command
from benchmarks.faults.experiments import Experiment


@dataclass(frozen=True)
class Found:
    """What has come of a case."""

    problems: list[str]
    seconds: float = 0.0  # from a signal to the end of the process


@dataclass
class Case:
    """One disturbed experiment. Everything about it is drawn from the seed."""

    group: str  # a line of the table
    fault: Callable[["Case"], Found]
    experiment: Experiment
    seed: int
    folder: Path  # its own
    told: list[str] = field(default_factory=list)  # what was done

    @functools.cached_property
    def random(self) -> random.Random:
        return random.Random(f"{self.group} {self.seed}")

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def arguments(self) -> list[str]:
        return self.experiment.arguments(self.results)

    def tell(self, what: Any) -> None:
        """Write down what is done, for those who look for the cause of a failure."""
        self.told.append(str(what))

    def resume(self) -> list[str]:
        """Run the undisturbed command, and say what is wrong with what it leaves."""
        ended = Command.forked(self.arguments, self.folder).wait()
        return ended.problems() + self.experiment.problems(self.results)

    def run(self) -> tuple["Case", Found]:
        """Do it all in a fresh folder, which is kept if there is a problem."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            found = self.fault(self)
        except Exception as error:
            found = Found([f"{type(error).__name__}: {error}"])
        if not found.problems:
            shutil.rmtree(self.folder, ignore_errors=True)
        return self, found
