"""The command line: what it lists, what it imports, and its exit codes."""

import configparser
import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from experiment import commands
from experiment.__main__ import CONSOLE_SCRIPT
from experiment.__main__ import main as command_line
from experiment.core.errors import UserError
from experiment.main import main

HEAVY = ("torch", "numpy", "pandas", "pydantic", "matplotlib", "torchvision", "sklearn")


def python(code, directory=ROOT):
    """What a fresh process prints that executes some code."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=directory, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def printed_and_imported(arguments):
    """What the command line prints, and which of the heavy modules it imports."""
    output = python(
        f"import sys\nfrom experiment.__main__ import main\n"
        f"try: main({arguments})\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    printed, _, imported = output.rstrip("\n").rpartition("\n")
    return printed, imported


def test_the_overview_lists_every_command_and_imports_nothing_heavy():
    printed, imported = printed_and_imported(["--help"])
    assert imported == "[]"
    for name in commands.names():
        assert f"\n  {name} " in printed
    assert "_arguments" not in printed


@pytest.mark.parametrize("name", commands.names())
def test_every_command_has_help_that_imports_nothing_heavy(name):
    printed, imported = printed_and_imported([name, "--help"])
    assert imported == "[]"
    module = commands.load(name)
    assert f"experiment {name} " in printed and module.__doc__.splitlines()[0] in printed


def test_a_new_file_is_a_new_command(tmp_path):
    shutil.copytree(
        ROOT / "experiment", tmp_path / "experiment", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "experiment" / "commands" / "double.py").write_text(
        '"""Double a number."""\n\n\n'
        "def add_arguments(parser):\n"
        '    parser.add_argument("number", type=int)\n\n\n'
        "def run(options):\n"
        "    print(2 * options.number)\n"
        "    return 1\n"
    )
    call = "from experiment.__main__ import main; print(main({}))"
    assert python(call.format(["double", "21"]), tmp_path) == "42\n1\n"
    assert "double     Double a number." in python(call.format(["--help"]), tmp_path)


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert command_line(["guarante"]) == 2
    answer = capsys.readouterr().err
    assert "unknown command 'guarante'; did you mean 'guarantee'? (there are: " in answer
    assert answer.count("\n") == 1


def test_without_a_command_the_overview_is_shown(capsys):
    assert command_line([]) == 0
    assert "usage: python -m experiment COMMAND" in capsys.readouterr().out


def test_main_is_the_command_run(small_config, capsys):
    arguments = [str(small_config), "--dry-run", "--set", "seed=3"]
    assert main(arguments) == 0
    by_main = capsys.readouterr().out
    assert command_line(["run", *arguments]) == 0
    assert capsys.readouterr().out == by_main and "seed: 3" in by_main


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("no such thing"), 2, "error: no such thing\n"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to resume\n"),
    ],
)
def test_what_ends_a_command_is_told_in_one_line(monkeypatch, capsys, error, code, message):
    def run(options):
        raise error

    monkeypatch.setattr("experiment.commands.schema.run", run)
    monkeypatch.setattr("experiment.core.signals._was_said", False)  # by another test
    assert command_line(["schema"]) == code
    assert capsys.readouterr().err == message


def test_schema_prints_the_shipped_schema(capsys):
    assert command_line(["schema"]) == 0
    shipped = (ROOT / "paper" / "config.schema.json").read_text()
    assert json.loads(capsys.readouterr().out) == json.loads(shipped)


def test_the_installed_script_is_the_command_line():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].split()
    assert scripts == [CONSOLE_SCRIPT, "=", "experiment.__main__:console_script"]


def test_planning_digits_imports_neither_torchvision_nor_scikit_learn():
    """Each takes longer to import than everything else that planning does."""
    imported = python(
        "import sys\n"
        "from experiment.config.loading import load_config\n"
        "from experiment.data.loading import open_dataset\n"
        "from experiment.nets.building import build_network\n"
        "config = load_config('paper/sipp/digits/cascade/resnet20.yaml')\n"
        "shape = open_dataset(config.dataset).shape()\n"
        "build_network('resnet20', input_shape=shape.input_shape, num_classes=10)\n"
        "print([name for name in ('torchvision', 'sklearn') if name in sys.modules])"
    )
    assert imported == "[]\n"


def test_the_shape_of_absent_images_is_known_without_torchvision():
    imported = python(
        "import sys\n"
        "from experiment.core.registry import DATASETS\n"
        "for name in ('CIFAR10', 'MNIST', 'ImageNet'):\n"
        "    print(DATASETS.create(name, {'root': 'nowhere'}).shape().num_train)\n"
        "print('torchvision' in sys.modules)"
    )
    assert imported.splitlines() == ["50000", "60000", "1281167", "False"]


PARTS = {
    "one": "@METHODS.register\nclass Alpha: pass",
    "two": "@METHODS.register\nclass Beta: pass",
    "three": "@METHODS.register\nclass Alpha: pass",
    "made": "METHODS.register(type('Made', (), {'__module__': __name__}))",
}


def plugins(tmp_path, *names):
    """Code that begins with a registry of some of the modules above."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from experiment.core.registry import Registry\nMETHODS = Registry('method', 'plugins')\n"
    )
    for name in names:
        (folder / f"{name}.py").write_text(f"from plugins import METHODS\n\n\n{PARTS[name]}\n")
    return (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "from experiment.core.errors import UserError\nfrom plugins import METHODS\n"
    )


def test_a_registry_imports_only_the_module_of_a_name(tmp_path):
    code = plugins(tmp_path, "one", "two", "made")
    asked = "print(METHODS.get('Beta').__name__, 'plugins.one' in sys.modules)"
    assert python(f"{code}{asked}") == "Beta False\n"
    assert python(f"{code}print(METHODS.names())") == "['Alpha', 'Beta', 'Made']\n"


def test_a_registry_finds_what_no_class_statement_defines(tmp_path):
    code = plugins(tmp_path, "one", "made")
    assert python(f"{code}print(METHODS.get('Made').__name__)") == "Made\n"


@pytest.mark.parametrize("call", ["METHODS.get('Alpha')", "METHODS.names()"])
def test_two_parts_of_one_name_are_refused(tmp_path, call):
    code = plugins(tmp_path, "one", "two", "three")
    tried = f"try: {call}\nexcept UserError as error: print(error)"
    expected = "two methods are called 'Alpha': in plugins.one and in plugins.three\n"
    assert python(f"{code}{tried}") == expected


def test_unknown_options_are_answered_with_the_nearest():
    import experiment

    shape = {"input_shape": (3, 8, 8), "num_classes": 10}
    with pytest.raises(UserError) as error:
        experiment.build_network("resnet20", widht=8, **shape)
    assert str(error.value) == (
        "network resnet20: unknown option 'widht'; did you mean 'width'? (its options: width)"
    )
