"""How experiment files are read: plain values of YAML 1.2, in texts of bounded size."""

import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiment.config.loading import load_config
from experiment.config.yaml_files import parse
from experiment.config.yaml_syntax import dump
from experiment.core.errors import UserError
from experiment.main import main

NET = "network: {name: lenet5}\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),  # 90 in YAML 1.1
        ("1:30.5", "1:30.5"),
        ("010", 10),  # 8 in YAML 1.1
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("2026-01-02", "2026-01-02"),
        ("2026-99-99", "2026-99-99"),
        ("1e-4", 1e-4),
        ("1.e+3", 1000.0),
        (".5", 0.5),
        (".inf", float("inf")),
        ("~", None),
        ("", None),
        ("null", None),
        ("=", "="),
        ("'1'", "1"),
    ],
)
def test_plain_values(text, value):
    found = parse(f"x: {text}", "a.yaml").values["x"]
    assert found == value and type(found) is type(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(
        ["on", "No", "1:30", "010", "0o10", "1e5", "1_0", "2026-01-02", "~", "=", ""]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), plain, max_size=4))
def test_what_is_written_is_read_as_the_same(values):
    """By this software and, except for floats such as 1e5, by a reader of YAML 1.1."""
    assert parse(dump(values), "a.yaml").values == values
    for text in ("on", "No", "1:30", "010", "0o10", "1_0", "2026-01-02"):
        assert yaml.safe_load(dump({"x": text})) == {"x": text}


def aliases(depth: int, repeated: int) -> str:
    """Lists of lists of ...: as many as `repeated` to the power of `depth`."""
    lines = ["a0: &a0 [1]"]
    for level in range(1, depth):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * repeated)}]")
    return "\n".join(lines)


def nested(depth: int) -> str:
    """One list of lists of ..., of which each is there twice."""
    text = "&a0 [1]"
    for level in range(1, depth):
        text = f"&a{level} [{text}, *a{level - 1}]"
    return text


def merges(depth: int, repeated: int) -> str:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, depth):
        merged = ", ".join([f"*a{level - 1}"] * repeated)
        lines.append(f"a{level}: &a{level}\n  <<: [{merged}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x: " + "[" * 50_000, ":2: more than 32 mappings and lists in each other"),
        (aliases(20, 10), ":2: more than 20,000 values, those that aliases repeat included"),
        (merges(20, 50), ": a mapping of more than 20,000 keys"),
        (merges(2, 101), ":4: << merges more than 100 mappings"),
        ("x: &a [*a]", ": an alias contains itself"),
        (f"x: [{'1,' * 20_001}]", ":2: more than 20,000 values, those that"),
        ("".join(f"k{n}: 1\n" for n in range(300_000)), ": is larger than 65,536 bytes: no exp"),
        (f"x: '{'a' * 10_000}'", ":2: a value of 10,000 characters; 2,000 are allowed"),
        (f"seed: {'9' * 10_000}", ":2: a value of 10,000 characters; 2,000 are allowed"),
        ("x: !!int y", ":2: not valid YAML: the tag !!int does not fit its value"),
        ("x: !!bool maybe", ":2: not valid YAML: the tag !!bool does not fit its value"),
        ("x: !!float ''", ":2: not valid YAML: the tag !!float does not fit its value"),
        ("x: !!null y", ":2: not valid YAML: the tag !!null does not fit its value"),
        ("x: !!map [1]", ":2: not valid YAML: expected a mapping node, but found sequence"),
        ("x: !!timestamp y", ":2: not valid YAML: could not determine a constructor"),
        ("x: !!set {a, b}", ":2: not valid YAML: could not determine a constructor"),
        (f"x: !!omap [a: {nested(27)}]", ":2: not valid YAML: could not determine a constructor"),
        (f"? {nested(27)}\n: 1", ":2: a key must be a string, not a mapping or a list"),
        ('x: "\\UFFFFFFFF"', ": not valid YAML: OverflowError"),
        ('x: "\\uD800"', ":2: not valid YAML: half of a character"),
        ("x: !!python/name:os.system", ":2: not valid YAML: could not determine a constructor"),
        (
            "sweep: {grid: {" + ", ".join(f"k{n}: [1, 2]" for n in range(40)) + "}}",
            "combinations; ",
        ),
        (
            "sweep: {list: [" + ", ".join(f"{{seed: {n}}}" for n in range(1_001)) + "]}",
            "sweep.list: has 1,001 items; at most 1,000 are possible",
        ),
        (
            f"sweep:\n  grid:\n    ? {'a.' * 32}a\n    : [1, 2]",
            "is not a key path that can be swept",
        ),
        (
            "num_nets: 100\nsweep: {grid: {seed: [" + ", ".join(map(str, range(300))) + "]}}",
            "sweep: its 300 runs are 150,000 prunings; at most 100,000 are possible",
        ),
    ],
)
def test_what_is_too_large_is_refused(tmp_path, capsys, text, expected):
    """Without the limits, some of these would take for ever."""
    path = tmp_path / "a.yaml"
    path.write_text(NET + text)
    assert main([str(path), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1 and len(error) < 300


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=1"] * 201, "--set: at most 200 values of 65,536 characters in all"),
        (["seed=" + "1" * 200_000], "--set: at most 200 values of 65,536 characters in all"),
        (["a" + ".a" * 20_000 + "=1"], "--set a.a.a.a.a.a.a.a.a.a....: a key path of 20,001 keys"),
        (["a" * 3_000 + "=1"], "a key path of 1 keys and 3,000 characters; 32 and 2,000 are"),
        (["seed=" + "[" * 50_000], "more than 32 mappings and lists in each other"),
        (["pruning={1: 2}"], "--set pruning: key 1 must be a string"),
        ([f"pruning={{? {nested(27)} : 2}}"], "--set pruning: a key must be a string, not a"),
        (["seed=!!bool maybe"], "the tag !!bool does not fit its value"),
        (["training.sync_batchnorm=yes"], "'yes' is wrong: it must be true or false"),
    ],
)
def test_values_to_set_are_bounded_too(tmp_path, overrides, expected):
    path = tmp_path / "a.yaml"
    path.write_text(NET)
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_a_pipe_is_no_file(tmp_path):
    """Reading it would wait for ever."""
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(UserError, match=r"a.yaml: is a pipe or a device, not a YAML file"):
        load_config(tmp_path / "a.yaml")


def test_files_are_bounded_together(tmp_path):
    names = [f"{number}.yaml" for number in range(60)]
    for name in names:
        (tmp_path / name).write_text(f"# {'x' * 1_500}\nseed: 1\n")
    path = tmp_path / "a.yaml"
    path.write_text(f"{NET}include: [{', '.join(names)}]\n")
    with pytest.raises(UserError) as error:
        load_config(path)
    expected = f"{path}: is larger than 65,536 bytes with the files that it includes"
    assert str(error.value) == expected


def test_only_the_first_of_very_many_mistakes_are_told(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(NET + "".join(f"k{n}: 1\n" for n in range(5_000)))
    with pytest.raises(UserError) as error:
        load_config(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 21 and lines[-1] == f"{path}: and 4,980 more mistakes"


def test_a_file_includes_a_bounded_number_of_files(tmp_path):
    (tmp_path / "0.yaml").write_text(NET)
    for number in range(1, 40):  # read twice each: as many as 2 to the power of 40
        text = f"include: [{number - 1}.yaml, {number - 1}.yaml]\n"
        (tmp_path / f"{number}.yaml").write_text(text)
    assert load_config(tmp_path / "5.yaml").network.name == "lenet5"
    with pytest.raises(UserError, match=r"39.yaml: includes more than 100 files, directly or by"):
        load_config(tmp_path / "39.yaml")
