"""A net that somebody has trained: pruned, retrained and written to a file in one go."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.core.errors import UserError
from experiment.core.registry import DATASETS, METHODS
from experiment.core.spelling import nearest
from experiment.core.text import shown
from experiment.deployment.writing import format_for
from experiment.nets.checks import valid_keep_ratio
from experiment.reporting.records import REFERENCE
from experiment.runs.exporting import SECONDS, Exported, export
from experiment.runs.run_experiment import run_named
from experiment.runs.run_results import RunResults

BETTER_THAN_GUESSING = 1.5  # times the accuracy of guessing, which any trained net reaches


@dataclass(frozen=True)
class PrunedTrained:
    """What has become of a net."""

    found: RunResults
    exported: Exported

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """What to tell people."""
        before, after = self._rows()
        accuracies = [
            f"before pruning {before['test_accuracy']:.2%}",
            f"right after {after['accuracy_before_retraining']:.2%}",
        ]
        if after["retrained"]:
            accuracies.append(f"retrained {after['test_accuracy']:.2%}")
        lines = [f"test accuracy: {', '.join(accuracies)}"]
        guessing = 1 / self.exported.metadata.num_classes
        if before["test_accuracy"] < min(BETTER_THAN_GUESSING * guessing, 0.99):
            lines.append(
                f"warning: the net was hardly better than guessing ({guessing:.1%}) before it was "
                f"pruned: are mean and std those with which it was trained, and are its classes in "
                f"the alphabetical order of the folders?"
            )
        return [*lines, *self.exported.lines(), f"report: {self.found.report}"]

    def _rows(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of the tables: the unpruned net, and the exported one, which may be one of several."""
        about = self.exported.metadata
        rows = self.found.results
        of_net = rows[rows["net_seed"] == about.net_seed]
        pruned = of_net[
            (of_net["method"] == about.method)
            & (of_net["repetition"] == about.repetition)
            & (of_net["keep_ratio_requested"] == about.keep_ratio_requested)
        ]
        [before] = of_net[of_net["method"] == REFERENCE].to_dict("records")
        [after] = pruned.to_dict("records")
        return before, after


def prune_trained(
    network: str,
    weights: str | Path,
    data: str | Path,
    *,
    method: str = "SiPP",
    keep_ratio: float,
    epochs: int = 0,
    lr: float = 0.01,
    batch_size: int = 64,
    images: dict[str, Any] | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
    format: str | None = None,
    output: str | Path | None = None,
    seconds: float = SECONDS,
    results: str | Path = "results",
    device: str = "auto",
    say: Callable[[str], None] = lambda line: None,
) -> PrunedTrained:
    """Prune a trained net as an experiment with one method and one keep ratio, and export it.

    Args:
        network: a registered network, a model of torchvision, or `package.module:Class`.
        weights: a `.safetensors` file, or a `state_dict` that torch.save has written.
        data: a folder with `train/<class>/` and `test/<class>/`, or the name of a data set.
        method: the name of a method.
        keep_ratio: share of the parameters to keep.
        epochs: of retraining, by SGD with momentum 0.9 and weight decay 1e-4.
        lr: of retraining.
        batch_size: of retraining.
        images: options of the data set, such as image_size.
        seed: of all random draws.
        overrides: `key.path=value` texts, as for any experiment.
        format: of the file; by default what its suffix says, or safetensors.
        output: the file; by default one in the directory of the run.
        seconds: for which its latency is measured; 0 for not at all.
        results: where that directory is put.
        device: where to compute.
        say: hears what takes long, line by line.

    Raises:
        UserError: for bad input, in one sentence that says what would be right.

    Example:
        >>> experiment.prune_trained("mine:Net", "net.pt", "images", keep_ratio=0.3, epochs=5)
    """
    chosen = format_for(format, output)
    valid_keep_ratio(keep_ratio)
    METHODS.get(method)
    experiment = {
        "network": {"name": network, "weights": str(weights)},
        "dataset": _with_options(_dataset(data), images or {}),
        "retraining": {
            "epochs": epochs,
            "batch_size": batch_size,
            "optimizer": {"name": "SGD", "lr": lr, "momentum": 0.9, "weight_decay": 1e-4},
        },
        "pruning": {
            "schedule": "oneshot",
            "methods": [method],
            "keep_ratios": [keep_ratio],
            "retrain_count": None if epochs else 0,
        },
        "seed": seed,
    }
    name = f"prune-{network.rpartition(':')[2]}"
    found = run_named(experiment, name, overrides, results=results, device=device)
    if len(found.failures):
        raise UserError(*found.failures["reason"].astype(str))
    exported = export(
        found.directory, method, keep_ratio, format=chosen, output=output, seconds=seconds, say=say
    )
    return PrunedTrained(found, exported)


def _dataset(data: str | Path) -> dict[str, Any]:
    """The data set in a folder, or of a name."""
    if Path(data).is_dir():
        return {"name": "ImageFolder", "root": str(data)}
    names = DATASETS.names()
    if str(data) in names or ":" in str(data):
        return {"name": str(data)}
    raise UserError(
        f"--data {shown(str(data))}: there is no such folder, and no data set of that name"
        f"{nearest(data, names)} (a folder holds train/<class>/ and test/<class>/; data sets are "
        f"{', '.join(names)})"
    )


def _with_options(dataset: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """The data set with options. Raises UserError if it does not have them."""
    model = DATASETS.options_model(dataset["name"])
    unknown = [name for name in options if name not in model.model_fields]
    if unknown and model.model_config.get("extra") != "allow":
        raise UserError(
            f"--data {dataset['name']}: this data set has no {' and no '.join(unknown)} to set; "
            f"they are for folders of images"
        )
    return dataset | options
