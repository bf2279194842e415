"""The README's examples of a method, a network and a data set, run as they stand: one file each."""

import re
import shutil
import subprocess
import sys

import pandas
from conftest import ROOT

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
    blocks = re.findall(
        r"```python\n# (experiment/\S+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert len(blocks) == 3
    for path, code in blocks:
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(code)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "experiment.main", "mine.yaml", "--device", "cpu"],
        cwd=tmp_path,
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


def test_commands_of_the_documentation_name_files_that_exist():
    for page in (ROOT / "README.md", *(ROOT / "paper").rglob("README.md")):
        for path in re.findall(r"paper/[\w/]+\.yaml", page.read_text()):
            assert (ROOT / path).exists(), f"{page}: {path}"
