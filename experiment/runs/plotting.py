"""The figure of `python -m experiment plot`: one or several runs, without torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.core.errors import UserError
from experiment.runs.found import FoundRun
from experiment.runs.report import reported_runs

if TYPE_CHECKING:
    import pandas

FORMATS = (".png", ".pdf", ".svg")
BESIDE_RUN = "plots"


def plot_runs(
    directories: Sequence[Path],
    *,
    x: str,
    y: str,
    log: bool = False,
    published: str | None = None,
    target: Path | None = None,
) -> Path:
    """Draw runs, all those below each directory, in one figure. Returns the path of the file.

    Args:
        directories: of runs, of sweeps, or directories that hold runs.
        x, y, log: see `experiment.reporting.plots.curves_of_runs.draw`.
        published: draw published points beside them, of this data set; of the run's own if it is
            empty. None: do not.
        target: a file whose suffix says its format; by default a PNG in `plots/` of a single run,
            or in the current directory.

    Raises:
        UserError: for a wrong axis or format, or where nothing can be drawn.
        StorageError: if the file cannot be written.
    """
    if target is not None and target.suffix not in FORMATS:
        raise UserError(f"-o {target}: the file must end with {', '.join(FORMATS)}")
    found = _labelled(directories)

    import pandas

    from experiment.reporting.plots.curves_of_runs import draw
    from experiment.reporting.plots.figures import save_as

    rows = {label: run.results for label, run in found.items() if run.num_rows}
    found = {label: found[label] for label in rows}
    if not rows:
        raise UserError(f"{directories[0]}: no net is measured yet, so there is nothing to draw")
    points = None
    if published is not None:
        tables = published_points(found, published)
        points = pandas.concat(tables.values()).drop_duplicates()
    tests = {label: run.tests for label, run in found.items()}
    figure = draw(rows, x=x, y=y, log=log, published=points, tests=tests)
    path = target or _default_path(list(found.values()), x, y, log)
    save_as(figure, path)
    return path


def published_points(runs: Mapping[str, FoundRun], dataset: str) -> "dict[str, pandas.DataFrame]":
    """The published points beside each run; see `plot_runs`. Raises UserError if none has any."""
    from experiment.reporting.published import published_beside

    points = {label: published_beside(run.config, dataset or None) for label, run in runs.items()}
    if not any(map(len, points.values())):
        hint = ". If the run calls its data set otherwise, name it: --published CIFAR10"
        raise UserError(
            f"--published: no published result is of the same network, data set, schedule and "
            f"method, with retraining; paper/published.md tells what there is"
            f"{'' if dataset else hint}"
        )
    return points


def _labelled(directories: Sequence[Path]) -> dict[str, FoundRun]:
    """All runs by labels that tell them apart, each once."""
    runs: dict[Path, tuple[str, FoundRun]] = {}
    for directory in directories:
        for label, run in reported_runs(directory).items():
            runs.setdefault(run.directory.resolve(), (label, run))
    labels = [label for label, _ in runs.values()]
    if len(set(labels)) == len(labels):
        return {label: run for label, run in runs.values()}
    return {str(run.directory): run for _, run in runs.values()}


def _default_path(runs: list[FoundRun], x: str, y: str, log: bool) -> Path:
    name = f"{y}_vs_{x}{'_log' if log else ''}.png"
    return runs[0].directory / BESIDE_RUN / name if len(runs) == 1 else Path(name)
