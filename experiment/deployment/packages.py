"""Packages that only some users need, imported when they are."""

import importlib
import importlib.util
import types

from experiment.core.errors import UserError, first_line


def require(package: str, extra: str) -> types.ModuleType:
    """A package, imported. Raises UserError, with what to install, if that is not possible."""
    if not is_installed(package):
        raise UserError(
            f"this needs the package {package}, which is not installed: "
            f'pip install "sipp-experiment[{extra}]", or pip install {package}'
        )
    try:
        return importlib.import_module(package)
    except Exception as error:  # a package may be broken in any way
        raise UserError(f"the package {package} cannot be imported: {first_line(error)}") from error


def is_installed(package: str) -> bool:
    """Whether a package is there; it is not imported."""
    return importlib.util.find_spec(package) is not None
