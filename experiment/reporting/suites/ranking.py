"""Ranks of methods that say how sure they are.

A method's rank is an interval: one more than the number of methods that are certainly better, up to
the number of all less those that are certainly worse. "Certainly" is a confidence interval of the
difference of scores that does not hold 0. The intervals of one method to all others hold together
with 95% confidence (Bonferroni), and with them its rank (Mogstad, Romano, Shaikh, Wilhelm 2024,
"Inference for Ranks with Applications to Mobility across Neighbourhoods and Academic Achievement
across Countries", marginal confidence sets).
"""

import itertools
import math
from collections.abc import Mapping

import pandas

from experiment.reporting.comparison import CONFIDENCE
from experiment.reporting.estimates import Estimate, combined, difference, mean_of
from experiment.reporting.suites.contest import Contest, common_nets
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


def differences(contest: Contest) -> pandas.DataFrame:
    """One row for each ordered pair of methods: the difference of their scores.

    Returns:
        `DIFFERENCE_COLUMNS`. `compared_on` says how many nets both have, or that theirs are
        different ones, so that the two are compared as independent samples of nets.
    """
    comparisons = max(1, len(contest.contestants) - 1)
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    found = []
    for one, other in itertools.permutations(contest.contestants, 2):
        estimate, compared_on = compare(one, other, contest.weights)
        start, end = estimate.interval(confidence)
        row = (estimate.mean, start, end, compared_on, _verdict(start, end))
        found.append((one.method, other.method, *row))
    return pandas.DataFrame(found, columns=DIFFERENCE_COLUMNS)


def compare(
    one: Contestant, other: Contestant, weights: Mapping[str, float]
) -> tuple[Estimate, str]:
    """The weighted mean difference of two methods' scores, and on which nets it was found.

    In a sample of which both have pruned the same nets, these are compared net by net.
    """
    terms = []
    num_nets: int | None = 0
    for sample, weight in weights.items():
        paired = common_nets(one.scores[sample], other.scores[sample])
        if paired is None:
            of_each = [mean_of(list(each.scores[sample]["score"])) for each in (one, other)]
            terms.append((weight, difference(*of_each)))
            num_nets = None
            continue
        terms.append((weight, mean_of(list(paired["score"] - paired["score_of_other"]))))
        num_nets = None if num_nets is None else num_nets + len(paired)
    return combined(terms), NOT_PAIRED if num_nets is None else f"{num_nets} nets"


def ranking(contest: Contest, pairs: pandas.DataFrame, baseline: str) -> pandas.DataFrame:
    """One row for each method, the highest score first.

    Args:
        pairs: the `differences` of the same methods, from which the rank follows, and the
            difference to the baseline.

    Returns:
        `RANKING_COLUMNS`. The intervals of `score` and of the prune ratio hold each by itself and
        show how much nets differ.
    """
    found = [_row(one, contest, pairs, baseline) for one in contest.contestants]
    table = pandas.DataFrame(found, columns=RANKING_COLUMNS)
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _row(
    one: Contestant, contest: Contest, pairs: pandas.DataFrame, baseline: str
) -> dict[str, object]:
    own = pairs[pairs["method"] == one.method]
    verdicts = own["verdict"]
    equal = own[verdicts == EQUAL]["other"]
    to_baseline = own[own["other"] == baseline]
    known = to_baseline.iloc[0] if len(to_baseline) else None
    return {
        "rank_from": 1 + int((verdicts == LOWER).sum()),
        "rank_to": len(contest.contestants) - int((verdicts == HIGHER).sum()),
        "method": one.method,
        "results": "stored" if one.is_stored else "new",
        "nets": sum(map(len, one.scores.values())),
        **_with_interval(one, contest.weights, "score"),
        "to_baseline": math.nan if known is None else known["difference"],
        "to_baseline_from": math.nan if known is None else known["from"],
        "to_baseline_to": math.nan if known is None else known["to"],
        **_with_interval(one, contest.weights, "commensurate_prune_ratio"),
        "most_kept_too_much": max(
            float(nets["most_kept_too_much"].max()) for nets in one.scores.values()
        ),
        "cannot_be_told_apart_from": ", ".join(equal),
    }


def _with_interval(one: Contestant, weights: Mapping[str, float], column: str) -> dict[str, float]:
    """The weighted mean of a column over samples of nets, with its interval."""
    means = [
        (weight, mean_of(list(one.scores[sample][column]))) for sample, weight in weights.items()
    ]
    estimate = combined(means)
    start, end = estimate.interval(CONFIDENCE)
    return {column: estimate.mean, f"{column}_from": start, f"{column}_to": end}


def _verdict(start: float, end: float) -> str:
    """What an interval allows to say; nothing where there is none."""
    if start > 0:
        return HIGHER
    return LOWER if end < 0 else EQUAL
