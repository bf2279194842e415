"""Comparing methods and runs: side by side, and by differences on the same nets."""

import itertools
from collections.abc import Mapping

import pandas

from experiment.core.errors import UserError
from experiment.core.spelling import nearest
from experiment.reporting.estimates import mean_of
from experiment.reporting.records import REFERENCE
from experiment.reporting.summary import evaluated

RATIO = "keep_ratio_requested"
CONFIDENCE = 0.95
BASELINE = ["baseline", "baseline_run"]  # columns
IDENTITY = ["test_accuracy", "test_loss"]  # which tell whether two unpruned nets are the same

Runs = Mapping[str, pandas.DataFrame]  # the rows of results.csv of each run, by its name


def metrics(rows: pandas.DataFrame) -> list[str]:
    """The columns that can be compared."""
    numbers = rows.select_dtypes("number").columns
    return [name for name in numbers if name not in ("net_seed", "repetition", "step", RATIO)]


def side_by_side(runs: Runs, metric: str) -> pandas.DataFrame:
    """One row for each run, method and keep ratio: mean and deviation of a metric over nets.

    Args:
        runs: the rows of each run, by its name.
        metric: a column of numbers of results.csv. Repetitions of a net are averaged first.

    Raises:
        UserError: if there is no such column.
    """
    tables = []
    for name, rows in runs.items():
        by_net = of_nets(rows, metric).groupby(["method", RATIO], sort=False)[metric]
        table = by_net.agg(mean="mean", deviation="std", nets="count").reset_index()
        tables.append(table.assign(run=name))
    joined = pandas.concat(tables, ignore_index=True)
    return joined[["run", "method", RATIO, "mean", "deviation", "nets"]]


def of_nets(rows: pandas.DataFrame, metric: str) -> pandas.DataFrame:
    """The metric of each method, keep ratio and net, the unpruned ones at ratio 1."""
    known = metrics(rows)
    if metric not in known:
        raise UserError(
            f"--metric: no column '{metric}' of numbers{nearest(metric, known)} "
            f"(there are: {', '.join(known)})"
        )
    judged = pandas.concat([rows[rows["method"] == REFERENCE], evaluated(rows)])
    grouped = judged.groupby(["method", RATIO, "net_seed"], sort=False)[metric]
    return grouped.mean().reset_index()


def differences(runs: Runs, metric: str, baseline: str | None = None) -> pandas.DataFrame:
    """How much each method differs from a baseline, over nets and keep ratios that both have.

    The differences of a net at all common ratios are averaged; their mean over nets is given with
    a confidence interval of Student's t. Nets are paired by their numbers if they are the same ones
    before pruning; others are not compared.

    Args:
        baseline: a method of the first run; by default WT, or the first one.

    Returns:
        One row for each other method of each run. Without common nets and ratios `nets` is 0; with
        a single net there is no interval. `verdict` says what the interval allows to say.

    Raises:
        UserError: if there is no such metric or baseline.
    """
    first_name, first = next(iter(runs.items()))
    methods = [name for name in first["method"].unique() if name != REFERENCE]
    if baseline is None:
        baseline = "WT" if "WT" in methods else next(iter(methods), REFERENCE)
    if baseline not in [*methods, REFERENCE]:
        raise UserError(
            f"--baseline: {first_name} has no method '{baseline}'{nearest(baseline, methods)} "
            f"(there are: {', '.join(methods)})"
        )
    theirs = of_nets(first, metric).query("method == @baseline").drop(columns="method")
    rows = []
    for name, other in runs.items():
        paired = of_nets(other, metric).merge(
            theirs, on=["net_seed", RATIO], suffixes=("", "_of_baseline")
        )
        paired = paired[paired["net_seed"].isin(same_nets(first, other))]
        paired = paired.assign(value=paired[metric] - paired[f"{metric}_of_baseline"])
        for method in other["method"].unique():
            is_baseline = name == first_name and method == baseline
            if method == REFERENCE or is_baseline:
                continue
            interval = _interval(paired[paired["method"] == method])
            rows.append({"run": name, "method": method, **interval})
    columns = ["run", "method", "difference", "from", "to", "ratios", "nets", "verdict"]
    table = pandas.DataFrame(rows, columns=columns)
    return table.assign(baseline_run=first_name, baseline=baseline)


def same_nets(first: pandas.DataFrame, other: pandas.DataFrame) -> set[int]:
    """The numbers of the nets that are the same ones in two runs before they are pruned."""
    references = (
        rows[rows["method"] == REFERENCE].set_index("net_seed")[IDENTITY] for rows in (first, other)
    )
    one, another = references
    return {
        int(net)
        for net in one.index.intersection(another.index)
        if (one.loc[net] == another.loc[net]).all()
    }


def _interval(paired: pandas.DataFrame) -> dict[str, object]:
    """Mean difference over nets, its confidence interval, and what can be said of it."""
    of_nets = paired.groupby("net_seed")["value"].mean()
    count = len(of_nets)
    found: dict[str, object] = {"ratios": paired[RATIO].nunique(), "nets": count}
    if count == 0:
        return {**found, "verdict": "no nets and ratios in common"}
    estimate = mean_of(list(of_nets))
    start, end = estimate.interval(CONFIDENCE)
    found |= {"difference": estimate.mean, "from": start, "to": end}
    if start > 0:
        return {**found, "verdict": "higher"}
    if end < 0:
        return {**found, "verdict": "lower"}
    return {**found, "verdict": f"{count} nets cannot tell" if count > 1 else "one net cannot tell"}


def settings_that_differ(configs: Mapping[str, object]) -> pandas.DataFrame:
    """One row for each key path at which configurations differ, one column for each of them."""
    flat = {name: dict(flattened(values)) for name, values in configs.items()}
    first = next(iter(flat.values()))
    keys = dict.fromkeys(itertools.chain.from_iterable(flat.values()))
    rows = [
        {"key": key, **{name: values.get(key, "") for name, values in flat.items()}}
        for key in keys
        if any(values.get(key, "") != first.get(key, "") for values in flat.values())
        and not _is_absent_section(key, flat)
    ]
    return pandas.DataFrame(rows, columns=["key", *flat])


def _is_absent_section(key: str, flat: Mapping[str, Mapping[str, object]]) -> bool:
    """Whether some configurations have null where others have a section, whose keys are shown."""
    return all(values.get(key) is None for values in flat.values()) and any(
        other.startswith(f"{key}.") for values in flat.values() for other in values
    )


def flattened(values: object, path: str = "") -> list[tuple[str, object]]:
    """The plain values of a tree with their key paths."""
    if isinstance(values, dict) and values:
        items = [(f"{path}.{key}".lstrip("."), value) for key, value in values.items()]
    elif isinstance(values, list) and any(isinstance(item, dict | list) for item in values):
        items = [(f"{path}[{index}]", value) for index, value in enumerate(values)]
    else:
        return [(path, values)]
    return [found for key, value in items for found in flattened(value, key)]
