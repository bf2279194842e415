"""The score of a method on each net of an experiment."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas

from experiment.reporting.comparison import IDENTITY, RATIO
from experiment.reporting.records import REFERENCE
from experiment.reporting.summary import AVERAGED, evaluated, most_pruned

COLUMNS = [
    "net_seed",
    *(f"unpruned_{column}" for column in IDENTITY),
    "score",
    "commensurate_prune_ratio",
    "most_kept_too_much",
]


@dataclass(frozen=True)
class Contestant:
    """A method with its scores in the experiments of a suite, one row of `COLUMNS` for each net."""

    method: str
    is_stored: bool  # the results are those that were handed in with the suite
    scores: dict[str, pandas.DataFrame]  # by experiment; none for one that it has not finished


def scores(rows: pandas.DataFrame, ratios: Sequence[float], margin: float) -> pandas.DataFrame:
    """One row for each net: score, prune ratio at commensurate accuracy, and what to check.

    Args:
        rows: of results.csv, of one method and of the unpruned nets.
        ratios: all keep ratios at which methods are judged. Repetitions that lack some are left
            out: means over different ratios cannot be compared.
        margin: by how much the error may exceed that of the unpruned net, as a share of images.

    Returns:
        `COLUMNS`. `score` is in points, and repetitions of a net are averaged first.
        `most_kept_too_much` is the largest excess of the size over the one asked for, as a share
        of the latter: a method that keeps more than others would be better for that alone.
    """
    unpruned = rows[rows["method"] == REFERENCE].set_index("net_seed")
    complete = (
        evaluated(rows)
        .groupby(["net_seed", "repetition"])
        .filter(lambda chain: set(chain[RATIO]) == set(ratios))
    )
    steps = complete.groupby(["net_seed", RATIO])[[*AVERAGED, "keep_ratio"]].mean()
    found = []
    for net_seed, of_net in steps.reset_index().groupby("net_seed"):
        if net_seed not in unpruned.index:
            continue
        reference = unpruned.loc[net_seed]
        found.append(
            {
                "net_seed": net_seed,
                **{f"unpruned_{column}": reference[column] for column in IDENTITY},
                "score": 100 * (of_net["test_accuracy"] - reference["test_accuracy"]).mean(),
                "commensurate_prune_ratio": most_pruned(of_net, reference, margin)[
                    "prune_ratio_chosen_on_test"
                ],
                "most_kept_too_much": (of_net["keep_ratio"] / of_net[RATIO] - 1).max(),
            }
        )
    return pandas.DataFrame(found, columns=COLUMNS)
