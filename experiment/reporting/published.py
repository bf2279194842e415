"""Published results, from a table in the repository, beside those of runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from experiment.config.schedules import steps
from experiment.config.schema import Config
from experiment.core.errors import UserError
from experiment.core.spelling import nearest
from experiment.core.text import short
from experiment.reporting.summary import evaluated

if TYPE_CHECKING:
    import pandas

TABLE = Path(__file__).parents[2] / "paper" / "published.csv"
DEVIATIONS = 2  # within which a result counts as agreeing


def published_beside(config: Config, dataset: str | None = None) -> "pandas.DataFrame":
    """The published points for the network, data set, methods and schedule of a run.

    Those that are of another network of the same name, or have no accuracy at a prune ratio, are
    left out. All are of retrained nets, so that a run without retraining has none. Methods with
    options count as the method. `dataset` is the published name of the data if the run calls it
    otherwise, such as CIFAR10 for a folder of its images.

    Raises:
        UserError: if the table is not there, as in an installed package, or has no such data set.
    """
    import pandas

    try:
        table = pandas.read_csv(TABLE, dtype={"not_comparable_since": str, "schedule": str})
    except FileNotFoundError:
        raise UserError(
            f"--published: {TABLE} is not there; it is part of the repository, not of an "
            f"installed package"
        ) from None
    names = list(table["dataset"].unique())
    if dataset is not None and dataset not in names:
        raise UserError(
            f"--published: nothing published is of a data set '{short(dataset)}'"
            f"{nearest(dataset, names)} (there are: {', '.join(names)})"
        )
    if not any(step.retrained for step in steps(config)):
        return table[:0]
    fits = (
        (table["network"] == config.network.name)
        & (table["dataset"] == (dataset or config.dataset.name))
        & (table["schedule"] == config.pruning.schedule)
        & table["method"].isin([method.name for method in config.pruning.methods])
        & table["not_comparable_since"].isna()
        & table["prune_ratio"].notna()
        & table["test_accuracy"].notna()
    )
    return table[fits]


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
        deviations over nets of the test accuracy; `published_difference` and `difference`, to the
        unpruned nets; and what these are apart, `within` two standard deviations, those of both
        taken together, or `outside`: `accuracy` and `to_unpruned`. Where a run does not reach the
        ratio, or has no two nets, they are empty.
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

    accuracies = pandas.Series(
        {
            seed: _interpolated(unpruned[seed], of_net, point["prune_ratio"])
            for seed, of_net in pruned.groupby("net_seed")
        },
        dtype=float,
    )
    drops = accuracies - unpruned.reindex(accuracies.index)
    theirs = point["test_accuracy"]
    their_drop = theirs - point["unpruned_accuracy"]
    deviation = point["test_accuracy_deviation"]
    return {
        "source": point["source"],
        "published_schedule": point["published_schedule"],
        "prune_ratio": point["prune_ratio"],
        "published": theirs,
        "published_deviation": deviation,
        "here": accuracies.mean(),
        "here_deviation": accuracies.std(),
        "published_difference": their_drop,
        "difference": drops.mean(),
        "accuracy": _verdict(accuracies.mean() - theirs, numpy.hypot(deviation, accuracies.std())),
        "to_unpruned": _verdict(drops.mean() - their_drop, numpy.hypot(deviation, drops.std())),
    }


def _interpolated(unpruned: float, nets: "pandas.DataFrame", prune_ratio: float) -> float:
    """The accuracy of a net at a prune ratio, NaN beyond the largest one that there is."""
    by_ratio = nets.groupby("step")[["prune_ratio", "test_accuracy"]].mean()
    by_ratio = by_ratio.sort_values("prune_ratio")
    ratios = [0.0, *by_ratio["prune_ratio"]]
    accuracies = [unpruned, *by_ratio["test_accuracy"]]
    return float(numpy.interp(prune_ratio, ratios, accuracies, right=numpy.nan))


def _verdict(difference: float, spread: float) -> str | None:
    if not numpy.isfinite(difference) or not numpy.isfinite(spread):
        return None
    return "within" if abs(difference) <= DEVIATIONS * spread else "outside"
