"""The command line: `python -m experiment COMMAND ...`, also installed as `sipp-experiment`."""

from experiment.core import signals

if __name__ == "__main__":
    signals.install()  # before anything else is imported, so that Ctrl-C shows no traceback

import sys
from pathlib import Path
from typing import NoReturn

from experiment import __version__, commands
from experiment.core import console, torchrun
from experiment.core.spelling import nearest
from experiment.core.text import short
from experiment.main import main as run_command

CONSOLE_SCRIPT = "sipp-experiment"


def main(arguments: list[str] | None = None) -> int:
    """Execute the command that is the first argument. Returns the exit code."""
    if arguments is None:
        arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    name, *rest = arguments
    if name == "--version":
        print(__version__)
        return 0
    known = commands.names()
    if name not in known:
        suggestion = nearest(name, known)
        listed = ", ".join(known)
        console.say_line(
            f"error: unknown command '{short(name)}'{suggestion} (there are: {listed})",
            to=sys.stderr,
        )
        return 2
    return run_command(rest, name, f"{program()} {name}")


def program() -> str:
    """How the user called this program."""
    called = Path(sys.argv[0]).stem
    return called if called == CONSOLE_SCRIPT else "python -m experiment"


def overview() -> str:
    """The usage and the list of commands."""
    known = commands.names()
    width = max(map(len, known))
    lines = [
        f"usage: {program()} COMMAND ...",
        "",
        "Prune neural networks and measure what it costs.",
        "",
        "commands:",
    ]
    for name in known:
        summary = (commands.load(name).__doc__ or "").partition("\n")[0]
        lines.append(f"  {name:{width}}  {summary}")
    lines += ["", f"For the arguments of a command: {program()} COMMAND --help"]
    return "\n".join(lines)


def console_script() -> NoReturn:
    """What the installed program calls."""
    signals.install()
    _run()


def _run() -> NoReturn:
    console.tolerate_closed_output()
    torchrun.leave(main())


if __name__ == "__main__":
    _run()
