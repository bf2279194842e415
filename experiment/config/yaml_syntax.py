"""YAML as experiment files have it: plain values as YAML 1.2 reads them, and no more than that.

PyYAML reads plain values as YAML 1.1 does: `1:30` as 90, `010` as 8, `on` and `no` as booleans and
`2026-01-02` as a date. In version 1.2 these are strings or, `010`, the number 10.
"""

import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError

MOST_VALUES = 20_000  # in a file, those that aliases repeat included
DEEPEST = 32  # mappings and lists in each other
LONGEST = 2_000  # characters of a value
MOST_MERGED = 100  # mappings at one `<<`

MAPPING = "tag:yaml.org,2002:map"
SEQUENCE = "tag:yaml.org,2002:seq"
STRING = "tag:yaml.org,2002:str"
NULL = "tag:yaml.org,2002:null"
BOOL = "tag:yaml.org,2002:bool"
INT = "tag:yaml.org,2002:int"
FLOAT = "tag:yaml.org,2002:float"
MERGE = "tag:yaml.org,2002:merge"
RESOLVERS = (
    (BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (FLOAT, r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    (FLOAT, r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    (NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (MERGE, r"<<", "<"),
)
"""The tags of plain values, their forms, and the characters with which they begin."""
PLAIN = (MAPPING, SEQUENCE, STRING, NULL, BOOL, INT, FLOAT)
"""The tags that values may have. PyYAML knows others, such as those of sets, dates and bytes."""


SURROGATE = re.compile("[\ud800-\udfff]")


class TooLargeError(yaml.MarkedYAMLError):
    """A text is larger, in some way, than any experiment."""


class Loader(yaml.SafeLoader):
    """Makes plain values, from texts of bounded size."""

    yaml_implicit_resolvers: dict[str, list] = {}
    yaml_constructors = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (*PLAIN, None)}

    def __init__(self, text: str):
        super().__init__(text)
        self._num_values = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The node that comes next; called for each of those in it."""
        mark = self.peek_event().start_mark
        self.count_value(mark)
        self._depth += 1
        if self._depth > DEEPEST:
            raise TooLargeError(
                problem=f"more than {DEEPEST} mappings and lists in each other", problem_mark=mark
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node)
        return node

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        """Raises YAMLError for a value that is too long, or that has not the form of its tag."""
        if len(node.value) > LONGEST:
            raise TooLargeError(
                problem=f"a value of {len(node.value):,} characters; {LONGEST:,} are allowed",
                problem_mark=node.start_mark,
            )
        if SURROGATE.search(node.value):
            raise ConstructorError(
                problem="half of a character: \\uD800 to \\uDFFF stand for none",
                problem_mark=node.start_mark,
            )
        if node.tag not in (NULL, BOOL, INT, FLOAT):
            return
        found = self.resolve(yaml.ScalarNode, node.value, (True, False))
        if found != node.tag and (found, node.tag) != (INT, FLOAT):
            raise ConstructorError(
                problem=f"the tag !!{node.tag.rpartition(':')[2]} does not fit its value",
                problem_mark=node.start_mark,
            )

    def count_value(self, mark: yaml.Mark) -> None:
        """Count a value that is read, or made once more from an alias. Raises TooLargeError."""
        self._num_values += 1
        if self._num_values > 2 * MOST_VALUES:  # each is read and made
            raise TooLargeError(
                problem=f"more than {MOST_VALUES:,} values, those that aliases repeat included",
                problem_mark=mark,
            )

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replace `<<` by the keys that it brings in; called for each of its mappings first."""
        for key, value in node.value:
            if key.tag == MERGE and len(value.value) > MOST_MERGED:
                raise TooLargeError(
                    problem=f"<< merges more than {MOST_MERGED} mappings",
                    problem_mark=key.start_mark,
                )
        super().flatten_mapping(node)
        if len(node.value) > MOST_VALUES:
            raise TooLargeError(
                problem=f"a mapping of more than {MOST_VALUES:,} keys", problem_mark=node.start_mark
            )

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)


class Dumper(yaml.SafeDumper):
    """Puts strings in quotation marks wherever a reader of YAML 1.1 or 1.2 needs them."""


Loader.add_constructor(INT, Loader.construct_int)
for _tag, _pattern, _beginnings in RESOLVERS:
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), list(_beginnings))


def dump(values: Any) -> str:
    """Plain values as YAML that `experiment.config.yaml_files` reads as the same values."""
    return yaml.dump(values, Dumper=Dumper, sort_keys=False)
