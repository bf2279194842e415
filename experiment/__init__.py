"""Pruning experiments from one YAML file, and the same parts for use from Python.

For a net of your own:

- `prune(net, batches, method="SiPP", keep_ratio=0.2)` prunes a copy of the net.
- `sensitivities(net, batches)` says how much each weight matters to its neuron.
- `sample_size(net, batch)` says how many samples the theory asks for.
- `certify(net, batches, fresh, keep_ratio=0.5)` compares certified with measured errors.

For the experiments of YAML files:

- `load_config(path)` reads, merges and checks a file.
- `schedule(config)` lists its keep ratios.
- `build_network(name, input_shape=..., num_classes=...)` makes one of its networks.

Whatever cannot be used raises `UserError`, with a sentence that says what would be right.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiment.certification.certify import certify
    from experiment.config.schedules import schedule
    from experiment.config.schema import load_config
    from experiment.core.errors import UserError
    from experiment.nets.building import build_network
    from experiment.pruning.prune import prune
    from experiment.sensitivity.empirical import sensitivities
    from experiment.sensitivity.sample_size import sample_size

# Imported when first used, so that `python -m experiment.main --help` answers without torch.
_HOMES = {
    "build_network": "experiment.nets.building",
    "certify": "experiment.certification.certify",
    "load_config": "experiment.config.schema",
    "prune": "experiment.pruning.prune",
    "sample_size": "experiment.sensitivity.sample_size",
    "schedule": "experiment.config.schedules",
    "sensitivities": "experiment.sensitivity.empirical",
    "UserError": "experiment.core.errors",
}
__all__ = [
    "UserError",
    "build_network",
    "certify",
    "load_config",
    "prune",
    "sample_size",
    "schedule",
    "sensitivities",
]
__version__ = "0.1.0"


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'experiment' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
