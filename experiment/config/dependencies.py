"""What a configuration's methods, network and data set depend on besides their settings."""

import inspect
from pathlib import Path

from experiment.config.schema import UNREADABLE, WEIGHTS, DatasetPart, NetworkPart, Part
from experiment.core.dependencies import Dependencies, Dependency, Kind, looked_up
from experiment.core.errors import UserError, one_line
from experiment.core.files import content_digest
from experiment.core.own_code import exits_as_errors, place
from experiment.core.own_sources import own_sources
from experiment.core.registry import DATASETS, Registry


def dependencies_of(registry: Registry, part: Part) -> Dependencies:
    """The own code of a part, and the files of a data set or with weights.

    What keeps files from being found, such as a folder that is missing, is not told here but when
    they are needed.
    """
    sources = own_sources(registry.module_of(part.name))
    if isinstance(part, NetworkPart) and part.weights is not None:
        path = Path(part.weights)
        return sources + looked_up(str(path.absolute()), lambda verify: _weights(path))
    if not isinstance(part, DatasetPart):
        return sources
    return sources + looked_up(part.model_dump_json(), lambda verify: _files(part, verify))


def _files(part: DatasetPart, verify: bool) -> Dependencies:
    """The files that a data set says it depends on. Raises UserError if its own code fails."""
    kind = DATASETS.get(part.name)
    if inspect.isclass(kind) and not hasattr(kind, "dependencies"):
        return ()
    try:
        with exits_as_errors():
            dataset = DATASETS.build(part.name, part.options)
            find = getattr(dataset, "dependencies", lambda verify: ())
            found = tuple(find(verify))
    except (UserError, FileNotFoundError):
        return ()
    except OSError as error:
        raise UserError(
            f"what the data set depends on cannot be read: {error.filename or error}: "
            f"{error.strerror}"
        ) from error
    except Exception as error:  # it may be a person's own code
        raise UserError(f"dependencies() fails: {one_line(error)}{place(error)}") from error
    if not all(isinstance(one, Dependency) for one in found):
        raise UserError("dependencies() must return experiment.core.dependencies.Dependency")
    return found


def _weights(path: Path) -> Dependencies:
    """A file with weights: all that it holds.

    One that cannot be read counts as well: without it, the run would be that of a network with no
    weights given.
    """
    try:
        digest = content_digest(path)
    except OSError:
        digest = UNREADABLE
    return (Dependency(Kind.FILES, WEIGHTS, digest, f"the weights in {path}"),)
