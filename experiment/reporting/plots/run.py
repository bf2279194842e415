"""The figures of a run."""

from collections.abc import Callable
from pathlib import Path

import pandas
from matplotlib.figure import Figure

from experiment.reporting.measures import judged, references
from experiment.reporting.plots.curves_of_runs import draw
from experiment.reporting.plots.figures import save
from experiment.reporting.plots.layers import layers_by_step
from experiment.reporting.plots.learning_curves import learning_curves
from experiment.reporting.plots.retraining import before_and_after_retraining
from experiment.reporting.plots.times import time_by_phase

MAIN = "accuracy_vs_sparsity"

# Of pruned nets, from the rows of results.csv:
OF_PRUNED: dict[str, Callable[[pandas.DataFrame], Figure]] = {
    "accuracy_vs_flops": lambda rows: draw({"": rows}, x="flops"),
    "difference_to_unpruned": lambda rows: draw({"": rows}, y="delta"),
    "loss_vs_sparsity": lambda rows: draw({"": rows}, y="loss"),
    "before_and_after_retraining": before_and_after_retraining,
    "time_by_phase": time_by_phase,
}
# From the rows of training.csv:
OF_EPOCHS: dict[str, Callable[[pandas.DataFrame], Figure]] = {"learning_curves": learning_curves}
# From the rows of layers.csv:
OF_LAYERS: dict[str, Callable[[pandas.DataFrame], Figure]] = {"layers": layers_by_step}


def draw_all(
    rows: pandas.DataFrame,
    epochs: pandas.DataFrame,
    layers: pandas.DataFrame,
    tests: pandas.DataFrame,
    folder: Path,
) -> Path:
    """Write all figures of a run, each as PNG and PDF.

    Args:
        rows: those of results.csv.
        epochs: those of training.csv.
        layers: those of layers.csv.
        tests: those of holdout.csv.
        folder: where the files go.

    Returns:
        The path of the main figure's PNG.
    """
    main = save(draw({"": rows}, tests={"": tests}), folder / MAIN)
    can_be_judged = len(judged(rows)) and len(references(rows))
    for figures, table in (
        (OF_PRUNED, rows if can_be_judged else ()),
        (OF_EPOCHS, epochs),
        (OF_LAYERS, layers),
    ):
        if len(table):
            for name, figure_of in figures.items():
                save(figure_of(table), folder / name)
    return main
