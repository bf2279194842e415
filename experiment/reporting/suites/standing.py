"""A ranking as people read it: on the console, in a file, and at the top of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas

from experiment.reporting.shown_tables import shown_table
from experiment.reporting.suites.ranking import EQUAL, HIGHER, LOWER

TOO_MUCH = 0.05  # of the size asked for; filters go as wholes, so that sizes come in steps
EXPLANATION = (
    "The score of a net is the mean, over all keep ratios, of its test accuracy after pruning and "
    "retraining less that before, in points; methods are compared by the differences of their "
    "scores. A rank holds with 95% confidence: it counts only methods whose difference is certain. "
    "The interval beside a score is that of its mean over nets, by itself."
)


@dataclass(frozen=True)
class StandingTable:
    """A ranking by one experiment, or by all that remove the same, in cells of text."""

    title: str
    headings: list[str]
    rows: list[list[str]]

    def text(self) -> str:
        """For the console."""
        table = pandas.DataFrame(self.rows, columns=self.headings)
        return f"{self.title}\n{shown_table(table, 'text')}"


@dataclass(frozen=True)
class Standing:
    """What a suite has found."""

    headline: str
    notes: list[str]  # what can be said of the methods that were asked for, and of the comparison
    overall: list[StandingTable]
    by_experiment: list[StandingTable]

    explanation = EXPLANATION

    @property
    def tables(self) -> list[StandingTable]:
        """All tables, those over several experiments first."""
        return [*self.overall, *self.by_experiment]

    def text(self, tables: Sequence[StandingTable]) -> str:
        """Some of the tables, and the notes, for the console or a file."""
        return "\n\n".join([*(table.text() for table in tables), "\n".join(self.notes)])


def standing_table(title: str, table: pandas.DataFrame, baseline: str) -> StandingTable:
    """The table that `ranking` returns, in cells of text."""
    headings = [
        "rank",
        "method",
        "score",
        "95% interval",
        f"above {baseline}",
        "its interval",
        "pruned at commensurate accuracy",
        "nets",
        "results",
    ]
    return StandingTable(title, headings, [_cells(row) for row in table.to_dict("records")])


def _cells(row: dict[str, object]) -> list[str]:
    return [
        rank_text(row),
        str(row["method"]),
        _number(row["score"]),
        _range(row, "score"),
        _number(row["to_baseline"]),
        _range(row, "to_baseline"),
        f"{100 * float(str(row['commensurate_prune_ratio'])):.1f}%",
        str(row["nets"]),
        str(row["results"]),
    ]


def rank_text(row: dict[str, object]) -> str:
    """`3`, or `3 to 7` where methods cannot be told apart."""
    first, last = row["rank_from"], row["rank_to"]
    return str(first) if first == last else f"{first} to {last}"


def _number(value: object) -> str:
    return "" if pandas.isna(value) else f"{value:.2f}"


def _range(row: dict[str, object], column: str) -> str:
    start, end = row[f"{column}_from"], row[f"{column}_to"]
    return "" if pandas.isna(start) else f"{start:.2f} to {end:.2f}"


def sentences_about(
    method: str, removes: str, table: pandas.DataFrame, pairs: pandas.DataFrame
) -> list[str]:
    """What is certain of one method, and what is not: one line each."""
    own = table[table["method"] == method]
    if not len(own):
        return [f"{method} is not ranked: it has not pruned a net to all keep ratios everywhere"]
    rank = rank_text(own.iloc[0].to_dict())
    lines = [f"{method}: rank {rank} of {len(table)} methods that remove {removes}"]
    compared = pairs[pairs["method"] == method]
    for verdict, said in ((HIGHER, "better than"), (LOWER, "worse than"), (EQUAL, EQUAL + " from")):
        others = compared[compared["verdict"] == verdict]["other"]
        if len(others):
            lines.append(f"  {said}: {', '.join(others)}")
    return lines


def leaders(removes: str, table: pandas.DataFrame) -> str:
    """Who is first, as far as that can be said."""
    first = list(table[table["rank_from"] == 1]["method"])
    if not first:
        return f"no method that removes {removes} has finished"
    if len(first) == 1:
        return f"{first[0]} is the best method that removes {removes}"
    shown = f"{', '.join(first[:4])}{' and others' if len(first) > 4 else ''}"
    return f"{shown} {EQUAL} at the top of those that remove {removes}"


def sizes_to_doubt(table: pandas.DataFrame) -> list[str]:
    """One line for each method that has kept clearly more than it was asked to."""
    return [
        f"warning: {row['method']} has kept up to {100 * row['most_kept_too_much']:.0f}% more "
        f"parameters than asked for, which raises its score"
        for row in table[table["most_kept_too_much"] > TOO_MUCH].to_dict("records")
    ]
