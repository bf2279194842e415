"""The rows by which methods are judged, with measures that come from several columns."""

import pandas

from experiment.reporting.records import REFERENCE
from experiment.reporting.summary import evaluated

X_AXES = {
    "prune_ratio": "parameters removed (%)",
    "flop_reduction": "FLOPs removed (%)",
    "keep_ratio": "parameters kept (%), logarithmic",
}
Y_AXES = {
    "test_accuracy": "test accuracy (%)",
    "difference": "test accuracy, difference to the unpruned net (points)",
    "accuracy_before_retraining": "test accuracy before retraining (%)",
    "validation_accuracy": "validation accuracy (%)",
    "test_top5": "test accuracy, top 5 (%)",
    "test_loss": "test loss (cross entropy)",
}
SHARES = frozenset([*X_AXES, *Y_AXES, "flop_keep_ratio"]) - {
    "test_loss"
}  # which are shown in percent


def references(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of the unpruned nets."""
    return rows[rows["method"] == REFERENCE]


def judged(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The pruned nets by which methods are judged, with FLOPs removed and differences.

    The difference is that of the test accuracy to the same net before pruning; it is empty until
    that is measured.
    """
    unpruned = references(rows).set_index("net_seed")["test_accuracy"]
    pruned = evaluated(rows)
    return pruned.assign(
        flop_reduction=1 - pruned["flop_keep_ratio"],
        difference=pruned["test_accuracy"] - pruned["net_seed"].map(unpruned),
    )
