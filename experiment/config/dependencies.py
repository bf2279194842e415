"""What a configuration's methods, network and data set depend on besides their settings."""

from experiment.config.schema import DatasetPart, Part
from experiment.core.dependencies import Dependencies, looked_up
from experiment.core.errors import UserError
from experiment.core.own_sources import own_sources
from experiment.core.registry import DATASETS, Registry


def dependencies_of(registry: Registry, part: Part) -> Dependencies:
    """The own code of a part, and the files of a data set.

    What keeps files from being found, such as a folder that is missing, is not told here but when
    they are needed.
    """
    sources = own_sources(registry.module_of(part.name))
    if not isinstance(part, DatasetPart):
        return sources
    return sources + looked_up(part.model_dump_json(), lambda verify: _files(part, verify))


def _files(part: DatasetPart, verify: bool) -> Dependencies:
    """The files that a data set says it depends on."""
    if not hasattr(DATASETS.get(part.name), "dependencies"):
        return ()
    try:
        dataset = DATASETS.build(part.name, part.options)
        return tuple(dataset.dependencies(verify))
    except (UserError, OSError):
        return ()
