"""What is certified about the outputs of whole nets of an experiment, and what they really are."""

from pathlib import Path

import pandas
from torch import Tensor, nn

from experiment.certification.output_errors import QUANTITIES, VACUOUS, compare
from experiment.core.files import write_whole
from experiment.data.split import Split
from experiment.nets.running import copy_of
from experiment.nets.state import NetState
from experiment.pruning.method import build_method
from experiment.reporting.logger import Logger
from experiment.reporting.plots.output_errors import output_errors_vs_sparsity
from experiment.runs.tasks import Prune, Task
from experiment.runs.workplace import Workplace
from experiment.training.evaluation import outputs

NAME = "output_errors"
TITLES = {
    "relative_error": "logits",
    "total_variation": "probabilities",
    "disagreement": "predictions changed",
    "accuracy_drop": "accuracy drop",
}


def measure_outputs(
    of_net: list[Task],
    trained: NetState,
    workplace: Workplace,
    *,
    share: float,
    confidence: float,
) -> pandas.DataFrame:
    """One row for each method and keep ratio: the trained net, pruned in one shot.

    The bounds are certified on validation images that are not in S (of a run with a `guarantee`,
    those set aside), and compared with all test images. Repetitions are not repeated.
    """
    prunings = [task for task in of_net if isinstance(task, Prune) and task.place.repetition == 0]
    first = prunings[0]
    stream = first.net_stream.child("guarantee")
    pruner = workplace.pruner(first, trained)
    splits = (certification_images(first, workplace), workplace.data.test)
    unpruned = copy_of(workplace.net(first.network))
    trained.load_into(unpruned)
    before = [outputs(unpruned, split) for split in splits]
    rows = []
    for task in prunings:
        method = build_method(task.method.name, task.method.options)
        pruned = pruner.prune(method, task.keep_ratio, stream.child("prune", task.place.step))
        holdout, fresh = (
            (logits, _logits(pruned.net, split), labels)
            for (logits, labels), split in zip(before, splits)
        )
        rows.append(
            {
                "method": task.place.method,
                "net_seed": task.place.net_seed,
                "keep_ratio_requested": pruned.keep_ratio_requested,
                "keep_ratio": pruned.keep_ratio,
                "prune_ratio": 1 - pruned.keep_ratio,
                "images": len(holdout[2]),
                "test_images": len(fresh[2]),
                "share": share,
                "confidence": confidence,
                **compare(holdout, fresh, share=share, confidence=confidence),
            }
        )
    names = {"network": first.network.name, "dataset": first.dataset.name}
    return pandas.DataFrame(rows).assign(**names)


def certification_images(task: Prune, workplace: Workplace) -> Split:
    """Validation images that had no part in making or choosing the pruned nets."""
    if task.holdout:
        return workplace.divided(task.seed)[1]
    size = workplace.sample_size(task)
    return workplace.data.outside_sample(size, workplace.sample_stream(task))


def _logits(net: nn.Module, split: Split) -> Tensor:
    logits, _ = outputs(net, split)
    return logits


def write_outputs(rows: pandas.DataFrame, directory: Path, logger: Logger) -> None:
    """Write the table and its figure, and show a summary."""
    path = directory / f"{NAME}.csv"
    write_whole(path, rows.to_csv(index=False))
    logger.say(f"{legend(rows)}\n{summary(rows).to_string(index=False)}\ntable: {path}")
    plot = output_errors_vs_sparsity(rows, directory / "plots" / NAME)
    logger.say(f"plot: {plot}")


def legend(rows: pandas.DataFrame) -> str:
    """What the columns of the summary mean."""
    first = rows.iloc[0]
    share = f"{100 * first['share']:g}%"
    return (
        f"outputs of whole nets: certified by {rows['images'].min()} images that had no part in "
        f"anything, with {100 * first['confidence']:g}% confidence each, and measured on "
        f"{first['test_images']} test images; means over nets\n"
        f"logits, probabilities: relative error of the logits and total variation of the "
        f"probabilities, which {share} of the images exceed at most\n"
        f"predictions changed, accuracy drop: shares of images, against the unpruned net\n"
        f"*: says nothing, as outputs of zeros would be no worse"
    )


def summary(rows: pandas.DataFrame) -> pandas.DataFrame:
    """One row for each method and keep ratio: certified and measured, means over nets."""
    columns = [f"{name}_{kind}" for name in TITLES for kind in ("certified", "measured")]
    means = rows.groupby(["method", "keep_ratio_requested"], sort=False)[columns].mean()
    table = pandas.DataFrame(index=means.index)
    for name, title in TITLES.items():
        pairs = zip(means[f"{name}_certified"], means[f"{name}_measured"])
        table[title] = [
            f"{bound:.3g}{'*' if bound >= VACUOUS else ''} ({found:.3g})" for bound, found in pairs
        ]
    table = table.reset_index().rename(columns={"keep_ratio_requested": "kept"})
    table["kept"] = [f"{ratio:.3g}" for ratio in table["kept"]]
    return table


def num_broken(rows: pandas.DataFrame) -> int:
    """How many bounds are below what was measured; of each, 1 - confidence may be."""
    return sum(
        int((rows[f"{name}_measured"] > rows[f"{name}_certified"]).sum()) for name in QUANTITIES
    )
