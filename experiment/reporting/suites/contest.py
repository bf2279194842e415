"""Which methods can be compared over some experiments, and on which nets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas

from experiment.reporting.comparison import IDENTITY
from experiment.reporting.suites.scores import Contestant

UNPRUNED = [f"unpruned_{column}" for column in IDENTITY]


@dataclass(frozen=True)
class Contest:
    """Methods that have finished the same experiments, with their scores by sample of nets.

    Experiments that prune the same nets, by another schedule for instance, are one sample, in which
    a net has the mean of its scores: they would not be independent. Samples are named by their
    first experiment.
    """

    contestants: list[Contestant]
    weights: Mapping[str, float]  # of the samples: shares of the experiments


def contest(contestants: Sequence[Contestant], experiments: Sequence[str]) -> Contest:
    """The methods that have finished all of these experiments, which count alike."""
    finished = [
        one for one in contestants if all(len(one.scores.get(name, ())) for name in experiments)
    ]
    samples = _samples(finished, experiments)
    pooled = [
        replace(one, scores={names[0]: _pooled(one, names) for names in samples})
        for one in finished
    ]
    return Contest(
        [one for one in pooled if all(map(len, one.scores.values()))],
        {names[0]: len(names) / len(experiments) for names in samples},
    )


def common_nets(one: pandas.DataFrame, other: pandas.DataFrame) -> pandas.DataFrame | None:
    """The scores of nets that both have, side by side; None if any is not the same net in both."""
    joined = one.merge(other, on="net_seed", suffixes=("", "_of_other"))
    is_same = all((joined[name] == joined[f"{name}_of_other"]).all() for name in UNPRUNED)
    return joined if len(joined) and is_same else None


def _samples(contestants: Sequence[Contestant], experiments: Sequence[str]) -> list[list[str]]:
    """The experiments, those together that prune the same nets."""
    samples: list[list[str]] = []
    for name in experiments:
        same = (names for names in samples if _have_common_nets(contestants, names[0], name))
        found = next(same, None)
        if found is None:
            samples.append([name])
        else:
            found.append(name)
    return samples


def _have_common_nets(contestants: Sequence[Contestant], first: str, other: str) -> bool:
    """Whether two experiments prune the same nets, as any method tells."""
    return any(common_nets(one.scores[first], one.scores[other]) is not None for one in contestants)


def _pooled(one: Contestant, experiments: Sequence[str]) -> pandas.DataFrame:
    """The means of each net that all of these experiments have pruned."""
    nets = pandas.concat([one.scores[name] for name in experiments]).groupby("net_seed")
    means = nets.agg(
        {
            **dict.fromkeys(UNPRUNED, "first"),
            **dict.fromkeys(["score", "commensurate_prune_ratio"], "mean"),
            "most_kept_too_much": "max",
        }
    )
    return means[nets.size() == len(experiments)].reset_index()
