"""What is certified about the outputs of whole nets of an experiment, and what they really are."""

import pandas
from torch import Tensor, nn

from experiment.certification.output_errors import QUANTITIES, VACUOUS, compare
from experiment.data.split import Split
from experiment.reporting.logger import Logger
from experiment.runs.guarantees.net_under_test import NetUnderTest
from experiment.training.evaluation import outputs

NAME = "output_errors"
TITLES = {
    "relative_error": "logits",
    "total_variation": "probabilities",
    "disagreement": "predictions changed",
    "accuracy_drop": "accuracy drop",
}


def measure(net: NetUnderTest, logger: Logger) -> pandas.DataFrame:
    """One row for each method and keep ratio: the trained net, pruned in one shot.

    The bounds are certified on validation images that are not in S (of a run with a `guarantee`,
    those set aside), and compared with all test images.
    """
    _, holdout_images = net.sample_and_rest()
    splits = (holdout_images, net.workplace.data.test)
    unpruned = net.unpruned()
    before = [outputs(unpruned, split) for split in splits]
    settings = {"share": net.measurement.share, "confidence": net.measurement.confidence}
    rows = []
    for task, pruned in net.each_pruned(net.pruner()):
        holdout, fresh = (
            (logits, _logits(pruned.net, split), labels)
            for (logits, labels), split in zip(before, splits)
        )
        rows.append(
            {
                "method": task.place.method,
                "net_seed": task.place.net_seed,
                "step": task.place.step,
                "keep_ratio_requested": pruned.keep_ratio_requested,
                "keep_ratio": pruned.keep_ratio,
                "prune_ratio": 1 - pruned.keep_ratio,
                "images": len(splits[0]),
                "test_images": len(splits[1]),
                **settings,
                **compare(holdout, fresh, **settings),
            }
        )
    return pandas.DataFrame(rows).assign(**net.names)


def _logits(net: nn.Module, split: Split) -> Tensor:
    logits, _ = outputs(net, split)
    return logits


def show(rows: pandas.DataFrame, logger: Logger) -> None:
    """Show a summary."""
    logger.say(
        f"{legend(rows)}\n{summary(rows).to_string(index=False)}\n"
        f"below what was measured: {num_broken(rows)} of {len(QUANTITIES) * len(rows)} bounds; "
        f"each may be below the truth with a probability of {1 - rows['confidence'].iloc[0]:.2g}, "
        f"and what is measured differs from the truth by chance as well"
    )


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
    """One row for each method and step: certified and measured, means over nets."""
    columns = [f"{name}_{kind}" for name in TITLES for kind in ("certified", "measured")]
    groups = rows.groupby(["method", "step"], sort=False)
    means = groups[["keep_ratio_requested", *columns]].mean()
    table = means[["keep_ratio_requested"]].copy()
    for name, title in TITLES.items():
        pairs = zip(means[f"{name}_certified"], means[f"{name}_measured"])
        table[title] = [
            f"{bound:.3g}{'*' if bound >= VACUOUS else ''} ({found:.3g})" for bound, found in pairs
        ]
    table = table.reset_index("method").rename(columns={"keep_ratio_requested": "kept"})
    table["kept"] = [f"{ratio:.3g}" for ratio in table["kept"]]
    return table


def num_broken(rows: pandas.DataFrame) -> int:
    """How many bounds are below what was measured.

    That is more than the share 1 - confidence that may be below the truth, since test images are a
    sample too: about 9% of bounds with a confidence of 95% if there are as many of these as of the
    images that certify.
    """
    return sum(
        int((rows[f"{name}_measured"] > rows[f"{name}_certified"]).sum()) for name in QUANTITIES
    )
