"""Commensurate accuracy: how far nets can be pruned before they are worse than they were."""

import pandas

from experiment.reporting.records import REFERENCE

CHOSEN_ON = ("test", "validation")
MEASURES = ("prune_ratio", "test_accuracy", "flop_reduction")
FAULTS = {
    "constant_output": "whose output is the same for all samples",
    "empty_layers": "that have layers without weights",
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
AVERAGED = ["prune_ratio", "flop_keep_ratio", "test_accuracy", "validation_accuracy"]
# Accuracies are ratios of counts: an error of just the margin may be off by a rounding error.
TOLERANCE = 1e-9


def evaluated(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of results.csv by which methods are judged: pruned nets, retrained if any are.

    If some steps are retrained, the nets of the steps between them are intermediate.
    """
    pruned = rows[rows["method"] != REFERENCE]
    retrained = pruned["retrained"].astype(bool)
    return pruned[retrained] if retrained.any() else pruned


def reaches(accuracies: pandas.Series, lowest: "float | pandas.Series") -> pandas.Series:
    """Where accuracies are at least so high, up to rounding errors."""
    return accuracies >= lowest - TOLERANCE


def summarise(rows: pandas.DataFrame, margin: float) -> pandas.DataFrame:
    """One row per method: how far its nets can be pruned, and how many no longer work.

    Args:
        rows: of results.csv. Nets of which the unpruned one is not measured yet are left out.
        margin: by how much the error may exceed that of the unpruned net, as a share of images.

    Returns:
        `COLUMNS`: mean and standard deviation over nets of what `most_pruned` finds for each net.
        Repetitions of one net are averaged first. The deviation of a single net is empty.
    """
    references = rows[rows["method"] == REFERENCE].set_index("net_seed")
    pruned_nets = evaluated(rows)
    judged = pruned_nets[pruned_nets["net_seed"].isin(references.index)]
    summaries = [
        {
            "method": method,
            "commensurate_margin": margin,
            **_over_nets(pruned, references, margin),
            **count_faults(pruned),
        }
        for method, pruned in judged.groupby("method", sort=False)
    ]
    return pandas.DataFrame(summaries, columns=COLUMNS)


def _over_nets(
    pruned: pandas.DataFrame, references: pandas.DataFrame, margin: float
) -> dict[str, float]:
    """The number of nets, and mean and standard deviation over them, for one method."""
    steps = pruned.groupby(["net_seed", "step"], sort=False)[AVERAGED].mean().reset_index()
    nets = pandas.DataFrame(
        [
            most_pruned(of_net, references.loc[net_seed], margin)
            for net_seed, of_net in steps.groupby("net_seed")
        ]
    )
    means = nets.mean().add_suffix("_mean")
    deviations = nets.std(ddof=1).add_suffix("_std")
    return {"nets": len(nets), **means, **deviations}


def most_pruned(
    steps: pandas.DataFrame, reference: pandas.Series, margin: float
) -> dict[str, float]:
    """The most that a net can be pruned with an error at most `margin` above the unpruned net's.

    The rule is applied to the test set, which flatters the method since the ratio is chosen on
    what it is judged by, and to the validation set.

    Args:
        steps: of one net, from which the ratio is chosen. If none is good enough, the net counts
            as not pruned.
        reference: the unpruned net.
        margin: as a share of images.
    """
    result = {}
    for chosen in CHOSEN_ON:
        accuracy = f"{chosen}_accuracy"
        good = steps[reaches(steps[accuracy], reference[accuracy] - margin)]
        if len(good):
            most = good.loc[good["prune_ratio"].idxmax()]
            flop_reduction = 1 - good["flop_keep_ratio"].min()
        else:
            most = reference
            flop_reduction = 0.0
        result[f"prune_ratio_chosen_on_{chosen}"] = most["prune_ratio"]
        result[f"test_accuracy_chosen_on_{chosen}"] = most["test_accuracy"]
        result[f"flop_reduction_chosen_on_{chosen}"] = flop_reduction
    return result


def count_faults(pruned: pandas.DataFrame) -> dict[str, float]:
    """How many pruned nets no longer work, and from which prune ratio on, by kind of fault."""
    result: dict[str, float] = {}
    for fault in FAULTS:
        faulty = pruned[pruned[fault].astype(bool)]
        result[f"nets_with_{fault}"] = len(faulty)
        result[f"first_prune_ratio_with_{fault}"] = faulty["prune_ratio"].min()
    return result
