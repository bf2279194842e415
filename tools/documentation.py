"""Write those parts of the documentation that follow from the code.

`python -m tools.documentation` rewrites the blocks of the pages in docs/ between
`<!-- begin NAME -->` and `<!-- end NAME -->`, the JSON schema of experiment files,
paper/config.schema.json, and the list of shipped plug-ins, experiment/core/shipped.py.
"""

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from experiment.config.json_schema import json_schema
from experiment.core.columns import columns
from experiment.core.own_code import PACKAGE, PLUGINS
from experiment.core.registry import DATASETS, METHODS, NETWORKS, TRACKERS, Registry
from experiment.data.corruptions.kinds import KINDS
from experiment.pruning.method import Method
from experiment.reporting.records import (
    CorruptionRecord,
    FailureRecord,
    HoldoutRecord,
    LayerRecord,
    PrunePotentialRecord,
    ResultRecord,
    TrainingRecord,
)

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SCHEMA = ROOT / "paper" / "config.schema.json"
SHIPPED = ROOT / "experiment" / "core" / "shipped.py"
COMMAND = "python -m tools.documentation"

BEGIN = "<!-- begin {} -->"
END = "<!-- end {} -->"


def main() -> int:
    """Write the files that are outdated. Returns the exit code."""
    for path, text in outdated(documents()).items():
        path.write_text(text, encoding="utf-8")
        print(f"written: {path}")
    return 0


def documents() -> dict[Path, str]:
    """The files that follow from the code, with the texts that they should have."""
    return {
        **{
            DOCS / page: with_blocks((DOCS / page).read_text(encoding="utf-8"), of_page)
            for page, of_page in blocks().items()
        },
        SCHEMA: json.dumps(json_schema(), indent=1) + "\n",
        SHIPPED: shipped_plugins(),
    }


def outdated(documents: Mapping[Path, str]) -> dict[Path, str]:
    """Those of the files that have another text than they should have."""
    return {
        path: text
        for path, text in documents.items()
        if not path.exists() or not same(path, path.read_text(encoding="utf-8"), text)
    }


def same(path: Path, written: str, text: str) -> bool:
    """Whether a file says what it should; pydantic's versions write 0 and 0.0 for the same."""
    if path.suffix == ".json":
        return bool(json.loads(written) == json.loads(text))
    return written == text


def with_blocks(text: str, blocks: Mapping[str, str]) -> str:
    """The text with the content of each of its blocks replaced.

    Raises:
        ValueError: if a block is not in the text, or the text has a block that is not known.
    """
    for name in re.findall(BEGIN.format(r"(\S+)"), text):
        if name not in blocks:
            raise ValueError(f"there is no block '{name}' (there are: {', '.join(blocks)})")
    for name, content in blocks.items():
        begin = BEGIN.format(name)
        end = END.format(name)
        before, found_begin, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found_begin or not found_end:
            raise ValueError(f"the text needs a block between '{begin}' and '{end}'")
        text = f"{before}{begin}\n\n{content}\n\n{end}{after}"
    return text


def blocks() -> dict[str, dict[str, str]]:
    """The content of each block of each page, by name."""
    return {
        "results.md": {
            "results-columns": column_table(ResultRecord),
            "training-columns": column_table(TrainingRecord),
            "failures-columns": column_table(FailureRecord),
            "layers-columns": column_table(LayerRecord),
            "holdout-columns": column_table(HoldoutRecord),
        },
        "methods.md": {"methods": method_table()},
        "networks.md": {
            "networks": part_table("network", NETWORKS),
            "datasets": part_table("data set", DATASETS),
        },
        "corruptions.md": {
            "corruptions": corruption_table(),
            "corruptions-columns": column_table(CorruptionRecord),
            "corruption-summary-columns": column_table(PrunePotentialRecord),
        },
        "trackers.md": {"trackers": part_table("tracker", TRACKERS)},
    }


def shipped_plugins() -> str:
    """The module that lists the modules of the folders of plug-ins."""
    folders = sorted(folder.relative_to(PACKAGE.parent) for folder in PLUGINS)
    paths = [
        folder.joinpath(path.relative_to(PACKAGE.parent / folder))
        for folder in folders
        for path in (PACKAGE.parent / folder).rglob("*.py")
    ]
    names = sorted(".".join(path.with_suffix("").parts) for path in paths)
    listed = "".join(f'    "{name.removesuffix(".__init__")}",\n' for name in names)
    return f'''"""The modules of plug-ins that this software ships, as `{COMMAND}` writes them.

A plug-in that is not listed counts as code of a person's own.
"""

PLUGIN_MODULES = frozenset(
    {{
{textwrap.indent(listed, "    ")}    }}
)
'''


def column_table(record: type) -> str:
    """The columns of a kind of record, and what they mean."""
    rows = [(code(name), field.metadata["meaning"]) for name, field in columns(record).items()]
    return markdown_table(("column", "meaning"), rows)


def method_table() -> str:
    """All methods, those that remove weights first, then those that remove filters."""
    rows = [
        (removed_by(name), code(name), first_sentence(METHODS.get(name)))
        for name in METHODS.names()
    ]
    in_order = sorted(rows, key=lambda row: row[0], reverse=True)
    return markdown_table(("removes", "method", "how"), in_order)


def removed_by(name: str) -> str:
    """What a method removes: weights or filters."""
    method = METHODS.build(name, {})
    assert isinstance(method, Method)
    return method.granularity


def part_table(kind: str, registry: Registry) -> str:
    """All registered parts of a kind."""
    rows = [(code(name), first_sentence(registry.get(name))) for name in registry.names()]
    return markdown_table((kind, "what it is"), rows)


def corruption_table() -> str:
    """All kinds of corruptions, with their strengths at severities 1 to 5."""
    rows = [
        (
            code(name),
            first_sentence(kind.apply),
            *(", ".join(map(str, strengths)) for strengths in (kind.for_small, kind.for_large)),
        )
        for name, kind in KINDS.items()
    ]
    titles = ("corruption", "what it does", "small images", "others")
    return markdown_table(titles, rows)


def first_sentence(part: Callable) -> str:
    """The first sentence of a docstring, without its full stop."""
    paragraph = " ".join((part.__doc__ or "").strip().split("\n\n")[0].split())
    sentence = re.split(r"(?<=\.) (?=[A-Z`])", paragraph)[0]
    return sentence.removesuffix(".")


def code(text: str) -> str:
    """The text in the type of code."""
    return f"`{text}`"


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    separator = "|" + "---|" * len(titles)
    return "\n".join([_table_row(titles), separator, *map(_table_row, rows)])


def _table_row(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


if __name__ == "__main__":
    sys.exit(main())
