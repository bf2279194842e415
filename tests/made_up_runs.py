"""Runs whose numbers can be computed by hand, for tests of the report."""

import pandas

from experiment.config.schema import Config
from experiment.reporting.report.content import RunContent
from experiment.reporting.summary import summarise

RATIOS = (0.5, 0.2, 0.1)  # kept at steps 1, 2 and 3


def accuracy(method_index: int, net: int, step: int) -> float:
    """0.9 or 0.92 for the unpruned nets; each step costs 0.01 for the first method, then more."""
    return round(0.9 + 0.02 * net - 0.01 * (1 + method_index) * step, 6)


def made_up_rows(methods=("SiPP", "WT"), num_nets: int = 2, **values) -> pandas.DataFrame:
    """The rows of results.csv of a run in which all steps were retrained."""
    rows = [_row("reference", 0, net, 0, 1.0) for net in range(num_nets)]
    rows += [
        _row(method, index, net, step, ratio)
        for net in range(num_nets)
        for index, method in enumerate(methods)
        for step, ratio in enumerate(RATIOS, 1)
    ]
    return pandas.DataFrame(rows).assign(**values)


def _row(method: str, index: int, net: int, step: int, kept: float) -> dict[str, object]:
    reached = accuracy(index, net, step)
    return {
        "network": "lenet5",
        "dataset": "digits",
        "method": method,
        "net_seed": net,
        "repetition": 0,
        "step": step,
        "keep_ratio_requested": kept,
        "keep_ratio": kept,
        "prune_ratio": 1 - kept,
        "flop_keep_ratio": (1 + kept) / 2,
        "retrained": step > 0,
        "accuracy_before_retraining": reached - 0.1 * (step > 0),
        "validation_accuracy": reached,
        "test_accuracy": reached,
        "test_top5": 1.0,
        "test_loss": 1 - reached,
        "prune_seconds": 1.0 * (step > 0),
        "retrain_seconds": 10.0,
        "empty_layers": 0,
        "constant_output": False,
        "note": None,
    }


def made_up_layers(methods=("SiPP", "WT")) -> pandas.DataFrame:
    """Shares kept by layer: conv1 twice as much as fc."""
    return pandas.DataFrame(
        [
            {"method": method, "layer": layer, "step": step, "keep_ratio": share * ratio}
            for method in methods
            for layer, share in (("conv1", 1.0), ("fc", 0.5))
            for step, ratio in enumerate(RATIOS, 1)
        ]
    )


def made_up_run(rows: pandas.DataFrame | None = None, margin: float = 0.02, **values) -> RunContent:
    """A finished run with these rows; `values` replace what is said of it."""
    rows = made_up_rows() if rows is None else rows
    config = Config(network={"name": "lenet5"}, pruning={"commensurate_margin": margin})
    content = {
        "label": "only",
        "directory": "results/small/only",
        "state": "done",
        "config": config,
        "num_expected": len(rows),
        "rows": rows,
        "summary": summarise(rows, margin) if len(rows) else pandas.DataFrame(),
    }
    return RunContent(**{**content, **values})
