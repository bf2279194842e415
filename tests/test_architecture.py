"""The layers of the package: which folder may import which, checked against the code."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT

import experiment
from experiment.core.registry import METHODS

# A folder imports folders of its own line, or of the lines below.
LAYERS = [
    ("experiment",),  # the public functions, `__init__.py`: for users, not for the package
    ("__main__", "main", "commands"),  # the first two are files
    ("runs",),
    ("training", "reporting", "certification", "trackers", "deployment"),
    ("methods", "networks", "data"),
    ("pruning",),  # the base classes of methods; finds the methods themselves by name
    ("config",),
    ("allocation", "sensitivity", "channels"),  # the mathematics
    ("nets",),
    ("core",),
]
MATHEMATICS = ("allocation", "sensitivity", "channels", "nets")
PLUG_INS = {
    "methods": "METHODS",
    "networks": "NETWORKS",
    "data.sets": "DATASETS",
    "trackers": "TRACKERS",
}
PUBLIC = {*experiment.__all__, "run", "prune", "export", "tasks", "load_results"}
WITHOUT_TORCH = (
    "reporting.plots.run",
    "reporting.plots.sweep",
    "reporting.plots.certificates",
    "reporting.plots.latency",
    "reporting.plots.ranking",
)

EXCEPTIONS = {("__main__", "experiment")}  # the version


@dataclass(frozen=True)
class Import:
    """One module of the package importing another module, or another package such as torch."""

    importer: str  # without the leading `experiment.`
    imported: str  # likewise; the full name for another package
    is_own: bool
    is_on_top: bool  # executed as soon as the importer is imported


def modules_of(package: Path) -> dict[str, Path]:
    """The modules of a package by name, without the package's own; `__init__` files left out."""
    paths = sorted(path for path in package.rglob("*.py") if path.name != "__init__.py")
    return {".".join(path.relative_to(package).with_suffix("").parts): path for path in paths}


def imports_of(package: Path) -> list[Import]:
    """All imports in a package, those inside functions and type-checking blocks included."""
    return [
        found
        for name, path in modules_of(package).items()
        for found in _imports(package, name, path)
    ]


def _imports(package: Path, importer: str, path: Path) -> list[Import]:
    tree = ast.parse(path.read_text())
    later = {inner for node in ast.walk(tree) if _is_later(node) for inner in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        for target in _targets(package, importer, node):
            is_own = target.split(".")[0] == package.name
            name = target.removeprefix(f"{package.name}.")
            found.append(Import(importer, name, is_own, node not in later))
    return found


def _is_later(node: ast.AST) -> bool:
    """Whether what a node holds is not executed when its module is imported."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _targets(package: Path, importer: str, node: ast.AST) -> list[str]:
    """The full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    start = node.module or ""
    if node.level:  # relative: `from . import a`, `from ..nets import layers`
        parents = [package.name, *importer.split(".")][: -node.level]
        start = ".".join([*parents, start] if start else parents)
    return [_module_named(package, start, alias.name) for alias in node.names]


def _module_named(package: Path, start: str, name: str) -> str:
    """What `from start import name` imports: the module `start.name` if there is one."""
    path = package.parent.joinpath(*start.split("."), name)
    is_module = path.is_dir() or path.with_suffix(".py").exists()
    return f"{start}.{name}" if is_module else start


def folder_of(module: str) -> str:
    return module.split(".")[0]


def layer_of(module: str) -> int:
    for index, layer in enumerate(LAYERS):
        if folder_of(module) in layer:
            return index
    raise AssertionError(f"{module} belongs to no layer: add its folder to LAYERS")


def upward(imports: list[Import]) -> set[tuple[str, str]]:
    """The imports of a module of a higher layer."""
    return {
        (one.importer, one.imported)
        for one in imports
        if one.is_own and layer_of(one.imported) < layer_of(one.importer)
    }


def cycles(imports: list[Import]) -> set[str]:
    """The folders that import each other, directly or through others."""
    reached: dict[str, set[str]] = {}
    for one in imports:
        if one.is_own and folder_of(one.importer) != folder_of(one.imported):
            reached.setdefault(folder_of(one.importer), set()).add(folder_of(one.imported))
    for middle in list(reached):
        for targets in reached.values():
            if middle in targets:
                targets |= reached[middle]
    return {folder for folder, targets in reached.items() if folder in targets}


def loaded_with(module: str, imports: list[Import]) -> set[str]:
    """Everything that is imported, directly or not, as soon as a module is."""
    loaded = set()
    waiting = [module]
    while waiting:
        importer = waiting.pop()
        for one in imports:
            if one.importer == importer and one.is_on_top and one.imported not in loaded:
                loaded.add(one.imported)
                waiting.append(one.imported)
    return loaded


def registers(path: Path, registry: str) -> bool:
    """Whether a file registers a part, or a collection of parts, with a registry."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in ("register", "fall_back_on")
        and isinstance(node.value, ast.Name)
        and node.value.id == registry
        for node in ast.walk(ast.parse(path.read_text()))
    )


def words_of(path: Path) -> set[str]:
    """The string constants of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


PACKAGE = ROOT / "experiment"
IMPORTS = imports_of(PACKAGE)


def test_every_module_belongs_to_a_layer():
    for module in modules_of(PACKAGE):
        assert layer_of(module) > 0


def test_dependencies_point_down():
    assert upward(IMPORTS) - EXCEPTIONS == set()


def test_the_listed_exceptions_still_exist():
    assert EXCEPTIONS - upward(IMPORTS) == set(), "delete these EXCEPTIONS"


def test_no_folders_import_each_other():
    allowed = [one for one in IMPORTS if (one.importer, one.imported) not in EXCEPTIONS]
    assert cycles(allowed) == set()


@pytest.mark.parametrize("folder", MATHEMATICS)
def test_the_mathematics_names_no_method(folder):
    for module, path in modules_of(PACKAGE).items():
        if folder_of(module) == folder:
            assert not words_of(path) & set(METHODS.names()), module


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_plots_are_drawn_without_torch(module):
    loaded = {name.split(".")[0] for name in loaded_with(module, IMPORTS)}
    assert "matplotlib" in loaded
    assert "torch" not in loaded


def test_no_module_hides_a_public_function():
    assert not {folder_of(module) for module in modules_of(PACKAGE)} & PUBLIC


@pytest.mark.parametrize("folder", PLUG_INS)
def test_plug_in_folders_hold_plug_ins_only(folder):
    found = [path for name, path in modules_of(PACKAGE).items() if name.startswith(f"{folder}.")]
    assert found
    for path in found:
        assert registers(path, PLUG_INS[folder]), f"{path} registers nothing"


# What each check must catch, in packages made for it.


def package_of(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "experiment"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


@pytest.mark.parametrize(
    "statement",
    [
        "import experiment.methods.a",
        "from experiment.methods.a import A",
        "from experiment.methods import a",
        "from experiment import methods",
        "from experiment import prune",
        "from ..methods import a",
        "from ..methods.a import A",
        "def function():\n    from experiment.methods.a import A",
        "if TYPE_CHECKING:\n    import experiment.methods.a",
    ],
)
def test_an_upward_import_is_found_however_it_is_written(tmp_path, statement):
    package = package_of(tmp_path, {"nets/b.py": statement, "methods/a.py": "import torch"})
    found = upward(imports_of(package))
    assert [importer for importer, _ in found] == ["nets.b"]
    assert upward(imports_of(package_of(tmp_path, {"nets/b.py": "import torch"}))) == set()


def test_an_import_downwards_is_none(tmp_path):
    package = package_of(tmp_path, {"methods/a.py": "from ..nets import b", "nets/b.py": ""})
    assert upward(imports_of(package)) == set()
    assert [one.imported for one in imports_of(package)] == ["nets.b"]


def test_an_unknown_folder_is_found(tmp_path):
    package = package_of(tmp_path, {"strange/a.py": "import experiment.nets.b", "nets/b.py": ""})
    with pytest.raises(AssertionError, match=r"strange\.a belongs to no layer"):
        upward(imports_of(package))


def test_a_cycle_of_folders_is_found(tmp_path):
    files = {
        "allocation/a.py": "import experiment.sensitivity.b",
        "sensitivity/b.py": "import experiment.channels.c",
        "channels/c.py": "def function():\n    from experiment.allocation import a",
        "nets/d.py": "import experiment.nets.e",
        "nets/e.py": "import experiment.nets.d",
        "data/f.py": "import experiment.nets.d",
    }
    assert cycles(imports_of(package_of(tmp_path, files))) == {
        "allocation",
        "sensitivity",
        "channels",
    }


def test_an_indirect_import_of_torch_is_found(tmp_path):
    files = {
        "reporting/plots.py": "from experiment.reporting import summary",
        "reporting/summary.py": "import experiment.core.numbers",
        "core/numbers.py": "try:\n    import torch.nn\nexcept ImportError:\n    pass",
    }
    assert "torch.nn" in loaded_with("reporting.plots", imports_of(package_of(tmp_path, files)))
    files["core/numbers.py"] = "def function():\n    import torch.nn"
    assert "torch.nn" not in loaded_with("reporting.plots", imports_of(package_of(tmp_path, files)))


def test_a_helper_among_the_plug_ins_is_found(tmp_path):
    files = {
        "methods/part.py": "@METHODS.register\nclass Part: pass",
        "methods/collection.py": "METHODS.fall_back_on(Collection())",
        "methods/helper.py": "from experiment.core.registry import METHODS\nMETHODS.names()",
    }
    package = package_of(tmp_path, files)
    found = {name: registers(package / name, "METHODS") for name in files}
    assert list(found.values()) == [True, True, False]


def test_the_name_of_a_method_is_found(tmp_path):
    package = package_of(tmp_path, {"nets/a.py": "def function(name):\n    return name == 'SiPP'"})
    assert "SiPP" in words_of(package / "nets/a.py") & set(METHODS.names())
