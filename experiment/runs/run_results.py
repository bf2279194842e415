"""What a run or a sweep has found, to be looked at in Python and in notebooks."""

import base64
import html
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.core.columns import columns
from experiment.core.errors import UserError
from experiment.reporting.records import REFERENCE, ResultRecord, Subject
from experiment.reporting.run_files import REPORT, SUMMARY, SWEEP_RUNS
from experiment.reporting.tables import RESULTS, TRAINING, load_corruptions, load_results
from experiment.runs.found import FoundRun
from experiment.runs.report import reported_runs

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


IMAGE = '<img alt="accuracy against prune ratio" style="max-width: 700px" src="{}">'


class RunResults:
    """The results of a run or a sweep, in its directory.

    In Jupyter it shows itself: the summary, the main figure, and where the report is.
    """

    def __init__(self, directory: str | Path):
        """Of a directory in which `results.csv` lies. Raises UserError if there is none."""
        self.directory = Path(directory)
        if not (self.directory / RESULTS).is_file():
            raise UserError(f"{directory}: has no {RESULTS}, which a run or a sweep writes")

    @cached_property
    def results(self) -> "pandas.DataFrame":
        """One row per net: the columns of `experiment.load_results`."""
        return load_results(self.directory)

    @cached_property
    def summary(self) -> "pandas.DataFrame":
        """How far each method prunes at commensurate accuracy; empty if nothing was pruned."""
        return _table(self.directory / SUMMARY)

    @cached_property
    def training(self) -> "pandas.DataFrame":
        """One row per epoch; empty for a sweep, whose runs have their own."""
        return _table(self.directory / TRAINING)

    @cached_property
    def corruptions(self) -> "pandas.DataFrame":
        """One row per net and corruption of the test images; empty if none were asked for.

        Of a sweep, with a column `run` before the others: what was swept.
        """
        import pandas

        if not self._is_sweep:
            return load_corruptions(self.directory)
        by_run = {label: run.corruptions for label, run in reported_runs(self.directory).items()}
        tables = pandas.concat(by_run, names=["run"])
        return tables.reset_index("run").reset_index(drop=True)

    @cached_property
    def failures(self) -> "pandas.DataFrame":
        """What failed, where and why; empty if nothing did. Of a sweep, in any of its runs."""
        import pandas

        alone = FoundRun(self.directory)
        runs = reported_runs(self.directory).values() if self._is_sweep else [alone]
        tables = [run.failures for run in runs]
        return pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame()

    @property
    def _is_sweep(self) -> bool:
        return (self.directory / SWEEP_RUNS).is_file()

    @property
    def report(self) -> Path:
        """The page for a browser with everything in it."""
        return self.directory / REPORT

    def plot(self, x: str = "prune_ratio", y: str = "test_accuracy", log: bool = False) -> "Figure":
        """Draw one of the figures of `python -m experiment plot`, which Jupyter shows.

        Raises UserError for an axis that there is not.
        """
        from experiment.reporting.plots.curves_of_runs import draw

        return draw(self._by_run(), x=x, y=y, log=log)

    def _by_run(self) -> dict[str, "pandas.DataFrame"]:
        """The rows of each run of a sweep by what was swept; all rows of a single run."""
        swept = [name for name in self.results if name not in columns(ResultRecord)]
        swept += [name for name in columns(Subject) if self.results[name].nunique() > 1]
        if not swept:
            return {"": self.results}
        return {
            ", ".join(f"{name}={value}" for name, value in zip(swept, values)): rows
            for values, rows in self.results.groupby(swept, sort=False, dropna=False)
        }

    def __repr__(self) -> str:
        methods = [name for name in self.results["method"].unique() if name != REFERENCE]
        named = f"{len(self.results)} nets measured, {', '.join(methods) or 'nothing pruned'}"
        return f"RunResults({str(self.directory)!r}): {named}"

    def _repr_html_(self) -> str:
        """For Jupyter."""
        parts = [f"<p>{html.escape(repr(self))}</p>"]
        if len(self.failures):
            parts.append(f"<p>{len(self.failures)} failed: see <code>.failures</code></p>")
        if len(self.summary):
            parts.append(
                self.summary.to_html(index=False, float_format=lambda value: f"{value:.4g}")
            )
        parts.append(IMAGE.format(self._image()))
        link = html.escape(str(self.report), quote=True)
        parts.append(f'<p><a href="{link}">report.html</a></p>')
        return "\n".join(parts)

    def _image(self) -> str:
        """The main figure as the address of an image."""
        from experiment.reporting.plots.figures import content_of

        return f"data:image/png;base64,{base64.b64encode(content_of(self.plot(), 'png')).decode()}"


def _table(path: Path) -> "pandas.DataFrame":
    """The rows of a table; none if it is not there. Raises UserError if it cannot be read."""
    import pandas

    try:
        return pandas.read_csv(path)
    except (FileNotFoundError, pandas.errors.EmptyDataError):
        return pandas.DataFrame()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
