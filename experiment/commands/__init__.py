"""The commands of `python -m experiment`, one module each; a new module here is a new command.

A module's docstring is its help, the first line of it what the list of commands shows.
`add_arguments(parser)` declares its arguments and `run(options)` executes it and returns the exit
code. Imports beyond the standard library belong inside `run`, so that help appears at once.
Modules whose names begin with an underscore are no commands.
"""

import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
    """The names of all commands, in alphabetical order."""
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in modules if not name.startswith("_"))


def load(name: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f"{__name__}.{name}")
