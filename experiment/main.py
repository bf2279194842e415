"""Run pruning experiments: `python -m experiment.main CONFIG [CONFIG ...]`.

This is the command `run` of `python -m experiment`; see `python -m experiment --help` for others.
"""

from experiment.core import signals

if __name__ == "__main__":
    signals.install()  # before anything else is imported, so that Ctrl-C shows no traceback

import argparse
import sys
from typing import NoReturn

from experiment import commands
from experiment.commands._arguments import add_traceback
from experiment.commands._errors import tell
from experiment.core import console, own_code, torchrun
from experiment.core.dependencies import looking_once
from experiment.core.errors import LockedError, StorageError, UserError

RUNNING = ("run", "suite")  # commands in which all processes of torchrun work, and that leave files


class Parser(argparse.ArgumentParser):
    """A parser that tells of a wrong argument as of all bad input, in one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help shows how")


def main(
    arguments: list[str] | None = None,
    command: str = "run",
    program: str = "python -m experiment.main",
) -> int:
    """Execute a command; `arguments` are the process's own unless given.

    Returns the exit code: 0, 1 if a part of the work failed, 2 for bad input, 3 if another process
    has the run, 128 and the number of the signal if interrupted: 130 for Ctrl-C.
    """
    module = commands.load(command)
    parser = Parser(
        prog=program,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    add_traceback(parser)
    show_traceback = False
    try:
        with torchrun.one_speaks():
            options = parser.parse_args(arguments)
            show_traceback = options.traceback
            if torchrun.is_follower() and command not in RUNNING:
                return 0
            with (
                own_code.refused(getattr(options, "no_own_code", False)),
                looking_once(getattr(options, "verify_data", False)),
            ):
                return _with_output_told(module.run(options), command)
    except LockedError as error:
        console.say_line(f"locked: {error}", to=sys.stderr)
        return 3
    except UserError as error:
        tell("error", error, show_traceback)
        return 2
    except StorageError as error:
        console.say_line(f"failed: {error}", to=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        signals.acknowledge()
        return signals.exit_code(interruption)


def _with_output_told(code: int, command: str) -> int:
    """The exit code of a command, also if what it has printed was lost, which is then told.

    Runs have their files; what others print is all that they do.
    """
    lost = console.lost_output()
    if not lost:
        return code
    console.say_line(f"failed: {lost}", to=sys.stderr)
    return code if command in RUNNING else max(code, 1)


if __name__ == "__main__":
    console.tolerate_closed_output()
    torchrun.leave(main())
