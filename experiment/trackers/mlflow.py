"""Metrics in MLflow."""

import re
import time
from typing import Any

from experiment.core.registry import TRACKERS
from experiment.reporting.tracking import About, Axis, Tracker

RUN_ID = "pruning.run_id"  # the tag by which a run that goes on is found
NOT_ALLOWED = re.compile(r"[^\w\-. /]")  # in the name of a metric
LONGEST_SETTING = 500  # characters
MOST_AT_ONCE = 100  # settings


@TRACKERS.register
class mlflow(Tracker):
    """Metrics in MLflow, where `tracking_uri` or the variable MLFLOW_TRACKING_URI says."""

    package = "mlflow"
    to_install = "mlflow-skinny"

    def __init__(self, *, tracking_uri: str | None = None, experiment: str = "pruning"):
        self.tracking_uri = tracking_uri
        self.experiment = experiment

    def start(self, about: About) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(self.tracking_uri)
        self.run_id = self._found(about) or self._created(about)
        self.client.update_run(self.run_id, status="RUNNING")

    def log(self, axis: Axis, position: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(NOT_ALLOWED.sub("-", name), value, now, position)
            for name, value in values.items()
        ]
        self.client.log_batch(self.run_id, metrics)

    def finish(self) -> None:
        self.client.set_terminated(self.run_id)

    def _found(self, about: About) -> str | None:
        """The run that MLflow has of the same experiment."""
        found = self.client.search_runs(
            [self._experiment_id()], f"tags.`{RUN_ID}` = '{about.run_id}'", max_results=1
        )
        return found[0].info.run_id if found else None

    def _created(self, about: About) -> str:
        from mlflow.entities import Param

        run = self.client.create_run(
            self._experiment_id(), tags={RUN_ID: about.run_id}, run_name=about.title
        )
        settings = [Param(key, str(value)[:LONGEST_SETTING]) for key, value in flat(about.settings)]
        for start in range(0, len(settings), MOST_AT_ONCE):
            self.client.log_batch(run.info.run_id, params=settings[start : start + MOST_AT_ONCE])
        return run.info.run_id

    def _experiment_id(self) -> str:
        experiment = self.client.get_experiment_by_name(self.experiment)
        return experiment.experiment_id if experiment else self._new_experiment()

    def _new_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.create_experiment(self.experiment)
        except MlflowException:  # another run may have made it just now
            experiment = self.client.get_experiment_by_name(self.experiment)
            if experiment is None:
                raise
            return experiment.experiment_id


def flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings by key path."""
    pairs = []
    for key, value in settings.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else []
        pairs += inner or [(f"{prefix}{key}", value)]
    return pairs
