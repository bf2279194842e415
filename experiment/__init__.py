"""Pruning experiments from one YAML file, and the same parts for use from Python.

Names are imported when first used, so that `python -m experiment.main --help` answers without torch.
"""

import importlib

_HOMES = {
    "sensitivities": "experiment.sensitivity.empirical",
    "sample_size": "experiment.sensitivity.sample_size",
    "prune": "experiment.pruner",
    "certify": "experiment.fresh_points",
    "build_network": "experiment.networks.build",
    "load_config": "experiment.config",
    "schedule": "experiment.schedules",
    "UserError": "experiment.errors",
}
__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'experiment' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
