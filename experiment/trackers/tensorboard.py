"""Scalars for TensorBoard."""

import shutil

from experiment.core.registry import TRACKERS
from experiment.reporting.tracking import About, Axis, Tracker

FOLDER = "tensorboard"  # in the directory of the run
FLUSH_SECONDS = 5  # that a scalar may wait until it is in the file


@TRACKERS.register
class tensorboard(Tracker):
    """Scalars in `tensorboard/` of the run directory: `tensorboard --logdir results`."""

    package = "tensorboard"
    to_install = "tensorboard"

    def start(self, about: About) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = about.directory / FOLDER
        if folder.is_dir():
            shutil.rmtree(folder)  # all rows are told again
        self.writer = SummaryWriter(str(folder), flush_secs=FLUSH_SECONDS)

    def log(self, axis: Axis, position: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, position)

    def finish(self) -> None:
        self.writer.close()
