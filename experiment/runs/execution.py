"""The story of one run: train -> (prune -> retrain)* -> evaluate, for every net, repetition and method.

A run is a chain of small named steps. Each is a function of its inputs, draws from random streams of its own,
and stores its result, so that a run that was stopped goes on where it stopped, with the same numbers.
"""

import re
import time
import traceback
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from experiment.config.schedules import Step, steps
from experiment.config.schema import Config, Part
from experiment.core.errors import UserError, one_line
from experiment.core.registry import METHODS
from experiment.core.seeding import Stream
from experiment.data.splits import SAMPLE_BATCH, Data, largest_sample, load_data
from experiment.nets.building import build_network
from experiment.nets.collapse import collapse_notes, has_constant_output
from experiment.nets.layers import find_layers
from experiment.nets.masks import enforcer, keep_all
from experiment.nets.metrics import flop_keep_ratio
from experiment.pruning.pruner import Pruner
from experiment.reporting.logger import Logger
from experiment.runs.store import State, StepResult, Store
from experiment.sensitivity.sample_size import sample_size
from experiment.training.trainer import Trainer


@dataclass(frozen=True)
class Cell:
    """One line of an experiment: a method on one net, one repetition."""

    net_seed: int
    repetition: int
    index: int  # of the method in the configuration
    method: Part

    @property
    def label(self) -> str:
        return METHODS.label(self.method.name, self.method.options)

    @property
    def key(self) -> str:
        """Where its steps are stored."""
        file_name = re.sub(r"[^\w.=-]+", "_", self.label)
        return f"net{self.net_seed}/repetition{self.repetition}/{self.index}-{file_name}"


@dataclass
class Outcome:
    """Where a run's main plot is, and what failed in it."""

    plot: Path | None  # None if no net could be trained
    failures: list[str] = field(default_factory=list)


def run(config: Config, directory: Path, device: str = "cpu", nets: Path | None = None) -> Outcome:
    """Run an experiment, or what of it is not yet in `directory`. A cell that fails does not stop the others.

    Runs that are given the same directory `nets` train the nets that they have in common once.
    """
    data = load_data(config.dataset, Stream(config.seed), torch.device(device))
    logger = Logger(directory, config, device)
    logger.say(f"results in {directory}, on {device}")
    if data.note:
        logger.say(data.note)
    experiment = Experiment(config, data, logger, torch.device(device), nets)
    if config.pruning.schedule != "train":
        logger.say(f"S: {experiment.sample_size} validation images")
        left_out = [f"{name} ({why})" for name, why in experiment.layers.left_out.items()]
        if left_out:
            logger.say(f"not pruned: {', '.join(left_out)}")
    failures = []
    for net_seed in range(config.num_nets):
        try:
            start = experiment.start(net_seed, experiment.train(net_seed))
        except UserError:
            raise
        except Exception as error:
            failures.append(_failure(logger, f"net {net_seed}", error))
            continue
        for cell in cells(config, net_seed):
            try:
                experiment.run_cell(cell, start)
            except Exception as error:
                failures.append(
                    _failure(
                        logger, f"net {net_seed}  {cell.label}  repetition {cell.repetition}", error
                    )
                )
    if not len(logger.results.frame()):
        return Outcome(None, failures)
    logger.summary()
    return Outcome(logger.figures(), failures)


def cells(config: Config, net_seed: int) -> list[Cell]:
    """All cells of one net."""
    if config.pruning.schedule == "train":
        return []
    return [
        Cell(net_seed, repetition, index, method)
        for repetition in range(config.num_repetitions)
        for index, method in enumerate(config.pruning.methods)
    ]


def _failure(logger: Logger, where: str, error: Exception) -> str:
    text = f"{where}: failed: {error if isinstance(error, UserError) else one_line(error)}"
    logger.error(text, traceback.format_exc())
    return text


class Experiment:
    """The steps of one run, with what they share: data, trainer, store and logger."""

    def __init__(
        self,
        config: Config,
        data: Data,
        logger: Logger,
        device: torch.device,
        nets: Path | None = None,
    ):
        self.config = config
        self.logger = logger
        self.device = device
        self.stream = Stream(config.seed)
        self.store = Store(logger.directory / "steps")
        self.nets = Store(nets / f"{config.training_id()}-{device.type}") if nets else None
        self.data = data
        self.trainer = Trainer(self.data, logger.progress)
        self.layers = find_layers(self.new_net(0), [self._example()])
        self._unpruned: tuple[tuple[int, int], Pruner] | None = None

    def train(self, net_seed: int) -> StepResult:
        """The trained, unpruned net of a seed."""
        trained = self.store.step(f"net{net_seed}/train", self._shared, net_seed)
        evaluation = self.store.step(f"net{net_seed}/evaluate", self._evaluate, trained)
        where = {"method": "reference", "net_seed": net_seed, "repetition": 0, "step": 0}
        self.logger.epochs(trained.record["epochs"], **where)
        self.logger.result(
            {
                **where,
                "keep_ratio_requested": 1.0,
                "keep_ratio": 1.0,
                "prune_ratio": 0.0,
                "flop_keep_ratio": 1.0,
                "retrained": False,
                "accuracy_before_retraining": evaluation.record["test_accuracy"],
                "prune_seconds": 0.0,
                "retrain_seconds": trained.record["seconds"],
                "empty_layers": 0,
                "note": "; ".join(collapse_notes([], evaluation.record["constant_output"], False))
                or None,
                **evaluation.record,
            }
        )
        return trained

    def start(self, net_seed: int, trained: StepResult) -> StepResult:
        """The net that pruning starts from: the trained one, or its initialisation for schedule `random`."""
        if self.config.pruning.schedule != "random":
            return trained
        return self.store.step(f"net{net_seed}/initialise", self._initialise, net_seed)

    def run_cell(self, cell: Cell, start: StepResult) -> None:
        """Prune, retrain where the schedule says so, and evaluate, step by step."""
        current, current_key = start, None
        for step in steps(self.config):
            key = f"{cell.key}/{step.index:03d}"
            source = current if step.from_previous else start
            pruned = self.store.step(
                f"{key}-prune", self._prune, cell, step, source, source is start
            )
            before = evaluation = self.store.step(f"{key}-evaluate-pruned", self._evaluate, pruned)
            result, result_key, superseded = pruned, f"{key}-prune", [current_key]
            if step.retrained:
                result = self.store.step(f"{key}-retrain", self._retrain, cell, step, pruned)
                evaluation = self.store.step(f"{key}-evaluate", self._evaluate, result)
                self.logger.epochs(
                    result.record["epochs"],
                    method=cell.label,
                    net_seed=cell.net_seed,
                    repetition=cell.repetition,
                    step=step.index,
                )
                superseded.append(result_key)
                result_key = f"{key}-retrain"
            self.logger.result(
                _row(cell, step, pruned.record, before.record, evaluation.record, result.record)
            )
            if self.config.checkpoints == "last":
                for old in filter(None, superseded):
                    self.store.discard_state(old)
            current, current_key = result, result_key

    def new_net(self, net_seed: int) -> nn.Module:
        """The initialised net of a seed."""
        with self.stream.child("net", net_seed, "initialise").as_global():
            net = build_network(
                self.config.network.name,
                input_shape=self.data.input_shape,
                num_classes=self.data.num_classes,
                **self.config.network.options,
            )
        return net.to(self.device)

    @cached_property
    def sample_size(self) -> int:
        """|S|: as configured, or else as the theory asks; at most half of the validation split."""
        pruning = self.config.pruning
        asked = pruning.sample_size or sample_size(self.new_net(0), self._example(), pruning.delta)
        return min(asked, largest_sample(len(self.data.validation)))

    def pruner(
        self, net_seed: int, repetition: int, source: StepResult, size: int | None = None
    ) -> Pruner:
        """A pruner of a net, with the sample S of its repetition, or the first `size` images of it."""
        net = self.new_net(net_seed)
        masks = source.state.restore(net, self.device)
        sample = self.data.sample(
            size or self.sample_size, self.stream.child("net", net_seed, "sample", repetition)
        )
        return Pruner(
            net,
            sample,
            masks=masks,
            loss=cross_entropy,
            delta=self.config.pruning.delta,
            min_kept_per_layer=self.config.pruning.min_kept_per_layer,
        )

    def _shared(self, net_seed: int) -> StepResult:
        """A trained net from where runs share them, or trained and put there; each run keeps a copy of its own.

        Not for `rewind`, whose training also leaves an early checkpoint in the run.
        """
        if self.nets is None or self.config.pruning.schedule == "rewind":
            return self._train(net_seed)
        return self.nets.step(f"net{net_seed}", self._train, net_seed)

    def _initialise(self, net_seed: int) -> StepResult:
        net = self.new_net(net_seed)
        return StepResult(state=State.of(net, keep_all(net)))

    def _train(self, net_seed: int) -> StepResult:
        net, start = self.new_net(net_seed), time.perf_counter()

        def keep_early(epoch: int) -> None:
            if (
                self.config.pruning.schedule == "rewind"
                and epoch == self.config.pruning.rewind_epoch
            ):
                self.store.step(
                    _early_key(net_seed), lambda: StepResult(state=State.of(net, keep_all(net)))
                )

        records = self.trainer.fit(
            net,
            self.config.training,
            self.stream.child("net", net_seed, "train"),
            label=f"net {net_seed}: training",
            before_epoch=keep_early,
        )
        return StepResult(
            {"epochs": records, "seconds": time.perf_counter() - start},
            State.of(net, keep_all(net)),
        )

    def _prune(self, cell: Cell, step: Step, source: StepResult, unpruned: bool) -> StepResult:
        of_cell = self._unpruned_pruner if unpruned else self.pruner
        pruner = of_cell(cell.net_seed, cell.repetition, source)
        method = METHODS.build(cell.method.name, cell.method.options)
        pruned = pruner.prune(method, step.keep_ratio, self._stream(cell, "prune", step.index))
        record = {
            "keep_ratio": pruned.keep_ratio,
            "flop_keep_ratio": flop_keep_ratio(self.layers.prunable, pruned.masks),
            "seconds": pruned.seconds,
            "evaluations": pruned.evaluations,
            "size_note": pruned.size_note,
            "empty_layers": pruned.empty_layers,
            "constant_before": pruned.constant_before,
        }
        return StepResult(record, State.of(pruned.net, pruned.masks))

    def _retrain(self, cell: Cell, step: Step, pruned: StepResult) -> StepResult:
        net = self.new_net(cell.net_seed)
        masks, start, start_epoch = pruned.state.restore(net, self.device), time.perf_counter(), 0
        enforce = enforcer(net, masks)
        if (
            self.config.pruning.schedule == "rewind"
        ):  # the weights and the learning rate of the early checkpoint
            self.store.load(_early_key(cell.net_seed)).state.restore(net, self.device)
            start_epoch = self.config.pruning.rewind_epoch
            enforce()
        label = f"net {cell.net_seed}, {cell.label}, step {step.index}: retraining at {step.keep_ratio:.1%}"
        records = self.trainer.fit(
            net,
            self.config.retraining,
            self._stream(cell, "retrain", step.index),
            label=label,
            after_step=enforce,
            start_epoch=start_epoch,
        )
        return StepResult(
            {"epochs": records, "seconds": time.perf_counter() - start}, State.of(net, masks)
        )

    def _evaluate(self, result: StepResult) -> StepResult:
        net = self.new_net(0)
        result.state.restore(net, self.device)
        validation = self.trainer.evaluate(net, self.data.validation)
        test = self.trainer.evaluate(net, self.data.test)
        constant = has_constant_output(net, self.data.validation.batches(SAMPLE_BATCH))
        return StepResult(
            {
                "validation_accuracy": validation.accuracy,
                "test_accuracy": test.accuracy,
                "test_top5": test.top5,
                "test_loss": test.loss,
                "constant_output": constant,
            }
        )

    def _unpruned_pruner(self, net_seed: int, repetition: int, trained: StepResult) -> Pruner:
        """The pruner of the unpruned net, kept while cells need it, so that methods share its analysis."""
        key = (net_seed, repetition)
        if self._unpruned is None or self._unpruned[0] != key:
            self._unpruned = (key, self.pruner(*key, trained))
        return self._unpruned[1]

    def _example(self) -> Any:
        """One batch of one image, for what depends on shapes alone."""
        return next(self.data.test.batches(1))

    def _stream(self, cell: Cell, *names: object) -> Stream:
        """A cell's stream; retraining draws the same for every method, so that methods alone differ."""
        return self.stream.child("net", cell.net_seed, "repetition", cell.repetition, *names)


def _early_key(net_seed: int) -> str:
    """Where the checkpoint that `rewind` goes back to is stored."""
    return f"net{net_seed}/early"


def _row(
    cell: Cell, step: Step, pruned: dict, before: dict, evaluation: dict, result: dict
) -> dict[str, Any]:
    """A row of results.csv."""
    collapsed = collapse_notes(
        pruned["empty_layers"], evaluation["constant_output"], pruned["constant_before"]
    )
    notes = filter(None, [pruned["size_note"], *collapsed])
    return {
        "method": cell.label,
        "net_seed": cell.net_seed,
        "repetition": cell.repetition,
        "step": step.index,
        "keep_ratio_requested": step.keep_ratio,
        "keep_ratio": pruned["keep_ratio"],
        "prune_ratio": 1 - pruned["keep_ratio"],
        "flop_keep_ratio": pruned["flop_keep_ratio"],
        "retrained": step.retrained,
        "accuracy_before_retraining": before["test_accuracy"],
        "prune_seconds": pruned["seconds"],
        "retrain_seconds": result["seconds"] if step.retrained else 0.0,
        "empty_layers": len(pruned["empty_layers"]),
        "note": "; ".join(notes) or None,
        **evaluation,
    }
