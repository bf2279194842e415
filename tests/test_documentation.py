"""README.md and the schema of experiment files say what the code says."""

import dataclasses
import json

import pytest

from experiment.core.columns import columns
from experiment.core.registry import METHODS
from experiment.reporting.records import ResultRecord, TrainingRecord
from tools import documentation
from tools.documentation import COMMAND, README, SCHEMA, documents, outdated, with_blocks


def test_documentation_is_up_to_date():
    names = ", ".join(path.name for path in outdated(documents()))
    assert not names, f"{names}: run `{COMMAND}` (make docs)"


def outdated_names(monkeypatch, tmp_path, readme=None, schema=None):
    """Which files are outdated if they have these texts."""
    for name, path, text in (("README", README, readme), ("SCHEMA", SCHEMA, schema)):
        copy = tmp_path / path.name
        copy.write_text(path.read_text() if text is None else text)
        monkeypatch.setattr(documentation, name, copy)
    return [path.name for path in outdated(documents())]


def test_a_changed_row_or_schema_is_outdated_until_the_command_is_run(monkeypatch, tmp_path):
    assert outdated_names(monkeypatch, tmp_path) == []
    readme = README.read_text()
    for wrong in (
        readme.replace("| name of the network |", "| its name |"),
        readme.replace("| weights | `WT` |", "| filters | `WT` |"),
        readme.replace("<!-- end networks -->", "| `mine` | my own |\n\n<!-- end networks -->"),
    ):
        assert wrong != readme
        assert outdated_names(monkeypatch, tmp_path, readme=wrong) == ["README.md"]
    schema = json.loads(SCHEMA.read_text())
    schema["properties"].pop("seed")
    wrong = json.dumps(schema, indent=1) + "\n"
    assert outdated_names(monkeypatch, tmp_path, schema=wrong) == ["config.schema.json"]
    assert documentation.main() == 0
    assert outdated(documents()) == {}
    written = json.loads((tmp_path / SCHEMA.name).read_text())
    assert written == json.loads(SCHEMA.read_text())


def test_prose_around_the_blocks_is_left_alone(monkeypatch, tmp_path):
    readme = README.read_text().replace("# Pruning experiments", "# My experiments")
    assert outdated_names(monkeypatch, tmp_path, readme=readme) == []


def test_a_new_method_or_column_is_missing_from_the_documentation(monkeypatch, tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Longer(ResultRecord):
        energy: float = dataclasses.field(metadata={"meaning": "in joules"})

    with monkeypatch.context() as patch:
        patch.setattr(documentation, "ResultRecord", Longer)
        assert outdated_names(patch, tmp_path) == ["README.md"]

    class Newest(METHODS.get("WT")):
        """Keep the weights that were found last. What is more | is not said."""

    with monkeypatch.context() as patch:
        patch.setitem(METHODS._parts, "Newest", Newest)
        assert "README.md" in outdated_names(patch, tmp_path)
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
