"""Published results, from a table in the repository, to be drawn beside those of runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from experiment.config.schema import Config
from experiment.core.errors import UserError

if TYPE_CHECKING:
    import pandas

TABLE = Path(__file__).parents[2] / "paper" / "published.csv"


def published_beside(config: Config) -> "pandas.DataFrame":
    """The published points for the network, data set, methods and schedule of a run.

    Those that are of another network of the same name, or have no accuracy at a prune ratio, are
    left out. Methods with options count as the method.

    Raises:
        UserError: if the table is not there, as in an installed package.
    """
    import pandas

    try:
        table = pandas.read_csv(TABLE, dtype={"not_comparable_since": str, "schedule": str})
    except FileNotFoundError:
        raise UserError(
            f"--published: {TABLE} is not there; it is part of the repository, not of an "
            f"installed package"
        ) from None
    fits = (
        (table["network"] == config.network.name)
        & (table["dataset"] == config.dataset.name)
        & (table["schedule"] == config.pruning.schedule)
        & table["method"].isin([method.name for method in config.pruning.methods])
        & table["not_comparable_since"].isna()
        & table["prune_ratio"].notna()
        & table["test_accuracy"].notna()
    )
    return table[fits]
