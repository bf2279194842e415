"""Curves in Weights & Biases."""

from typing import Literal

from experiment.core.registry import TRACKERS
from experiment.reporting.tracking import About, Axis, Tracker


@TRACKERS.register
class wandb(Tracker):
    """Curves in Weights & Biases, online or in `wandb/` of the run directory for `wandb sync`."""

    package = "wandb"
    to_install = "wandb"

    def __init__(
        self,
        *,
        project: str = "pruning",
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
    ):
        self.project = project
        self.entity = entity
        self.mode = mode  # None: as the environment variable WANDB_MODE says, else online

    def start(self, about: About) -> None:
        import wandb

        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            dir=str(about.directory),
            id=about.run_id,
            name=about.title,
            config=about.settings,
            resume="allow",  # a run that goes on is the same one there
            reinit="create_new",  # several runs may be going on in this process
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True
            ),
        )
        for axis, kinds in (("step", ("results", "corruptions")), ("epoch", ("epochs",))):
            self.run.define_metric(axis, hidden=True)
            for kind in kinds:
                self.run.define_metric(f"{kind}/*", step_metric=axis)

    def log(self, axis: Axis, position: int, values: dict[str, float]) -> None:
        self.run.log({axis: position, **values})

    def finish(self) -> None:
        self.run.finish()
