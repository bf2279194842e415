"""The curves of a report: mean and deviation over nets of all that can be drawn, by step."""

from typing import Any

import pandas

from experiment.reporting.measures import SHARES, X_AXES, Y_AXES, judged, references
from experiment.reporting.plots.colours import method_colours
from experiment.reporting.report.content import RunContent
from experiment.reporting.report.numbers import without_nan

NUM_LOOKS = 24  # of curves: each of 6 markers with each of 4 kinds of lines


def axes(runs: list[RunContent]) -> dict[str, list[dict[str, Any]]]:
    """The axes to choose from."""
    retrained = any(len(run.rows) and run.rows["retrained"].any() for run in runs)
    left_out = () if retrained else ("accuracy_before_retraining",)
    return {
        name: [
            {"key": key, "label": label, "percent": key in SHARES}
            for key, label in choices.items()
            if key not in left_out
        ]
        for name, choices in (("x", X_AXES), ("y", Y_AXES))
    }


def series(runs: list[RunContent]) -> list[dict[str, Any]]:
    """One curve for each method of each run.

    A method has its colour. Curves of one run differ by marker and kind of line as well; if there
    are several runs, these tell the runs apart.
    """
    by_method = [
        judged(run.rows).groupby("method", sort=False) if len(run.rows) else () for run in runs
    ]
    colours = method_colours(method for methods in by_method for method, _ in methods)
    return [
        {
            "run": number,
            "method": method,
            "colour": colours[method],
            "look": (index if len(runs) == 1 else number) % NUM_LOOKS,
            "points": points(rows),
        }
        for number, methods in enumerate(by_method)
        for index, (method, rows) in enumerate(methods)
    ]


def points(rows: pandas.DataFrame) -> list[dict[str, Any]]:
    """The points of a curve: for each step, means over nets, and deviations of the y values.

    Repetitions of one net are averaged first. The deviation of a single net is None.

    Args:
        rows: of one method, as `judged` returns them.
    """
    steps = rows.groupby(["step", "net_seed"])
    by_net = steps[["keep_ratio_requested", *X_AXES, *Y_AXES]].mean()
    by_step = by_net.groupby("step")
    means = by_step.mean().sort_values("prune_ratio")
    deviations = by_step[list(Y_AXES)].std(ddof=1).reindex(means.index)
    nets = by_step.size().reindex(means.index)
    return [
        {
            "step": int(step),
            "nets": int(nets[step]),
            "mean": dict(zip(means.columns, mean)),
            "deviation": dict(zip(Y_AXES, deviation)),
        }
        for step, mean, deviation in zip(
            means.index, without_nan(means.round(6)), without_nan(deviations.round(6))
        )
    ]


def unpruned(run: RunContent) -> dict[str, float | None]:
    """The mean of each y value over the unpruned nets of a run; empty before there are any."""
    if not len(run.rows):
        return {}
    found = references(run.rows).assign(difference=0.0)
    if not len(found):
        return {}
    means = found[list(Y_AXES)].mean().to_frame().T
    return dict(zip(Y_AXES, without_nan(means)[0]))
