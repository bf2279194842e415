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


def test_commands_of_the_documentation_name_files_that_exist():
    for page in (ROOT / "README.md", *(ROOT / "paper").rglob("README.md")):
        for path in re.findall(r"paper/[\w/]+\.yaml", page.read_text()):
            assert (ROOT / path).exists(), f"{page}: {path}"
