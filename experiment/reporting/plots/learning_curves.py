"""Loss and accuracy over the epochs of training and retraining."""

import numpy
import pandas
from matplotlib.figure import Figure

from experiment.reporting.plots.colours import method_colours
from experiment.reporting.plots.curves import DASHES
from experiment.reporting.plots.figures import literal
from experiment.reporting.records import REFERENCE

MEASURES = ["train_loss", "validation_loss", "validation_accuracy"]


def learning_curves(epochs: pandas.DataFrame) -> Figure:
    """Draw the training of the unpruned nets, and the retrainings of each method in their order.

    Args:
        epochs: the rows of training.csv.
    """
    training = epochs[epochs["method"] == REFERENCE]
    retraining = epochs[epochs["method"] != REFERENCE]
    columns = 2 if len(retraining) else 1
    figure = Figure(figsize=(1 + 4.2 * columns, 5.6), layout="constrained")
    panels = figure.subplots(2, columns, sharex="col", squeeze=False)
    _draw_training(panels[:, 0], training)
    panels[0, 0].set_title("training of the unpruned nets", fontsize=10)
    if len(retraining):
        _draw_retrainings(panels[:, 1], retraining)
        panels[0, 1].set_title("retrainings, one after the other", fontsize=10)
    panels[0, 0].set_ylabel("cross entropy")
    panels[1, 0].set_ylabel("validation accuracy (%)")
    for axes in panels[1]:
        axes.set_xlabel("epoch")
    for axes in panels.flat:
        axes.grid(alpha=0.3)
    for axes in panels[0]:
        axes.legend(fontsize=7)
    return figure


def _draw_training(panels: numpy.ndarray, rows: pandas.DataFrame) -> None:
    means = rows.groupby("epoch")[MEASURES].mean()
    panels[0].plot(means.index, means["train_loss"], color="black", label="training images")
    panels[0].plot(
        means.index,
        means["validation_loss"],
        color="dimgrey",
        linestyle="--",
        label="validation images",
    )
    panels[1].plot(means.index, 100 * means["validation_accuracy"], color="black")


def _draw_retrainings(panels: numpy.ndarray, rows: pandas.DataFrame) -> None:
    """The epochs of all steps are counted on, the loss is that of the training images."""
    methods = rows["method"].unique().tolist()
    colours = method_colours(methods)
    for index, method in enumerate(methods):
        of_method = rows[rows["method"] == method]
        means = of_method.groupby(["step", "epoch"])[MEASURES].mean()
        numbers = range(1, len(means) + 1)
        dashes = DASHES[index % len(DASHES)]
        for axes, values in (
            (panels[0], means["train_loss"]),
            (panels[1], 100 * means["validation_accuracy"]),
        ):
            axes.plot(
                numbers,
                values,
                color=colours[method],
                linestyle=dashes,
                linewidth=1.2,
                label=literal(method),
            )
