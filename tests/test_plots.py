"""Figures: the colours of methods, and what importing the framework does not import."""

import itertools
import subprocess
import sys

import pandas
import pytest
from conftest import ROOT
from made_up_runs import made_up_layers, made_up_rows
from matplotlib.lines import Line2D

from experiment.core.errors import UserError
from experiment.core.registry import METHODS
from experiment.main import main
from experiment.reporting.plots.certificates import certificate_vs_measurement
from experiment.reporting.plots.colours import SHIPPED_COLOURS, SPARE_COLOURS, method_colours
from experiment.reporting.plots.curves import look
from experiment.reporting.plots.curves_of_runs import draw
from experiment.reporting.plots.layers import layers_by_step
from experiment.reporting.plots.learning_curves import learning_curves
from experiment.reporting.plots.retraining import before_and_after_retraining
from experiment.reporting.plots.run import MAIN, OF_EPOCHS, OF_LAYERS, OF_PRUNED, draw_all
from experiment.reporting.plots.times import time_by_phase


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


def lines(figure) -> dict[str, Line2D]:
    """The curves of a figure's first panel by their labels."""
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_a_curve_is_the_mean_over_nets_against_the_size():
    found = lines(draw({"": made_up_rows()}))
    assert list(found["SiPP"].get_ydata()) == pytest.approx([90, 89, 88])
    assert list(found["WT"].get_ydata()) == pytest.approx([89, 87, 85])
    assert list(found["WT"].get_xdata()) == pytest.approx([50, 80, 90])
    assert list(found["unpruned (91.0%)"].get_ydata()) == pytest.approx([91, 91])


def test_means_of_fewer_nets_than_others_are_hollow():
    rows = made_up_rows()
    last_of_one = (rows["method"] == "SiPP") & (rows["step"] == 3) & (rows["net_seed"] == 1)
    found = lines(draw({"": rows[~last_of_one]}))
    assert len(found["SiPP"].get_xdata()) == 3
    hollow = found["small and hollow: of fewer nets"]
    assert list(hollow.get_xdata()) == pytest.approx([90])
    assert hollow.get_markerfacecolor() == "white"
    assert hollow.get_marker() == found["SiPP"].get_marker()
    [band, _] = draw({"": rows[~last_of_one]}).axes[0].collections
    assert band.get_paths()[0].vertices[:, 0].max() == pytest.approx(80)  # one net has none
    assert "small and hollow: of fewer nets" not in lines(draw({"": rows}))


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ("delta", [-1, -2, -3]),
        ("difference", [-1, -2, -3]),
        ("before_retraining", [80, 79, 78]),
        ("loss", [0.10, 0.11, 0.12]),
        ("top5", [100, 100, 100]),
    ],
)
def test_measures_are_drawn_by_their_names(y, expected):
    assert list(lines(draw({"": made_up_rows()}, y=y))["SiPP"].get_ydata()) == pytest.approx(
        expected
    )


def test_differences_have_a_zero_line_and_losses_no_percent():
    zero = draw({"": made_up_rows()}, y="delta").axes[0].get_lines()[0]
    assert list(zero.get_ydata()) == [0, 0]
    assert "unpruned (0.09)" in lines(draw({"": made_up_rows()}, y="loss"))


def test_the_kept_share_is_on_a_logarithmic_axis_with_small_nets_on_the_right():
    figure = draw({"": made_up_rows()}, log=True)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.xaxis.get_inverted()
    assert list(lines(figure)["SiPP"].get_xdata()) == pytest.approx([10, 20, 50])
    by_flops = lines(draw({"": made_up_rows()}, x="flops", log=True))["SiPP"]
    assert sorted(by_flops.get_xdata()) == pytest.approx([55, 60, 75])


def test_curves_of_several_runs_are_told_apart_without_colours():
    figure = draw({"one": made_up_rows(), "two": made_up_rows()})
    curves = [line for label, line in lines(figure).items() if ", " in label]
    looks = {(line.get_marker(), line.get_linestyle()) for line in curves}
    assert len(curves) == len(looks) == 4
    assert len({look(index) for index in range(24)}) == 24
    assert lines(figure)["SiPP, one"].get_color() == lines(figure)["SiPP, two"].get_color()
    assert "unpruned (91.0%)" in lines(figure)


def test_an_axis_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="there is no y axis 'dleta'; did you mean 'delta'"):
        draw({"": made_up_rows()}, y="dleta")


def test_published_points_are_drawn_with_their_sources():
    points = pandas.DataFrame(
        {
            "method": ["WT"],
            "prune_ratio": [0.9],
            "test_accuracy": [0.85],
            "unpruned_accuracy": [0.87],
            "source": ["A et al."],
        }
    )
    found = lines(draw({"": made_up_rows()}, log=True, published=points))["WT, A et al."]
    assert (found.get_xdata()[0], found.get_ydata()[0]) == pytest.approx((10, 85))
    differences = draw({"": made_up_rows()}, y="delta", published=points)
    [difference] = lines(differences)["WT, A et al."].get_ydata()
    assert difference == pytest.approx(-2)
    several = pandas.concat(
        [points.assign(method=method, source=source) for source in "ABC" for method in ("WT", "FT")]
    )
    drawn = lines(draw({"": made_up_rows()}, published=several))
    looks = {
        (line.get_marker(), line.get_markeredgecolor())
        for label, line in drawn.items()
        if label[-3:] in (", A", ", B", ", C")
    }
    assert len(looks) == 6
    assert drawn["WT, A"].get_marker() == drawn["FT, A"].get_marker()
    with pytest.raises(
        UserError, match=r"published points have .* \(--y delta\), and no test_loss"
    ):
        draw({"": made_up_rows()}, y="loss", published=points)


def test_what_retraining_gains_is_drawn_in_a_panel_per_method():
    figure = before_and_after_retraining(made_up_rows(["SiPP", "WT", "FT", "$a_$"]))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["SiPP", "WT", "FT", r"\$a_\$"]
    by_label = {line.get_label(): line for line in shown[1].get_lines()}
    assert list(by_label["before retraining"].get_ydata()) == pytest.approx([79, 77, 75])
    assert list(by_label["after retraining"].get_ydata()) == pytest.approx([89, 87, 85])


def test_time_by_phase_adds_up():
    axes = time_by_phase(made_up_rows()).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([20, 60, 60, 0, 6, 6])  # unpruned, SiPP, WT: two nets
    assert [label.get_text() for label in axes.get_yticklabels()] == ["unpruned", "SiPP", "WT"]


def test_learning_curves_count_the_epochs_of_retrainings_on():
    rows = [
        {"method": method, "net_seed": 0, "step": step, "epoch": epoch, "train_loss": step + epoch,
         "validation_loss": 1.0, "validation_accuracy": 0.5}
        for method, steps in (("reference", [0]), ("WT", [1, 2]))
        for step in steps
        for epoch in (1, 2)
    ]  # fmt: skip
    training, retraining, *_ = learning_curves(pandas.DataFrame(rows)).axes
    assert list(training.get_lines()[0].get_ydata()) == [1, 2]
    assert list(retraining.get_lines()[0].get_xdata()) == [1, 2, 3, 4]
    assert list(retraining.get_lines()[0].get_ydata()) == [2, 3, 3, 4]


def test_layers_are_drawn_in_a_row_for_each_method():
    figure = layers_by_step(made_up_layers(["SiPP", "WT"]))
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["SiPP", "WT"]
    assert shown[0].images[0].get_array().tolist() == [[50, 25], [20, 10], [10, 5]]
    assert [label.get_text() for label in shown[1].get_xticklabels()] == ["conv1", "fc"]


def test_all_figures_of_a_run_are_written(small_config, tmp_path, all_figures):
    assert main([str(small_config), "--results", str(tmp_path)]) == 0
    [folder] = tmp_path.rglob("plots")
    names = {path.stem for path in folder.iterdir()}
    assert names == {MAIN, *OF_PRUNED, *OF_EPOCHS, *OF_LAYERS}
    assert {path.suffix for path in folder.iterdir()} == {".png", ".pdf"}


def test_a_run_of_many_methods_is_drawn(tmp_path):
    rows = made_up_rows([*SHIPPED_COLOURS, *own_methods(4)])
    nothing = pandas.DataFrame()
    path = draw_all(rows, nothing, nothing, nothing, tmp_path / "plots")
    assert path == tmp_path / "plots" / "accuracy_vs_sparsity.png"
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
