"""A running experiment can be looked at: what is drawn while it goes on, and what lines say."""

import re

import pytest
from conftest import SMALL

from experiment.config.loading import load_config
from experiment.core.errors import StorageError
from experiment.runs import live
from experiment.runs.driver import run


@pytest.fixture(autouse=True)
def nothing_was_drawn_before(monkeypatch):
    monkeypatch.setattr(live.Live, "_next", 0.0)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return load_config(path)


@pytest.mark.parametrize(("share", "expected"), [(1e9, 5 + 1), (1e-9, 1 + 1)])
def test_a_run_is_drawn_after_every_step_as_far_as_that_takes_little_time(
    config, tmp_path, monkeypatch, share, expected
):
    written = []
    write_report = live.write_report

    def counted(directory, *, is_concluded):
        path = write_report(directory, is_concluded=is_concluded)
        written.append((is_concluded, path.read_text().count("SiPP")))
        assert (directory / "plots" / "accuracy_vs_sparsity.png").is_file()
        return path

    monkeypatch.setattr(live, "SHARE_OF_TIME", share)
    monkeypatch.setattr(live, "write_report", counted)
    assert run(config, tmp_path / "run").failures == []
    assert len(written) == expected
    assert [concluded for concluded, _ in written] == [False] * (expected - 1) + [True]
    assert written[0][1] < written[-1][1]  # the report has grown


def test_runs_that_go_on_together_share_the_time(config, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(live, "SHARE_OF_TIME", 1e-9)
    monkeypatch.setattr(live, "write_plots", lambda rows, directory: written.append(directory))
    run(config, tmp_path / "one")
    run(config, tmp_path / "other")
    assert written == [tmp_path / "one", tmp_path / "one", tmp_path / "other"]  # while and at end


def test_what_cannot_be_drawn_yet_stops_nothing(config, tmp_path, monkeypatch):
    write_plots = live.write_plots

    def fails_at_first(rows, directory):
        if len(rows) < 5:
            raise RuntimeError("too few")
        return write_plots(rows, directory)

    monkeypatch.setattr(live, "SHARE_OF_TIME", 1e9)
    monkeypatch.setattr(live, "write_plots", fails_at_first)
    outcome = run(config, tmp_path / "run")
    assert outcome.failures == [] and outcome.plot.is_file()
    assert "cannot be drawn yet: RuntimeError: too few" in (tmp_path / "run/log.txt").read_text()


def test_a_figure_that_cannot_be_written_ends_the_run(config, tmp_path, monkeypatch):
    def full(rows, directory):
        raise StorageError("cannot write it: No space left on device")

    monkeypatch.setattr(live, "write_plots", full)
    with pytest.raises(StorageError, match="No space left"):
        run(config, tmp_path / "run")


def test_each_line_says_how_much_is_done_and_how_long_the_rest_takes(config, tmp_path, capsys):
    run(config, tmp_path / "run")
    lines = [line for line in capsys.readouterr().out.splitlines() if "test accuracy" in line]
    lines = [line for line in lines if line.startswith("net 0")]
    found = [re.search(r"\[(\d+) of 18 tasks, about \d+ s left\]$", line) for line in lines]
    assert [int(one[1]) for one in found] == [2, 6, 10, 14, 18]
