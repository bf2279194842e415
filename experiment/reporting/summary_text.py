"""A summary as text for people: the main columns, and the nets that no longer work."""

import pandas

from experiment.reporting.guaranteed import promise
from experiment.reporting.records import CLEAN
from experiment.reporting.summary import FAULTS

SHOWN = {
    "chosen on test": "prune_ratio_chosen_on_test",
    "FLOPs removed": "flop_reduction_chosen_on_test",
    "chosen on validation": "prune_ratio_chosen_on_validation",
    "its test accuracy": "test_accuracy_chosen_on_validation",
}
GUARANTEED = {
    "guaranteed": "prune_ratio_guaranteed",
    "its drop on test": "test_accuracy_drop_guaranteed",
}


def summary_text(summary: pandas.DataFrame) -> str:
    """A heading, a table of the main columns, and one line per kind of fault that occurred."""
    margins = " or ".join(f"{100 * margin:g}" for margin in summary["commensurate_margin"].unique())
    table = summary[_naming_columns(summary)].astype(str)
    is_guaranteed = "guarantee_loss" in summary
    for title, column in {**SHOWN, **(GUARANTEED if is_guaranteed else {})}.items():
        means = summary[f"{column}_mean"]
        deviations = summary[f"{column}_std"]
        table[title] = [_percent(*pair) for pair in zip(means, deviations)]
    lines = [
        f"largest prune ratio with an error at most {margins} points above the unpruned net's, "
        f"mean over nets, chosen on the test or the validation set:",
        *_promises(summary),
        table.to_string(index=False),
        *fault_lines(summary),
    ]
    return "\n".join(lines)


def _promises(summary: pandas.DataFrame) -> list[str]:
    """What the columns of guarantees mean, if there are any."""
    if "guarantee_loss" not in summary:
        return []
    columns = ["guarantee_loss", "guarantee_at_most", "guarantee_confidence"]
    kinds = summary[columns].dropna().drop_duplicates().itertuples(index=False)
    return [f"guaranteed, by tests on images set aside: {promise(*kind)}" for kind in kinds]


def corruption_text(summary: pandas.DataFrame) -> str:
    """Rows of corruption_summary.csv for people: clean images, and the mean of corruptions.

    If images were corrupted in one way only, this way instead of the mean.
    """
    last = summary.iloc[-1]
    name = last["corruption"] + (f", severity {last['severity']}" if last["severity"] else "")
    is_last = (summary[["corruption", "severity"]] == last[["corruption", "severity"]]).all(axis=1)
    table = pandas.DataFrame(
        {
            title: {row["method"]: _potential(row) for row in rows.to_dict("records")}
            for title, rows in (
                (CLEAN, summary[summary["corruption"] == CLEAN]),
                (name, summary[is_last]),
            )
        }
    )
    table = table.fillna("-").rename_axis("method").reset_index()
    margin = 100 * last["commensurate_margin"]
    return (
        f"largest prune ratio with an error at most {margin:g} points above the unpruned net's on "
        f"the same test images, on which it is chosen:\n{table.to_string(index=False)}"
    )


def _potential(row: dict[str, float]) -> str:
    return _percent(row["prune_potential_mean"], row["prune_potential_std"])


def fault_lines(summary: pandas.DataFrame) -> list[str]:
    """One line per row of the summary and kind of fault that occurred."""
    lines = []
    for row in summary.to_dict("records"):
        name = ", ".join(str(row[column]) for column in _naming_columns(summary))
        for fault, words in FAULTS.items():
            number = row[f"nets_with_{fault}"]
            first = 100 * row[f"first_prune_ratio_with_{fault}"]
            if number:
                lines.append(
                    f"{name}: pruned nets {words}: {number}, the first at prune ratio {first:.5g}%"
                )
    return lines


def _naming_columns(summary: pandas.DataFrame) -> list[str]:
    """The columns that name the rows, which are those before `nets`: swept keys and the method."""
    return list(summary.columns[: summary.columns.get_loc("nets")])


def _percent(mean: float, deviation: float) -> str:
    if pandas.isna(mean):  # a run of a sweep without a guarantee, for instance
        return "-"
    return f"{mean:.1%}" if pandas.isna(deviation) else f"{mean:.1%} +- {deviation:.1%}"
