"""What people see of a run: bars in a terminal, lines elsewhere."""

import sys

import pytest

from experiment.reporting import board
from experiment.reporting.board import Board, duration


@pytest.mark.parametrize(
    "seconds, text",
    [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min"), (3600, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_a_time_for_people(seconds, text):
    assert duration(seconds) == text


def test_a_terminal_shows_each_worker_and_the_whole(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = Board(2)
    shown.begin(0, ["net 0: training", "net 1: training"])
    shown.begin(1, ["net 2, WT, step 1: pruning to 50.0%"])
    shown.show("3 of 10 tasks")
    printed = capsys.readouterr().err
    assert "net 0: training and 1 more" in printed and "net 2, WT" in printed
    assert "3 of 10 tasks" in printed and "left" not in printed
    shown.advance(0, "net 0: training", 30, 40, "loss 0.500, accuracy 91.0%")
    shown.end(1)
    shown.show("4 of 10 tasks, about 3 min left")
    printed = capsys.readouterr().err
    assert "30/40" in printed and " 75%" in printed and "loss 0.500, accuracy 91.0%" in printed
    assert "4 of 10 tasks, about 3 min left" in printed and "net 2" not in printed
    shown.close()


def test_elsewhere_there_is_a_line_every_now_and_then(capsys, monkeypatch):
    shown = Board(1)
    shown.begin(0, ["net 0: training"])
    shown.advance(0, "net 0: training", 30, 40, "loss 0.500, accuracy 91.0%")
    assert not shown.is_due
    monkeypatch.setattr(board, "REPORT_INTERVAL", 0.0)
    assert shown.is_due
    shown.show("4 of 10 tasks, about 30 s left")
    shown.end(0)
    shown.show("5 of 10 tasks")
    for worker in range(6):
        shown.advance(worker, f"net {worker}", 1, 2, "")
    shown.show("6 of 10 tasks")
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "4 of 10 tasks, about 30 s left; net 0: training 75%",
        "5 of 10 tasks",
        "6 of 10 tasks; net 0 50%; net 1 50%; net 2 50%; net 3 50%; and 2 more",
    ]
