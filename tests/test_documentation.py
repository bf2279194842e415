"""The pages of docs/ and the schema of experiment files say what the code says."""

import dataclasses
import json
import shutil

import pytest

from experiment.core.columns import columns
from experiment.core.registry import METHODS
from experiment.reporting.records import ResultRecord, TrainingRecord
from tools import documentation
from tools.documentation import COMMAND, DOCS, SCHEMA, documents, outdated, with_blocks


def test_documentation_is_up_to_date():
    names = ", ".join(path.name for path in outdated(documents()))
    assert not names, f"{names}: run `{COMMAND}` (make docs)"


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """Copies of the documents, which may be changed."""
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(SCHEMA, tmp_path)
    monkeypatch.setattr(documentation, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(documentation, "SCHEMA", tmp_path / SCHEMA.name)
    return tmp_path


def outdated_names() -> list[str]:
    return [path.name for path in outdated(documents())]


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("results.md", "| name of the network |", "| its name |"),
        ("methods.md", "| weights | `WT` |", "| filters | `WT` |"),
        ("networks.md", "<!-- end networks -->", "| `mine` | own |\n\n<!-- end networks -->"),
    ],
)
def test_a_changed_row_is_outdated_until_the_command_is_run(copied, page, before, after):
    assert outdated_names() == []
    path = copied / "docs" / page
    text = path.read_text()
    path.write_text(text.replace(before, after))
    assert path.read_text() != text and outdated_names() == [page]
    assert documentation.main() == 0
    assert path.read_text() == text and outdated_names() == []


def test_a_changed_schema_is_outdated_until_the_command_is_run(copied):
    path = copied / SCHEMA.name
    schema = json.loads(path.read_text())
    path.write_text(json.dumps({**schema, "title": "another"}))
    assert outdated_names() == [SCHEMA.name]
    assert documentation.main() == 0
    assert json.loads(path.read_text()) == schema and outdated_names() == []


def test_prose_around_the_blocks_is_left_alone(copied):
    path = copied / "docs" / "methods.md"
    path.write_text(path.read_text().replace("# Methods", "# My methods"))
    assert outdated_names() == []


def test_a_new_method_or_column_is_missing_from_the_documentation(monkeypatch, tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Longer(ResultRecord):
        energy: float = dataclasses.field(metadata={"meaning": "in joules"})

    with monkeypatch.context() as patch:
        patch.setattr(documentation, "ResultRecord", Longer)
        assert outdated_names() == ["results.md"]

    class Newest(METHODS.get("WT")):
        """Keep the weights that were found last. What is more | is not said."""

    with monkeypatch.context() as patch:
        patch.setitem(METHODS._parts, "Newest", Newest)
        assert "methods.md" in outdated_names()
        row = "| weights | `Newest` | Keep the weights that were found last |"
        assert row in documentation.method_table()


def test_blocks_are_neither_missing_nor_unknown():
    text = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb"
    assert with_blocks(text, {"x": "new"}) == ("a\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nb")
    for wrong in ("", "<!-- begin x -->", "<!-- end x -->", "<!-- end x --><!-- begin x -->"):
        with pytest.raises(ValueError, match="the text needs a block between '<!-- begin x -->'"):
            with_blocks(wrong, {"x": "new"})
    with pytest.raises(ValueError, match="there is no block 'y'"):
        with_blocks(text + "<!-- begin y -->", {"x": "new"})


@pytest.mark.parametrize("record", [ResultRecord, TrainingRecord])
def test_every_column_says_what_it_means(record):
    for name, field in columns(record).items():
        assert field.metadata.get("meaning"), f"{record.__name__}.{name} has no meaning"
