"""Pruning experiments from one YAML file, and the same parts for use from Python.

For a net of your own:

- `prune(net, batches, method="SiPP", keep_ratio=0.2)` prunes a copy of the net.
- `sensitivities(net, batches)` says how much each weight matters to its neuron.
- `sample_size(net, batch)` says how many samples the theory asks for.
- `certify(net, batches, fresh, keep_ratio=0.5)` compares certified with measured errors.
- `certify_outputs(net, pruned, holdout)` bounds how much a pruned net's outputs differ.
- `certify_network(net, batches, fresh, [0.1, 1.0])` does so for the output of the whole net.
- `prune_to(net, batches, holdout, at_most=0.005)` prunes as far as the accuracy is guaranteed to
  suffer no more than that.
- `shrink(net, images)` cuts out what pruning has made superfluous.
- `prune_trained(network, weights, data, keep_ratio=0.3)` loads, prunes, retrains and writes a net.

For the experiments of YAML files:

- `run(path_or_mapping)` runs one, and returns what was found, which Jupyter shows.
- `load_config(path)` reads, merges and checks a file.
- `schedule(config)` lists its keep ratios, `tasks(config)` all that there is to do.
- `load_results(directory)` reads what a run has found.
- `load_network(directory, "SiPP", 0.2)` gives a pruned net of a run, `export(...)` writes it to a
  file, as small as it can be.
- `build_network(name, input_shape=..., num_classes=...)` makes one of its networks.

Input that cannot be used raises `UserError`, which says what would be right.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiment.certification.certify import certify as certify
    from experiment.certification.network_theorem import certify_network as certify_network
    from experiment.certification.output_errors import certify_outputs as certify_outputs
    from experiment.certification.prune_to import prune_to as prune_to
    from experiment.config.loading import load_config as load_config
    from experiment.config.schedules import schedule as schedule
    from experiment.core.errors import UserError as UserError
    from experiment.deployment.shrinking import shrink as shrink
    from experiment.nets.building import build_network as build_network
    from experiment.pruning.prune import prune as prune
    from experiment.reporting.tables import load_results as load_results
    from experiment.runs.exporting import export as export
    from experiment.runs.load_network import load_network as load_network
    from experiment.runs.prune_trained import prune_trained as prune_trained
    from experiment.runs.run_experiment import run as run
    from experiment.runs.tasks import tasks as tasks
    from experiment.sensitivity.empirical import sensitivities as sensitivities
    from experiment.sensitivity.sample_size import sample_size as sample_size

# Imported when first used, so that `python -m experiment --help` answers without torch.
_MODULES = {
    "UserError": "experiment.core.errors",
    "build_network": "experiment.nets.building",
    "certify": "experiment.certification.certify",
    "certify_outputs": "experiment.certification.output_errors",
    "certify_network": "experiment.certification.network_theorem",
    "export": "experiment.runs.exporting",
    "load_config": "experiment.config.loading",
    "load_network": "experiment.runs.load_network",
    "load_results": "experiment.reporting.tables",
    "prune": "experiment.pruning.prune",
    "prune_to": "experiment.certification.prune_to",
    "prune_trained": "experiment.runs.prune_trained",
    "run": "experiment.runs.run_experiment",
    "sample_size": "experiment.sensitivity.sample_size",
    "schedule": "experiment.config.schedules",
    "sensitivities": "experiment.sensitivity.empirical",
    "shrink": "experiment.deployment.shrinking",
    "tasks": "experiment.runs.tasks",
}
__all__ = sorted(_MODULES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'experiment' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
