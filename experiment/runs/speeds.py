"""How fast the parts of experiments are on a device, each measured once."""

from collections.abc import Callable
from typing import Any, get_args

import torch

from experiment.config.schema import Config, Part, Training
from experiment.data.dataset import Shape
from experiment.data.loading import (
    allowed_sample_size,
    num_choosing,
    num_validation,
    shape_of,
)
from experiment.runs.cost import Images
from experiment.runs.tasks import Prune
from experiment.runs.timing import (
    PruningSpeed,
    TrainingSpeed,
    measure_evaluation,
    measure_pruning,
    measure_training,
    random_data,
    sample_sizes,
)
from experiment.runs.workplace import Workplace
from experiment.sensitivity.sample_size import sample_size
from experiment.training.precision import Precision

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class MeasuredSpeeds:
    """Measures what is asked for, once for all experiments that agree in what it depends on."""

    def __init__(self, device: str):
        self.device = torch.device(device)
        self._known: dict[tuple, Any] = {}

    @property
    def device_name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        threads = torch.get_num_threads()
        return f"{self.device.type} with {threads} thread{'s' * (threads > 1)}"

    def shape(self, config: Config) -> Shape:
        """The shape of the data set. Raises UserError if its files must be there to know it."""
        key = ("shape", config.dataset.model_dump_json())
        return self._once(key, lambda: shape_of(config.dataset))

    def images(self, config: Config) -> Images:
        """The sizes of the splits; a data set that does not tell has no test images."""
        shape = self.shape(config)
        validation = num_validation(config.dataset, shape.num_train)
        return Images(shape.num_train - validation, validation, shape.num_test or 0)

    def training(self, config: Config, settings: Training, precision: Precision) -> float | None:
        return self.training_speeds(config, settings)[precision].seconds_per_image

    def training_speeds(self, config: Config, settings: Training) -> dict[Precision, TrainingSpeed]:
        """In each precision; steps of the configured batch size, optimiser and compilation."""
        kind = (settings.batch_size, settings.optimizer.name, settings.compile, config.num_at_once)
        return self._once(
            ("training", *self._net_key(config), *kind),
            lambda: self._in_each_precision(config, settings),
        )

    def _in_each_precision(
        self, config: Config, settings: Training
    ) -> dict[Precision, TrainingSpeed]:
        measured = measure_training(
            self._workplace(config),
            config.network,
            [settings.model_copy(update={"precision": precision}) for precision in PRECISIONS],
            config.num_at_once,
            self.evaluation(config),
        )
        return dict(zip(PRECISIONS, measured))

    def evaluation(self, config: Config) -> float:
        return self._once(
            ("evaluation", *self._net_key(config)),
            lambda: measure_evaluation(self._workplace(config), config.network),
        )

    def pruning(self, config: Config, task: Prune, *, shared: bool) -> float:
        speeds = self.pruning_speeds(config, task)
        return speeds[shared].at(self.sample_size(config))

    def pruning_speeds(self, config: Config, task: Prune) -> tuple[PruningSpeed, PruningSpeed]:
        """Of a first pruning of a net, and of another one of the same net."""
        label = task.method.label
        sizes = sample_sizes(self.evaluation(config))
        manner = (task.min_kept_per_layer, task.round_channels)
        return self._once(
            ("pruning", *self._net_key(config), label, *manner),
            lambda: measure_pruning(self._workplace(config, 2 * max(sizes)), task, sizes),
        )

    def sample_size(self, config: Config) -> int:
        """|S|, as far as the validation images go."""
        pruning = config.pruning
        asked = pruning.sample_size or self._once(
            ("sample size", *self._net_key(config), pruning.delta),
            lambda: _sample_size(self._workplace(config), config.network, pruning.delta),
        )
        num_images = self.images(config).validation
        return allowed_sample_size(asked, num_choosing(num_images, config.guarantee is not None))

    def _workplace(self, config: Config, num_validation: int = 1) -> Workplace:
        return Workplace(random_data(self.shape(config), num_validation, self.device), self.device)

    def _net_key(self, config: Config) -> tuple:
        shape = self.shape(config)
        return config.network.model_dump_json(), shape.input_shape, shape.num_classes

    def _once(self, key: tuple, measure: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = measure()
        return self._known[key]


def _sample_size(workplace: Workplace, network: Part, delta: float) -> int:
    """|S| as the theory asks for it."""
    return sample_size(workplace.net(network), workplace.example, delta)
