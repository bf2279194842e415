"""Commensurate accuracy: how much can be pruned before a net is worse than it was, from the rows of results.csv."""

import pandas

CHOSEN_ON = ("test", "validation")
MEASURES = ("prune_ratio", "test_accuracy", "flop_reduction")
FAULTS = {
    "constant_output": "with an output that is the same for all samples",
    "empty_layers": "with layers that have no weight left",
}
COLUMNS = [
    "method",
    "nets",
    "commensurate_margin",
    *(
        f"{measure}_chosen_on_{chosen}_{statistic}"
        for chosen in CHOSEN_ON
        for measure in MEASURES
        for statistic in ("mean", "std")
    ),
    *(f"nets_with_{fault}" for fault in FAULTS),
    *(f"first_prune_ratio_with_{fault}" for fault in FAULTS),
]
SHORT = {
    "chosen on test": "prune_ratio_chosen_on_test",
    "FLOPs removed": "flop_reduction_chosen_on_test",
    "chosen on validation": "prune_ratio_chosen_on_validation",
    "test accuracy there": "test_accuracy_chosen_on_validation",
}
ROUNDING = 1e-9  # accuracies are counts over counts, so that an error of just the margin may be off by a rounding


def evaluated(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of pruned nets that count: where some steps are retrained, the others show nets on their way."""
    pruned = rows[rows["method"] != "reference"]
    retrained = pruned["retrained"].astype(bool)
    return pruned[retrained] if retrained.any() else pruned


def summarise(rows: pandas.DataFrame, margin: float) -> pandas.DataFrame:
    """One row a method: mean and standard deviation over nets of the best of each net (see `best`).

    Repetitions of one net are averaged first. The deviation of one net is empty.
    """
    values = ["prune_ratio", "flop_keep_ratio", "test_accuracy", "validation_accuracy"]
    references = rows[rows["method"] == "reference"].set_index("net_seed")
    steps = (
        evaluated(rows)
        .groupby(["method", "net_seed", "step"], sort=False)[values]
        .mean()
        .reset_index()
    )
    summaries = []
    for method, of_method in steps.groupby("method", sort=False):
        nets = pandas.DataFrame(
            [
                best(of_net, references.loc[net_seed], margin)
                for net_seed, of_net in of_method.groupby("net_seed")
            ]
        )
        means, deviations = nets.mean().add_suffix("_mean"), nets.std(ddof=1).add_suffix("_std")
        summaries.append(
            {
                "method": method,
                "nets": len(nets),
                "commensurate_margin": margin,
                **means,
                **deviations,
                **faults(evaluated(rows).query("method == @method")),
            }
        )
    return pandas.DataFrame(summaries, columns=COLUMNS)


def best(steps: pandas.DataFrame, reference: pandas.Series, margin: float) -> dict[str, float]:
    """The most that a net can be pruned with an error at most `margin` above that of the unpruned net.

    The rule is applied to the test set, which flatters the method since the ratio is chosen on what it is judged by,
    and to the validation set. Only ratios among `steps` count; a net without one counts as not pruned.
    """
    result = {}
    for chosen in CHOSEN_ON:
        accuracy = f"{chosen}_accuracy"
        good = steps[steps[accuracy] >= reference[accuracy] - margin - ROUNDING]
        most = good.loc[good["prune_ratio"].idxmax()] if len(good) else reference
        result |= {
            f"prune_ratio_chosen_on_{chosen}": most["prune_ratio"],
            f"test_accuracy_chosen_on_{chosen}": most["test_accuracy"],
            f"flop_reduction_chosen_on_{chosen}": 1 - good["flop_keep_ratio"].min()
            if len(good)
            else 0.0,
        }
    return result


def faults(pruned: pandas.DataFrame) -> dict[str, float]:
    """How many pruned nets no longer work, and from which prune ratio on, by kind of fault."""
    result = {}
    for fault in FAULTS:
        faulty = pruned[pruned[fault].astype(bool)]
        result |= {
            f"nets_with_{fault}": len(faulty),
            f"first_prune_ratio_with_{fault}": faulty["prune_ratio"].min(),
        }
    return result


def fault_lines(summary: pandas.DataFrame) -> list[str]:
    """One line for each method and kind of fault that occurred; names of rows come before `nets`."""
    lines = []
    for row in summary.to_dict("records"):
        name = ", ".join(
            str(row[key]) for key in summary.columns[: summary.columns.get_loc("nets")]
        )
        lines += [
            f"{name}: pruned nets {words}: {row[f'nets_with_{fault}']}, the first at prune "
            f"ratio {100 * row[f'first_prune_ratio_with_{fault}']:.5g}%"
            for fault, words in FAULTS.items()
            if row[f"nets_with_{fault}"]
        ]
    return lines


def text(summary: pandas.DataFrame) -> str:
    """A summary for people, a part of its columns; those before `nets` name the rows."""
    names = summary.columns[: summary.columns.get_loc("nets")]
    margins = " or ".join(f"{100 * margin:g}" for margin in summary["commensurate_margin"].unique())
    short = summary[names].astype(str)
    for title, column in SHORT.items():
        short[title] = [
            _percent(*pair) for pair in zip(summary[f"{column}_mean"], summary[f"{column}_std"])
        ]
    return (
        f"largest prune ratio with an error at most {margins} points above the unpruned net's, mean over nets, "
        f"chosen on the test or the validation set:\n"
        + "\n".join([short.to_string(index=False), *fault_lines(summary)])
    )


def _percent(mean: float, deviation: float) -> str:
    return f"{mean:.1%}" if pandas.isna(deviation) else f"{mean:.1%} +- {deviation:.1%}"
