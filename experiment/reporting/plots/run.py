"""The figures of a run."""

from collections.abc import Callable
from pathlib import Path

import pandas
from matplotlib.figure import Figure

from experiment.reporting.measures import judged, references
from experiment.reporting.plots.curves_of_runs import draw
from experiment.reporting.plots.figures import save
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


def draw_all(rows: pandas.DataFrame, epochs: pandas.DataFrame, folder: Path) -> Path:
    """Write all figures of a run, each as PNG and PDF.

    Args:
        rows: those of results.csv.
        epochs: those of training.csv.
        folder: where the files go.

    Returns:
        The path of the main figure's PNG.
    """
    main = save(draw({"": rows}), folder / MAIN)
    if len(judged(rows)) and len(references(rows)):
        for name, figure_of in OF_PRUNED.items():
            save(figure_of(rows), folder / name)
    if len(epochs):
        for name, figure_of in OF_EPOCHS.items():
            save(figure_of(epochs), folder / name)
    return main
