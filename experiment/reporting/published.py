"""Published results, from a table in the repository, beside those of runs."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from experiment.config.schedules import steps
from experiment.config.schema import Config
from experiment.core.errors import UserError
from experiment.core.registry import NETWORKS
from experiment.core.spelling import nearest
from experiment.core.text import short
from experiment.reporting.summary import evaluated, reaches

if TYPE_CHECKING:
    import pandas

TABLE = Path(__file__).parents[2] / "paper" / "published.csv"
DEVIATIONS = 2  # within which a result counts as agreeing


def published_beside(config: Config, dataset: str | None = None) -> "pandas.DataFrame":
    """The published points for the network, data set, methods and schedule of a run.

    Those that are of another network of the same name, or have no accuracy at a prune ratio, are
    left out. A network with other options than the defaults, such as another width, has none. All
    are of retrained nets, so that a run without retraining has none. Methods with options count as
    the method. `dataset` is the published name of the data if the run calls it otherwise, such as
    CIFAR10 for a folder of its images.

    Raises:
        UserError: if the table is not there, as in an installed package, or has no such data set.
    """
    table = _table()
    names = list(table["dataset"].unique())
    if dataset is not None and dataset not in names:
        raise UserError(
            f"--published: nothing published is of a data set '{short(dataset)}'"
            f"{nearest(dataset, names)} (there are: {', '.join(names)})"
        )
    if not any(step.retrained for step in steps(config)):
        return table[:0]
    network = NETWORKS.label(config.network.name, config.network.options)
    fits = (
        (table["network"] == network)
        & (table["dataset"] == (dataset or config.dataset.name))
        & (table["schedule"] == config.pruning.schedule)
        & table["method"].isin([method.name for method in config.pruning.methods])
        & table["not_comparable_since"].isna()
        & table["prune_ratio"].notna()
        & table["test_accuracy"].notna()
    )
    return table[fits]


@functools.cache  # several runs may be set beside it
def _table() -> "pandas.DataFrame":
    import pandas

    try:
        return pandas.read_csv(TABLE, dtype={"not_comparable_since": str, "schedule": str})
    except FileNotFoundError:
        raise UserError(
            f"--published: {TABLE} is not there; it is part of the repository, not of an "
            f"installed package"
        ) from None


def compared_with_published(
    rows: "pandas.DataFrame", points: "pandas.DataFrame"
) -> "pandas.DataFrame":
    """One row for each published point and form of its method: what is published, and of a run.

    The run's accuracy is interpolated between the prune ratios that it has on either side of the
    point, one of which may be the unpruned net; for each net by itself.

    Args:
        rows: of results.csv.
        points: of `published_beside`.

    Returns:
        `method`, as the run calls it, with its options; `source`, `published_schedule`,
        `prune_ratio`; `published`, `published_deviation`, `here` and `here_deviation`, means and
        deviations over nets of the test accuracy; `nets`, how many of the run reach the ratio;
        `published_difference` and `difference`, to the unpruned nets; `accuracy` and `to_unpruned`,
        which say for accuracies and for differences whether the means are `within` or `outside` of
        two standard deviations of a single net, the root of the sum of squares of theirs and ours.
        Without a published deviation, or two nets that reach the ratio, they are empty.
        `prune_ratio_here` and its deviation say how far nets of the run can be pruned with no more
        loss than the published one: the largest of their own ratios, chosen on the test set; 0 for
        a net that is always worse.
    """
    import pandas

    unpruned = rows[rows["step"] == 0].set_index("net_seed")["test_accuracy"]
    pruned = evaluated(rows)
    pruned = pruned[pruned["net_seed"].isin(unpruned.index)]
    found = [
        {"method": label, **_compared(point, pruned[pruned["method"] == label], unpruned)}
        for point in points.to_dict("records")
        for label in _labels(pruned, point["method"])
    ]
    return pandas.DataFrame(found)


def _labels(pruned: "pandas.DataFrame", name: str) -> list[str]:
    """What the run calls a method, once for each choice of options; the name if it has none."""
    labels = pruned["method"].unique()
    return [label for label in labels if label.partition("(")[0] == name] or [name]


def _compared(
    point: dict[str, Any], pruned: "pandas.DataFrame", unpruned: "pandas.Series"
) -> dict[str, Any]:
    """A published point and the nets that a method has pruned.

    `unpruned` are the test accuracies of the unpruned nets, by net.
    """
    import pandas

    theirs = point["test_accuracy"]
    their_difference = theirs - point["unpruned_accuracy"]
    deviation = point["test_accuracy_deviation"]
    curves = {
        seed: of_net.groupby("step")[["prune_ratio", "test_accuracy"]].mean()  # of repetitions
        for seed, of_net in pruned.groupby("net_seed")
    }
    nets = pandas.DataFrame(
        [
            {
                "accuracy": _interpolated(unpruned[seed], curve, point["prune_ratio"]),
                "unpruned": unpruned[seed],
                "prune_ratio": _most_pruned(curve, unpruned[seed] + their_difference),
            }
            for seed, curve in curves.items()
        ],
        columns=["accuracy", "unpruned", "prune_ratio"],
        dtype=float,
    )
    accuracies, differences = nets["accuracy"], nets["accuracy"] - nets["unpruned"]
    accuracy_gap = accuracies.mean() - theirs
    difference_gap = differences.mean() - their_difference
    return {
        "source": point["source"],
        "published_schedule": point["published_schedule"],
        "prune_ratio": point["prune_ratio"],
        "published": theirs,
        "published_deviation": deviation,
        "here": accuracies.mean(),
        "here_deviation": accuracies.std(),
        "nets": accuracies.count(),
        "published_difference": their_difference,
        "difference": differences.mean(),
        "accuracy": _verdict(accuracy_gap, numpy.hypot(deviation, accuracies.std())),
        "to_unpruned": _verdict(difference_gap, numpy.hypot(deviation, differences.std())),
        "prune_ratio_here": nets["prune_ratio"].mean(),
        "prune_ratio_here_deviation": nets["prune_ratio"].std(),
    }


def _interpolated(unpruned: float, curve: "pandas.DataFrame", prune_ratio: float) -> float:
    """The accuracy of a net at a prune ratio, NaN beyond the largest one that there is."""
    curve = curve.sort_values("prune_ratio")
    ratios = [0.0, *curve["prune_ratio"]]
    accuracies = [unpruned, *curve["test_accuracy"]]
    return float(numpy.interp(prune_ratio, ratios, accuracies, right=numpy.nan))


def _most_pruned(curve: "pandas.DataFrame", accuracy: float) -> float:
    """The largest prune ratio of a net at which it has an accuracy, 0 if there is none."""
    is_good = reaches(curve["test_accuracy"], accuracy)
    return float(curve["prune_ratio"].where(is_good, 0.0).max())


def _verdict(difference: float, spread: float) -> str | None:
    if not numpy.isfinite(difference) or not numpy.isfinite(spread):
        return None
    return "within" if abs(difference) <= DEVIATIONS * spread else "outside"
