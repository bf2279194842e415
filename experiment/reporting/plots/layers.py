"""How much of each layer is left at each step, as a heat map for each method."""

import pandas
from matplotlib.figure import Figure

from experiment.reporting.plots.figures import literal

COLOURS = "viridis"  # grows lighter, so that it can be read in grey
HEIGHT_OF_STEP = 0.16  # inches
WIDTH_OF_LAYER = 0.2
SMALLEST, LARGEST = 4.0, 30.0  # inches of the width


def layers_by_step(layers: pandas.DataFrame) -> Figure:
    """Draw the mean over nets of the shares kept, one row for each method.

    Args:
        layers: the rows of layers.csv.
    """
    names = layers["layer"].unique().tolist()
    steps = sorted(layers["step"].unique())
    methods = layers["method"].unique().tolist()
    width = min(LARGEST, max(SMALLEST, 2.2 + WIDTH_OF_LAYER * len(names)))
    height = 1.6 + len(methods) * (0.5 + HEIGHT_OF_STEP * max(3, len(steps)))
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(len(methods), 1, sharex=True, squeeze=False)[:, 0]
    for axes, method in zip(panels, methods):
        of_method = layers[layers["method"] == method]
        means = of_method.pivot_table(index="step", columns="layer", values="keep_ratio")
        shown = 100 * means.reindex(index=steps, columns=names)
        image = axes.imshow(shown, aspect="auto", cmap=COLOURS, vmin=0, vmax=100)
        axes.set_title(literal(method), fontsize=9)
        axes.set_ylabel("step", fontsize=8)
        shown_steps = range(0, len(steps), 1 + len(steps) // 8)
        axes.set_yticks(shown_steps, [steps[index] for index in shown_steps], fontsize=7)
    panels[-1].set_xticks(range(len(names)), map(literal, names), rotation=90, fontsize=7)
    figure.colorbar(image, ax=panels.tolist(), label="weights kept (%)", shrink=0.8)
    return figure
