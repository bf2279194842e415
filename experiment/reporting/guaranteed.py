"""The nets that tests on images set aside guarantee: how far each method can be pruned."""

import pandas

from experiment.reporting.records import KEY
from experiment.reporting.summary import FAULTS, evaluated

CHAIN = ["method", "net_seed", "repetition"]  # its nets are tested in the order of their steps
MEASURES = {
    "prune_ratio": "prune_ratio_guaranteed",
    "test_accuracy": "test_accuracy_guaranteed",
    "test_drop": "test_accuracy_drop_guaranteed",
}


def guaranteed_nets(rows: pandas.DataFrame, tests: pandas.DataFrame) -> pandas.DataFrame:
    """The smallest net that is guaranteed of each method, net and repetition.

    It is the last one that passes before the first that fails: the order of the tests is fixed, so
    that the confidence holds for the whole sequence (fixed-sequence testing, Angelopoulos et al.
    2021, arXiv:2110.01052). It holds for each sequence by itself, not for all methods at once.

    Args:
        rows: of results.csv. Nets that are retrained later are not judged.
        tests: of holdout.csv.

    Returns:
        `CHAIN`, `prune_ratio`, `test_accuracy` and `test_drop`, the difference of the test accuracy
        to the unpruned net's: of that itself if no pruned net is guaranteed.
    """
    unpruned = rows[rows["step"] == 0].set_index("net_seed")["test_accuracy"]
    tested = evaluated(rows).merge(tests, on=list(KEY)).sort_values("step")
    tested = tested[tested["net_seed"].isin(unpruned.index)]
    found = []
    for chain, nets in tested.groupby(CHAIN, sort=False):
        accuracy = unpruned[chain[1]]
        passing = nets[nets["passes"].astype(bool).cummin()]
        best = {"prune_ratio": 0.0, "test_accuracy": accuracy}
        if len(passing):
            best = passing.iloc[-1][list(best)].to_dict()
        drop = accuracy - best["test_accuracy"]
        found.append({**dict(zip(CHAIN, chain)), **best, "test_drop": drop})
    return pandas.DataFrame(found, columns=[*CHAIN, *MEASURES])


def with_guarantees(
    summary: pandas.DataFrame, rows: pandas.DataFrame, tests: pandas.DataFrame
) -> pandas.DataFrame:
    """A summary with what is guaranteed beside what is commensurate, if there are any tests.

    Args:
        summary: of `experiment.reporting.summary.summarise`.
        rows: of results.csv.
        tests: of holdout.csv.
    """
    if not len(tests) or not len(summary):
        return summary
    found = summarise_guarantees(rows, tests)
    first_fault = summary.columns.get_loc(f"nets_with_{next(iter(FAULTS))}")
    names = [*summary.columns[:first_fault], *found.columns, *summary.columns[first_fault:]]
    return summary.merge(found, left_on="method", right_index=True, how="left")[names]


def summarise_guarantees(rows: pandas.DataFrame, tests: pandas.DataFrame) -> pandas.DataFrame:
    """One row per method: means and deviations over nets of what is guaranteed.

    Returns:
        The limit and its confidence, and `_mean` and `_std` of `MEASURES`, with the method as
        index. Repetitions of one net are averaged first.
    """
    nets = guaranteed_nets(rows, tests).groupby(["method", "net_seed"], sort=False)
    of_nets = nets[list(MEASURES)].mean().rename(columns=MEASURES)
    by_method = of_nets.groupby("method", sort=False)
    table = pandas.concat(
        [by_method.mean().add_suffix("_mean"), by_method.std(ddof=1).add_suffix("_std")], axis=1
    )[[f"{measure}_{kind}" for measure in MEASURES.values() for kind in ("mean", "std")]]
    first = tests.iloc[0]
    table.insert(0, "guarantee_confidence", first["confidence"])
    table.insert(0, "guarantee_at_most", first["at_most"])
    table.insert(0, "guarantee_loss", first["loss"])
    return table


def promise(loss: str, at_most: float, confidence: float) -> str:
    """What is guaranteed, for people."""
    if loss == "accuracy_drop":
        words = f"at most {100 * at_most:g} points less accurate"
    else:
        words = f"at most {100 * at_most:g}% of the predictions change"
    return f"{words}, with {100 * confidence:g}% confidence"
