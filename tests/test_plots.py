"""Figures: the colours of methods, and what importing the framework does not import."""

import itertools
import subprocess
import sys

import pandas
from conftest import ROOT

from experiment.core.registry import METHODS
from experiment.reporting.plots.certificates import certificate_vs_measurement
from experiment.reporting.plots.colours import SHIPPED_COLOURS, SPARE_COLOURS, method_colours
from experiment.reporting.plots.run import accuracy_vs_sparsity


def own_methods(count):
    return [f"WT(power={number})" for number in range(count)]


def test_shipped_methods_have_their_own_colours_and_spare_ones_are_others():
    assert set(SHIPPED_COLOURS) <= set(METHODS.names())
    colours = [*SHIPPED_COLOURS.values(), *SPARE_COLOURS]
    assert len(set(colours)) == len(colours)
    assert method_colours(SHIPPED_COLOURS) == SHIPPED_COLOURS


def test_methods_of_one_figure_differ_as_far_as_there_are_colours():
    methods = [*SHIPPED_COLOURS, *own_methods(len(SPARE_COLOURS))]
    colours = method_colours(methods)
    assert set(colours) == set(methods)
    assert len(set(colours.values())) == len(methods)
    more = method_colours([*methods, "one", "more"])
    assert set(more.values()) == set(colours.values())


def test_a_method_keeps_its_colour_in_every_figure_without_a_clash():
    methods = own_methods(12)
    alone = {method: method_colours([method])[method] for method in methods}
    for first, second in itertools.combinations(methods, 2):
        together = method_colours([first, second, "SiPP"])
        assert together == method_colours(["SiPP", second, first])
        assert len(set(together.values())) == 3
        assert together[first] == alone[first] or together[second] == alone[second]
        if alone[first] != alone[second]:
            assert (together[first], together[second]) == (alone[first], alone[second])
    assert len(set(alone.values())) < len(methods)  # so that there were clashes


def test_a_run_of_many_methods_is_drawn(tmp_path):
    methods = ["reference", *SHIPPED_COLOURS, *own_methods(4)]
    rows = pandas.DataFrame(
        [
            {
                "network": "n",
                "dataset": "d",
                "method": method,
                "net_seed": net,
                "step": step,
                "retrained": False,
                "prune_ratio": step / 10,
                "test_accuracy": 0.9 - number * step / 100,
            }
            for number, method in enumerate(methods)
            for net in (0, 1)
            for step in range(1, 4)
        ]
    )
    path = accuracy_vs_sparsity(rows, tmp_path / "plots" / "many")
    assert path == tmp_path / "plots" / "many.png"
    assert path.exists() and path.with_suffix(".pdf").exists()


def test_certificates_are_drawn(tmp_path):
    rows = pandas.DataFrame(
        {
            "network": "n",
            "dataset": "d",
            "sample_size": 8,
            "method": ["SiPP", "SiPP", "SiPPRand"],
            "keep_ratio_requested": [0.5, 0.1, 0.5],
            "measured_p95": [0.1, 0.0, 0.2],
            "certified_p95": [0.3, 0.4, 0.5],
        }
    )
    assert certificate_vs_measurement(rows, tmp_path / "g").exists()


def loaded(code: str) -> str:
    """Which of the libraries for tables and figures a new process has imported after `code`."""
    check = "import sys; print([name for name in ('pandas', 'matplotlib') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()[-1]


def test_tables_and_figures_are_imported_when_they_are_made():
    tasks = "import experiment; experiment.tasks; experiment.load_results"
    assert loaded(f"{tasks}\nimport experiment.reporting.run_files") == "[]"
    assert "matplotlib" not in loaded("import experiment.runs.dry_run, experiment.runs.driver")
