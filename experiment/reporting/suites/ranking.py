"""Ranks of methods that say how sure they are.

A method's rank is an interval: one more than the number of methods that are certainly better, up to
the number of all less those that are certainly worse. "Certainly" is a confidence interval of the
difference of scores that does not hold 0. The intervals of one method to all others hold together
with 95% confidence (Bonferroni), and with them its rank (Mogstad, Romano, Shaikh, Wilhelm 2024,
"Inference for Ranks with Applications to Mobility across Neighbourhoods and Academic Achievement
across Countries", marginal confidence sets).
"""

import math
from collections.abc import Sequence

import pandas

from experiment.reporting.comparison import CONFIDENCE, IDENTITY
from experiment.reporting.suites.estimates import Estimate, average, difference, mean_of
from experiment.reporting.suites.scores import Contestant

HIGHER, LOWER, EQUAL = "higher", "lower", "cannot be told apart"
NOT_PAIRED = "unpruned nets differ"
RANKING_COLUMNS = [
    "rank_from",
    "rank_to",
    "method",
    "results",
    "nets",
    "score",
    "score_from",
    "score_to",
    "to_baseline",
    "to_baseline_from",
    "to_baseline_to",
    "commensurate_prune_ratio",
    "commensurate_prune_ratio_from",
    "commensurate_prune_ratio_to",
    "most_kept_too_much",
    "cannot_be_told_apart_from",
]
DIFFERENCE_COLUMNS = ["method", "other", "difference", "from", "to", "compared_on", "verdict"]


def differences(contestants: Sequence[Contestant], experiments: Sequence[str]) -> pandas.DataFrame:
    """One row for each ordered pair of methods: the difference of their scores.

    Args:
        contestants: those that have not finished all the experiments are left out.
        experiments: over which scores are averaged; they count alike.

    Returns:
        `DIFFERENCE_COLUMNS`. `compared_on` says how many nets both have, or that theirs are
        different ones, so that the two are compared as independent samples of nets.
    """
    finished = [one for one in contestants if _has_finished(one, experiments)]
    comparisons = max(1, len(finished) - 1)
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    found = []
    for one in finished:
        for other in finished:
            if one is not other:
                estimate, compared_on = compare(one, other, experiments)
                start, end = estimate.interval(confidence)
                row = (estimate.mean, start, end, compared_on, _verdict(start, end))
                found.append((one.method, other.method, *row))
    return pandas.DataFrame(found, columns=DIFFERENCE_COLUMNS)


def compare(one: Contestant, other: Contestant, experiments: Sequence[str]) -> tuple[Estimate, str]:
    """The mean difference of two methods' scores over experiments, and on which nets it was found.

    In an experiment of which both have pruned the same nets, these are compared net by net.
    """
    estimates = []
    num_nets: int | None = 0
    for experiment in experiments:
        paired = common_nets(one.scores[experiment], other.scores[experiment])
        if paired is None:
            of_each = [mean_of(list(a.scores[experiment]["score"])) for a in (one, other)]
            estimates.append(difference(*of_each))
            num_nets = None
            continue
        estimates.append(mean_of(list(paired["score"] - paired["score_of_other"])))
        num_nets = None if num_nets is None else num_nets + len(paired)
    return average(estimates), NOT_PAIRED if num_nets is None else f"{num_nets} nets"


def common_nets(one: pandas.DataFrame, other: pandas.DataFrame) -> pandas.DataFrame | None:
    """The scores of nets that both have, side by side; None if any is not the same net in both."""
    joined = one.merge(other, on="net_seed", suffixes=("", "_of_other"))
    columns = [f"unpruned_{column}" for column in IDENTITY]
    is_same = all((joined[name] == joined[f"{name}_of_other"]).all() for name in columns)
    return joined if len(joined) and is_same else None


def ranking(
    contestants: Sequence[Contestant], experiments: Sequence[str], baseline: str
) -> pandas.DataFrame:
    """One row for each method that has finished all the experiments, the highest score first.

    Returns:
        `RANKING_COLUMNS`. The intervals of `score` and of the prune ratio hold each by itself and
        show how much nets differ; the rank and the difference to the baseline follow from
        `differences`.
    """
    pairs = differences(contestants, experiments)
    finished = [one for one in contestants if _has_finished(one, experiments)]
    found = [_row(one, pairs, experiments, baseline, len(finished)) for one in finished]
    table = pandas.DataFrame(found, columns=RANKING_COLUMNS)
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _row(
    one: Contestant,
    pairs: pandas.DataFrame,
    experiments: Sequence[str],
    baseline: str,
    num_ranked: int,
) -> dict[str, object]:
    own = pairs[pairs["method"] == one.method]
    verdicts = own["verdict"]
    equal = own[verdicts == EQUAL]["other"]
    to_baseline = own[own["other"] == baseline]
    known = to_baseline.iloc[0] if len(to_baseline) else None
    return {
        "rank_from": 1 + int((verdicts == LOWER).sum()),
        "rank_to": num_ranked - int((verdicts == HIGHER).sum()),
        "method": one.method,
        "results": "stored" if one.is_stored else "new",
        "nets": sum(len(one.scores[experiment]) for experiment in experiments),
        **_with_interval(one, experiments, "score"),
        "to_baseline": math.nan if known is None else known["difference"],
        "to_baseline_from": math.nan if known is None else known["from"],
        "to_baseline_to": math.nan if known is None else known["to"],
        **_with_interval(one, experiments, "commensurate_prune_ratio"),
        "most_kept_too_much": max(
            float(one.scores[experiment]["most_kept_too_much"].max()) for experiment in experiments
        ),
        "cannot_be_told_apart_from": ", ".join(equal),
    }


def _with_interval(one: Contestant, experiments: Sequence[str], column: str) -> dict[str, float]:
    """The mean of a column over experiments, with its interval."""
    means = [mean_of(list(one.scores[experiment][column])) for experiment in experiments]
    estimate = average(means)
    start, end = estimate.interval(CONFIDENCE)
    return {column: estimate.mean, f"{column}_from": start, f"{column}_to": end}


def _has_finished(one: Contestant, experiments: Sequence[str]) -> bool:
    return all(len(one.scores.get(experiment, ())) for experiment in experiments)


def _verdict(start: float, end: float) -> str:
    """What an interval allows to say; nothing where there is none, since one net cannot tell."""
    if start > 0:
        return HIGHER
    return LOWER if end < 0 else EQUAL
