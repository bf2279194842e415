"""README and pages: their examples run as they stand, their commands and links are right."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pandas
import pytest
from conftest import ROOT
from whole_runs import run_here

import experiment
from experiment import commands
from experiment.commands._arguments import add_traceback
from experiment.main import Parser

# Two threads of each of two processes on two cores would wait for each other.
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
CONFIG = """
network: {name: two_convs, width: 8}
dataset: {name: stripes, num_images: 300}
training: {epochs: 3, batch_size: 32, optimizer: {name: SGD, lr: 0.1}}
pruning:
  methods: [{name: SmallestFanIn, power: 2.0}, WT]
  keep_ratios: [0.6]
"""


def test_adding_a_method_a_network_and_a_data_set(tmp_path):
    shutil.copytree(
        ROOT / "experiment", tmp_path / "experiment", ignore=shutil.ignore_patterns("__pycache__")
    )
    text = (ROOT / "docs" / "extending.md").read_text()
    blocks = re.findall(r"```python\n# (experiment/\S+)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for path, code in blocks:
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(code)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "experiment.main", "mine.yaml", "--device", "cpu"],
        cwd=tmp_path,
        env=ONE_THREAD,
        check=True,
        capture_output=True,
    )
    rows = pandas.read_csv(next((tmp_path / "results").rglob("results.csv")))
    assert rows["method"].tolist() == ["reference", "SmallestFanIn(power=2.0)", "WT"]
    assert (rows["network"] == "two_convs").all() and (rows["dataset"] == "stripes").all()
    assert rows["test_accuracy"].iloc[0] > 0.9


def test_a_broken_plug_in_is_named_in_one_line_and_only_where_it_is_needed(tmp_path):
    shutil.copytree(
        ROOT / "experiment",
        tmp_path / "experiment",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (tmp_path / "experiment" / "networks" / "broken.py").write_text("def broken_net(:\n")
    (tmp_path / "mine.yaml").write_text("network: {name: lenet5}\n")

    def plan(*arguments):
        command = [sys.executable, "-m", "experiment", "run", "mine.yaml", "--dry-run", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert plan().returncode == 0
    done = plan("--set", "network.name=broken_net")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot import experiment.networks.broken: SyntaxError" in done.stderr


PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "paper").rglob("*.md"),
]


def commands_of(page):
    """The arguments of each command `python -m experiment ...` of a page."""
    for block in re.findall(r"```[a-z]*\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            _, found, rest = line.partition("-m experiment")
            if found:
                words = shlex.split(rest, comments=True)
                yield ["run", *words[1:]] if words[:1] == [".main"] else words


def example(word):
    """A word of a command, with what it stands for in the place of placeholders."""
    examples = {"CONFIG": "a.yaml", "RUN": "a", "DIR": "a", "RUN_OR_DIR": "a", "N": "2", "X": "1"}
    return examples.get(word.strip("[]").removesuffix(" ..."), word)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_pages_are_understood_and_name_files_that_exist(page):
    for command, *words in commands_of(page):
        if command == "--help":
            continue
        module = commands.load(command)
        parser = Parser()
        module.add_arguments(parser)
        add_traceback(parser)
        parser.parse_args([example(word) for word in words if word != "...]"])
    for path in re.findall(r"\bpaper/[\w/]+\.yaml", page.read_text()):
        assert (ROOT / path).exists(), f"{page}: {path}"


def test_pages_have_commands():
    assert sum(1 for page in PAGES for _ in commands_of(page)) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_pages_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings]
            assert anchor in anchors, f"{page}: {target}"


def test_the_experiment_of_the_readme_runs(tmp_path):
    """With shorter trainings."""
    readme = (ROOT / "README.md").read_text()
    [text] = re.findall(r"```yaml\n(# mine\.yaml\n.*?)```", readme, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text)
    done = run_here(tmp_path / "mine.yaml", tmp_path / "r", "--set", "training.epochs=1")
    assert done.returncode == 0, done.stderr
    rows = experiment.load_results(next((tmp_path / "r").rglob("results.csv")).parent)
    assert rows["method"].unique().tolist() == ["reference", "SiPP", "WT", "SNIP"]
    assert rows["keep_ratio_requested"].unique().tolist() == [1.0, 0.5, 0.2, 0.1]
    assert rows["net_seed"].unique().tolist() == [0, 1]


def test_pages_are_built_without_a_warning(tmp_path):
    pytest.importorskip("furo")
    for module in ("sphinx", "myst_parser"):
        pytest.importorskip(module)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", "docs", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    reference = (tmp_path / "api.html").read_text()
    for name in ("run", "prune", "sensitivities", "certify", "load_results"):
        assert f'<span class="pre">{name}</span>' in reference
    for page in tmp_path.glob("*.html"):  # nothing is fetched from elsewhere
        assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=.https?:", page.read_text())
