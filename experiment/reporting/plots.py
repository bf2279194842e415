"""Figures from the rows of results.csv. Knows nothing of nets."""

import hashlib
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb

from experiment.reporting.summary import evaluated

# One colour a method, the same in every figure; a method of one's own gets one by its name.
FEW = 6  # curves with a legend among them
COLOURS = {
    "SiPP": "#d62728",
    "SiPPRand": "#ff7f0e",
    "SiPPHybrid": "#9467bd",
    "WT": "#1f77b4",
    "WTLayer": "#17becf",
    "SNIP": "#2ca02c",
    "GraSP": "#8c564b",
    "SynFlow": "#e377c2",
    "Wanda": "#bcbd22",
    "Uniform": "#7f7f7f",
    "L1Sampling": "#6baed6",
    "L2Sampling": "#74c476",
    "L1L2Sampling": "#c5b0d5",
    "Random": "#bdbdbd",
    "PFP": "#a50f15",
    "PFPRand": "#fdae6b",
    "PFPTop": "#dd1c77",
    "FT": "#08519c",
    "SoftNet": "#54278f",
    "ThiNet": "#006d2c",
    "UniformFilters": "#525252",
}
SPARE_COLOURS = [
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
    "#393b79",
    "#637939",
    "#8c6d31",
    "#843c39",
    "#7b4173",
    "#3182bd",
    "#e6550d",
    "#31a354",
    "#756bb1",
    "#636363",
]
MARKERS = "os^vDP"


def colour_of(method: str) -> str:
    """The colour of a method, by its name without options for a shipped one."""
    if method in COLOURS:
        return COLOURS[method]
    digest = hashlib.sha256(method.encode()).digest()
    return SPARE_COLOURS[digest[0] % len(SPARE_COLOURS)]


def mean_and_spread(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Mean prune ratio, and mean and standard deviation of the test accuracy, step by step over nets.

    Repetitions of one net are averaged first. With one net the deviation is 0.
    """
    by_net = rows.groupby(["step", "net_seed"])[["prune_ratio", "test_accuracy"]].mean()
    by_step = by_net.groupby("step")
    table = by_step.mean()
    table["deviation"] = by_step["test_accuracy"].std(ddof=1).fillna(0.0)
    return table.sort_values("prune_ratio")


def accuracy_vs_sparsity(rows: pandas.DataFrame, path: Path) -> Path:
    """Draw test accuracy against prune ratio, one curve a method; write `path`.png and .pdf, return the first.

    Where some steps are retrained only those are drawn: the steps between them show nets on their way.
    """
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    reference, nets = rows[rows["method"] == "reference"], rows["net_seed"].nunique()
    pruned = evaluated(rows)
    if len(reference):
        accuracy = 100 * reference["test_accuracy"].mean()
        axes.axhline(
            accuracy,
            color="black",
            linestyle="--",
            linewidth=1,
            label=f"unpruned ({accuracy:.1f}%)",
        )
    for method in pruned["method"].drop_duplicates():
        curve = pruned[pruned["method"] == method]
        finished = curve["net_seed"].nunique()
        label = method if finished == nets else f"{method} ({finished} of {nets} nets)"
        _draw_curve(axes, curve, colour_of(method), label)
    axes.set_title(_title(rows), fontsize=10)
    axes.set_xlabel("prune ratio: parameters removed (%)")
    axes.set_ylabel("test accuracy (%)")
    axes.grid(alpha=0.3)
    if pruned["method"].nunique() > FEW:
        figure.set_size_inches(9, 5)
        figure.legend(loc="outside right upper", fontsize=9)
    else:
        axes.legend(loc="lower left", fontsize=9)
    return _save(figure, path)


def sweep_accuracy_vs_sparsity(runs: list[tuple[str, pandas.DataFrame]], path: Path) -> Path:
    """Draw test accuracy against prune ratio for all runs of a sweep; write `path`.png and .pdf, return the first.

    `runs` are labels with the rows of their results. One panel a method, one curve a run, in the order of `runs` from
    light to dark shades of the method's colour, or through viridis if there is one method only.
    """
    rows = pandas.concat([of_run for _, of_run in runs], ignore_index=True)
    methods = evaluated(rows)["method"].drop_duplicates().tolist() or ["unpruned"]
    figure, panels = plt.subplots(
        1,
        len(methods),
        figsize=(1 + 5 * len(methods), 4.2 + 0.06 * len(runs)),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axes, method in zip(panels[0], methods):
        colours = _shades(method) if len(methods) > 1 else plt.get_cmap("viridis")
        _draw_sweep_panel(axes, method, runs, colours)
    panels[0][0].set_ylabel("test accuracy (%)")
    figure.suptitle(_title(rows), fontsize=10)
    return _save(figure, path)


def _draw_sweep_panel(
    axes: plt.Axes, method: str, runs: list[tuple[str, pandas.DataFrame]], colours: Colormap
) -> None:
    """The curves of one method; a dashed line for each accuracy of unpruned nets, black if all runs share it."""
    unpruned = [
        100 * rows.loc[rows["method"] == "reference", "test_accuracy"].mean() for _, rows in runs
    ]
    shared = len(set(unpruned)) == 1
    if shared:
        axes.axhline(
            unpruned[0],
            color="black",
            linestyle="--",
            linewidth=1,
            label=f"unpruned ({unpruned[0]:.1f}%)",
        )
    for index, (label, rows) in enumerate(runs):
        colour = colours(index / max(1, len(runs) - 1))
        pruned = evaluated(rows)
        pruned = pruned[pruned["method"] == method]
        if not shared:
            axes.axhline(
                unpruned[index],
                color=colour,
                linestyle="--",
                linewidth=0.8,
                label=None if len(pruned) else f"unpruned, {label} ({unpruned[index]:.1f}%)",
            )
        if len(pruned):
            _draw_curve(
                axes,
                pruned,
                colour,
                f"{method}, {label}",
                marker=MARKERS[index % len(MARKERS)],
                band=0.4 / (1 + len(runs)),
            )
    axes.set_title(method, fontsize=9)
    axes.set_xlabel("prune ratio: parameters removed (%)")
    axes.grid(alpha=0.3)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=6, ncols=3 if len(runs) > 8 else 2
    )


def _draw_curve(
    axes: plt.Axes,
    pruned: pandas.DataFrame,
    colour: str | tuple,
    label: str,
    *,
    marker: str = "o",
    band: float = 0.2,
) -> None:
    """Mean accuracy against mean prune ratio, with a band of that opacity, one standard deviation over nets."""
    curve = mean_and_spread(pruned)
    x, mean, deviation = (
        100 * curve["prune_ratio"],
        100 * curve["test_accuracy"],
        100 * curve["deviation"],
    )
    axes.plot(x, mean, marker=marker, markersize=3.5, linewidth=1.5, color=colour, label=label)
    axes.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=band, linewidth=0)


def _shades(method: str) -> Colormap:
    """From a light to a dark shade of the method's colour."""
    red, green, blue = to_rgb(colour_of(method))
    light = [1 - 0.45 * (1 - part) for part in (red, green, blue)]
    dark = [0.35 * part for part in (red, green, blue)]
    return LinearSegmentedColormap.from_list(method, [light, (red, green, blue), dark])


def _title(rows: pandas.DataFrame) -> str:
    """Networks and data sets, and what the bands are."""
    nets = rows["net_seed"].nunique()
    band = f", mean of {nets} nets with a band of one standard deviation" if nets > 1 else ""
    return f"{', '.join(rows['network'].unique())} on {', '.join(rows['dataset'].unique())}{band}"


def certificate_vs_measurement(rows: pandas.DataFrame, path: Path) -> Path:
    """Draw, for each layer, the certified against the measured relative error of its units (95th percentiles).

    One panel a method, one colour a keep ratio; above the diagonal the certificate is the larger. Write `path`.png
    and .pdf, return the first.
    """
    methods = rows["method"].drop_duplicates().tolist()
    figure, panels = plt.subplots(
        1,
        len(methods),
        figsize=(1 + 4 * len(methods), 4.2),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    ratios = sorted(rows["keep_ratio_requested"].unique(), reverse=True)
    places = [index / max(1, len(ratios) - 1) for index in range(len(ratios))]
    colours = dict(zip(ratios, plt.get_cmap("viridis")(places)))
    shown = rows[(rows["measured_p95"] > 0) & (rows["certified_p95"] > 0)]
    for axes, method in zip(panels[0], methods):
        for ratio, points in shown[shown["method"] == method].groupby(
            "keep_ratio_requested", sort=False
        ):
            axes.scatter(
                points["measured_p95"],
                points["certified_p95"],
                s=14,
                color=colours[ratio],
                label=f"{ratio:.3g} kept",
                alpha=0.8,
            )
        if len(shown):
            ends = [
                shown[["measured_p95", "certified_p95"]].min().min(),
                shown["certified_p95"].max(),
            ]
            axes.plot(ends, ends, color="black", linestyle="--", linewidth=1)
        axes.set(xscale="log", yscale="log", title=method, xlabel="measured relative error")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("certified relative error")
    panels[0][-1].legend(fontsize=8)
    figure.suptitle(
        f"{rows['network'].iloc[0]} on {rows['dataset'].iloc[0]}: 95th percentiles by layer, "
        f"|S| = {rows['sample_size'].iloc[0]}",
        fontsize=10,
    )
    return _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> Path:
    """Write `path`.pdf and .png; return the latter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".pdf", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=150)
    plt.close(figure)
    return path.with_suffix(".png")
