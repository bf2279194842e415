"""What is quoted from files and from people's code: visible, short, and on one line."""

import ast
import re

import pandas
import pytest
import tqdm
from conftest import ROOT, SMALL
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import made_up_rows

from experiment.config.sweeps import load_sweep
from experiment.core.errors import UserError, details_of, first_line, one_line
from experiment.core.registry import METHODS
from experiment.core.text import distinct, short, shown, visible, visible_lines
from experiment.main import main
from experiment.reporting import board
from experiment.reporting.logger import Logger
from experiment.reporting.plots.run import draw_all
from experiment.reporting.plots.sweep import sweep_accuracy_vs_sparsity

ANYTHING = st.text(st.characters(), max_size=300)  # halves of characters included


def test_what_is_not_printable_is_escaped():
    assert visible("plain, é and 中") == "plain, é and 中"
    assert visible("a\nb\t\x1b[31m\x00\u202e\udc80") == r"a\nb\t\x1b[31m\x00\u202e\udc80"
    assert visible_lines("a\tb\n\x1bc\r\n") == "a       b\n\\x1bc\\r\n"


@given(ANYTHING)
def test_what_is_shown_is_one_line_that_can_be_written(text):
    for result in (short(text), shown(text), shown([text, {text: 1}]), distinct(text)):
        assert result.isprintable() and len(result) <= 110
        result.encode()
    assert visible(visible(text)) == visible(text)


def test_long_values_are_cut():
    assert short("x" * 100) == "x" * 100 and short("x" * 101) == "x" * 97 + "..."
    assert shown({"b": 1, "a": [True, None, 0.5]}) == "{'b': 1, 'a': [True, None, 0.5]}"
    assert shown(list(range(10**6))).endswith(" 19, ...]") and len(shown("x" * 10**7)) == 100
    assert len(shown(10**4000)) == 100 and "digits" in shown(10**6000)
    nested: list = []
    for _ in range(100):
        nested = [nested, nested]  # 2**100 lists
    assert len(shown(nested)) <= 100


class RudeError(Exception):
    """Nothing of it can be shown."""

    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("error", "one", "first"),
    [
        (ValueError("a\n  b.\n"), "ValueError: a b.", "ValueError: a"),
        (ValueError(), "ValueError", "ValueError"),
        (ValueError("\n\n"), "ValueError", "ValueError"),
        (ValueError("\x1b[31mred"), r"ValueError: \x1b[31mred", r"ValueError: \x1b[31mred"),
        (RudeError(), *["RudeError: (its message cannot be shown: __str__ fails)"] * 2),
        (type("A\nB", (Exception,), {})("c"), r"A\nB: c", r"A\nB: c"),
    ],
)
def test_exceptions_are_told_in_one_line(error, one, first):
    assert (one_line(error), first_line(error)) == (one, first)
    assert "Traceback" not in one_line(error) and details_of(error)


def test_huge_exceptions_are_cut():
    error = ValueError("x" * 10**7)
    assert len(one_line(error)) < 1_100 and len(first_line(error)) < 1_100
    assert len(details_of(error)) < 101_000
    assert shown(RudeError()).startswith("<RudeError")


@given(st.lists(ANYTHING, min_size=1))
def test_a_user_error_is_one_line_for_each_mistake(texts):
    error = UserError(*texts)
    assert str(error).split("\n") == list(error.mistakes) and len(error.mistakes) == len(texts)
    assert UserError(*error.mistakes).mistakes == error.mistakes
    assert all(line.startswith("here: ") for line in error.within("here").mistakes)


def test_no_mistakes_are_joined_to_one():
    """As one text, they would be shown as a single line."""
    for path in (ROOT / "experiment").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "UserError":
                given = ast.unparse(node)
                assert not re.search(r"UserError\((str\(|'\\n'\.join|explain\()", given), path


def test_labels_of_methods_are_visible_and_distinct():
    def label(**options):
        return METHODS.label("WT", options)

    assert label(allocation="uniform") == "WT(allocation=uniform)"
    assert label(x=[0.5, "a"]) == "WT(x=[0.5, 'a'])"
    texts = ["a\nb", r"a\nb", "a b", "\x1b[31m", "x" * 200, "x" * 201]
    labels = [label(x=text) for text in texts]
    assert len(set(labels)) == len(texts)
    assert all(one.isprintable() and len(one) < 130 for one in labels)
    assert labels[1:3] == [r"WT(x=a\nb)", "WT(x=a b)"]


def test_labels_of_sweeps_are_visible(tmp_path):
    path = tmp_path / "a.yaml"
    runs = '[{dataset.root: "a\\nb", seed: 0}, {dataset.root: "\\e[31m", seed: 1}]'
    path.write_text(
        SMALL.replace("{name: digits}", "{name: ImageFolder, root: x}")
        + f"sweep: {{list: {runs}}}\n"
    )
    first, second = (run.label for run in load_sweep(path).combinations)
    assert first.startswith(r"root=a\nb#") and second.startswith(r"root=\x1b[31m#")


def test_the_console_and_the_log_show_what_is_hidden(tmp_path, capsys):
    logger = Logger(tmp_path)
    logger.say("a\x1b[31m")
    logger.warn("b\r")
    logger.error("c\x07", "d\n\x1be")
    out, err = capsys.readouterr()
    assert (out, err) == ("a\\x1b[31m\n", "b\\r\nc\\x07\n")
    log = (tmp_path / "log.txt").read_text()
    assert [line[20:] for line in log.splitlines()[:3]] == [r"a\x1b[31m", r"b\r", r"c\x07"]
    assert log.endswith("\nd\n\\x1be\n")


def test_the_display_shows_what_is_hidden(monkeypatch):
    written: list[str] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(
        tqdm.tqdm, "set_description_str", lambda _, text, **__: written.append(text)
    )
    monkeypatch.setattr(tqdm.tqdm, "set_postfix_str", lambda _, text, **__: written.append(text))
    shown_board = board.Board(1)
    shown_board.begin(0, ["a\x1b[31m"])
    shown_board.advance(0, "b\n", 1, 2, "c\r")
    shown_board.close()
    assert [text.rstrip() for text in written] == [r"a\x1b[31m", r"b\n", r"c\r"]


@pytest.mark.parametrize(
    "method", [r"WT(x=$\alpha_{x$)", "$", "$$", r"a\$b$", "_hidden", "中文", "x" * 1000, "a\nb\x1b"]
)
def test_labels_of_figures_are_no_mathematics(tmp_path, method, all_figures):
    rows = made_up_rows([method], network="_n$", dataset=r"$\d{$")
    nothing = pandas.DataFrame()
    assert draw_all(rows, nothing, nothing, nothing, tmp_path / "run").exists()
    runs = [("$x^{$", rows), ("_y", rows.assign(test_accuracy=0.8))]
    assert sweep_accuracy_vs_sparsity(runs, tmp_path / "sweep").exists()


OWN = """
class RudeError(Exception):
    def __str__(self):
        raise RuntimeError


def multi_line():
    raise ValueError("first\\n\\x1b[31msecond\\n" + 100_000 * "x")


def rude():
    raise RudeError


def user_error():
    from experiment.core.errors import UserError

    raise UserError("one\\ntwo\\x1b[31m")
"""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("multi_line", r"ValueError: first \x1b[31msecond xxx"),
        ("rude", "RudeError: (its message cannot be shown"),
        ("user_error", r"one\ntwo\x1b[31m"),
    ],
)
def test_what_own_code_raises_is_told_in_one_line(tmp_path, monkeypatch, capfd, function, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "rude_parts.py").write_text(OWN)
    (tmp_path / "a.yaml").write_text(f"network: {{name: 'rude_parts:{function}'}}\n")
    assert main(["a.yaml", "--device", "cpu"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and words in err and err.count("\n") == 1 and len(err) < 2_000
    assert err.rstrip("\n").isprintable() and not (tmp_path / "results").exists()
