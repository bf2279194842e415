"""A running experiment as people see it: its summary, figures, report and trackers."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from experiment.config.schema import Config
from experiment.core.errors import StorageError, UserError, details_of, one_line
from experiment.reporting.logger import Logger
from experiment.reporting.records import TrainingRecord
from experiment.reporting.run_files import write_corruptions, write_plots, write_summary
from experiment.reporting.tables import load_results
from experiment.reporting.tracking import SHORT_PATIENCE, About, Row, Tracking, build_tracker
from experiment.runs.report import write_report

SHARE_OF_TIME = 0.02  # of a process, that drawing may take while tasks are left


@dataclass(frozen=True)
class Written:
    """What is there to be looked at."""

    report: Path
    plot: Path | None = None  # None if no net was measured
    summary: str = ""  # as text


class Live:
    """Draws what was found so far, now and then, and tells trackers of every row."""

    _next: ClassVar[float] = 0.0  # when any of the runs that go on in this process may be drawn

    def __init__(self, config: Config, directory: Path, logger: Logger):
        self.directory = directory
        self.logger = logger
        self.margin = config.pruning.commensurate_margin
        self.tracking = Tracking(
            [(part.name, build_tracker(part.name, part.options)) for part in config.logging],
            About(
                run_id=config.run_id(),
                title=f"{directory.parent.name} {directory.name}",
                directory=directory,
                settings=config.model_dump(),
                epochs_per_step=config.retraining.epochs,
            ),
            logger,
        )
        self._is_outdated = False

    def add(self, row: Row) -> None:
        """There is a new row, which its table holds already or will hold next."""
        self.tracking.add(row)
        self._is_outdated |= not isinstance(row, TrainingRecord)

    def refresh(self) -> None:
        """Draw what is new, unless that would take too much of the time.

        Nothing but a file that cannot be written ends the run: it is drawn again at the end.
        """
        start = time.monotonic()
        if not self._is_outdated or start < Live._next:
            return
        try:
            self._write(is_concluded=False)
        except StorageError:
            raise
        except Exception as error:
            self.logger.note(f"cannot be drawn yet: {one_line(error)}\n{details_of(error)}")
        self._is_outdated = False
        now = time.monotonic()
        Live._next = now + (now - start) / SHARE_OF_TIME

    def conclude(self) -> Written:
        """Draw everything, and let the trackers end.

        Raises:
            StorageError: if that cannot be written, or the tables are no longer there.
        """
        try:
            return self._write(is_concluded=True)
        except UserError as error:
            raise StorageError(
                f"the files of the run have vanished meanwhile: {error}; run the same command "
                f"again to write what is missing"
            ) from error
        finally:
            self.tracking.close()

    def abandon(self) -> None:
        """The run is interrupted, which its report says from now on."""
        with contextlib.suppress(StorageError, UserError):
            write_report(self.directory, is_concluded=True)
        self.tracking.close(SHORT_PATIENCE)

    def _write(self, *, is_concluded: bool) -> Written:
        rows = load_results(self.directory)
        if not len(rows):
            return Written(write_report(self.directory, is_concluded=is_concluded))
        summary = write_summary(rows, self.directory, self.margin)
        plot = write_plots(rows, self.directory)
        corruptions = write_corruptions(rows, self.directory, self.margin)
        text = "\n".join(filter(None, (summary, corruptions)))
        return Written(write_report(self.directory, is_concluded=is_concluded), plot, text)
