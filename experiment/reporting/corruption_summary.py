"""Prune potential: how far nets can be pruned before they are worse on corrupted images."""

import pandas

from experiment.core.columns import columns
from experiment.reporting.records import (
    CLEAN,
    KEY,
    MEAN_OF_CORRUPTIONS,
    REFERENCE,
    PrunePotentialRecord,
)
from experiment.reporting.summary import evaluated, reaches

COLUMNS = list(columns(PrunePotentialRecord))


def summarise_corruptions(
    rows: pandas.DataFrame, corrupted: pandas.DataFrame, margin: float
) -> pandas.DataFrame:
    """One row per corruption, severity and method: how far the method's nets can be pruned.

    As Liebenwein et al. ("Lost in Pruning", arXiv:2103.03014) define it, the prune potential of a
    net is the largest prune ratio at which its error is at most the margin above that of the
    unpruned net on the same images. It is chosen on the images by which it is judged.

    Args:
        rows: of results.csv. Nets of which the unpruned one is not measured yet are left out.
        corrupted: rows of corruptions.csv.
        margin: as a share of images.

    Returns:
        The columns of `PrunePotentialRecord`; images that are not corrupted come first, and the
        mean over all corruptions and severities comes last, if there are several. Repetitions of
        one net are averaged first. Nothing if no pruned net was measured on corrupted images.
    """
    if not (corrupted["method"] != REFERENCE).any():
        return pandas.DataFrame(columns=COLUMNS)
    measured = corrupted.merge(rows[[*KEY, "prune_ratio"]], on=list(KEY))
    judged = pandas.concat([rows[rows["method"] == REFERENCE], evaluated(rows)])
    clean = judged.assign(corruption=CLEAN, severity=0, accuracy=judged["test_accuracy"])
    measured = measured.drop(columns="loss")
    parts = [clean[list(measured)], measured, _mean_of_corruptions(measured)]
    everything = pandas.concat([part for part in parts if len(part)])
    found = [
        {"corruption": corruption, "severity": severity, "commensurate_margin": margin, **values}
        for (corruption, severity), of_images in everything.groupby(
            ["corruption", "severity"], sort=False
        )
        for values in _by_method(of_images, margin)
    ]
    return pandas.DataFrame(found, columns=COLUMNS)


def _mean_of_corruptions(measured: pandas.DataFrame) -> pandas.DataFrame:
    """The mean accuracy of each net that was measured on all corrupted images there are.

    Nothing if they are of one corruption and severity only.
    """
    count = len(measured[["corruption", "severity"]].drop_duplicates())
    nets = measured.groupby([*KEY, "prune_ratio"], sort=False, as_index=False).agg(
        accuracy=("accuracy", "mean"), measured=("accuracy", "size")
    )
    complete = nets[(nets.pop("measured") == count) & (count > 1)]
    return complete.assign(corruption=MEAN_OF_CORRUPTIONS, severity=0)[list(measured)]


def _by_method(rows: pandas.DataFrame, margin: float) -> list[dict[str, object]]:
    """What each method reaches on some images."""
    unpruned = rows[rows["method"] == REFERENCE].set_index("net_seed")["accuracy"]
    pruned = rows[(rows["method"] != REFERENCE) & rows["net_seed"].isin(unpruned.index)]
    found: list[dict[str, object]] = []
    for method, of_method in pruned.groupby("method", sort=False):
        potentials = _potentials(of_method, unpruned, margin)
        found.append(
            {
                "method": method,
                "nets": len(potentials),
                "unpruned_accuracy_mean": unpruned[potentials.index].mean(),
                "prune_potential_mean": potentials.mean(),
                "prune_potential_std": potentials.std(ddof=1),
            }
        )
    return found


def _potentials(pruned: pandas.DataFrame, unpruned: pandas.Series, margin: float) -> pandas.Series:
    """The prune potential of each net of a method, by net; 0 where no step is good enough."""
    by_step = pruned.groupby(["net_seed", "step"])[["prune_ratio", "accuracy"]].mean()
    by_step = by_step.reset_index("net_seed")
    lowest = by_step["net_seed"].map(unpruned) - margin
    ratios = by_step["prune_ratio"].where(reaches(by_step["accuracy"], lowest), 0.0)
    return ratios.groupby(by_step["net_seed"]).max()
