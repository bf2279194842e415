"""The first lines of a report: what was found, in a sentence, and how far the run is."""

import pandas

from experiment.core.text import visible
from experiment.reporting.board import duration
from experiment.reporting.comparison import IDENTITY
from experiment.reporting.measures import judged, references
from experiment.reporting.report.content import RunContent
from experiment.reporting.report.numbers import percent

RATIO = "prune_ratio_chosen_on_test"
ACCURACY = "test_accuracy_chosen_on_test"


def about(runs: list[RunContent]) -> str:
    """What was pruned, and where the results lie."""
    networks = ", ".join(dict.fromkeys(run.config.network.name for run in runs))
    datasets = ", ".join(dict.fromkeys(run.config.dataset.name for run in runs))
    where = runs[0].directory if len(runs) == 1 else f"{len(runs)} runs"
    return visible(f"{networks} on {datasets} · {where}")


def headline(runs: list[RunContent]) -> str:
    """The method that can be pruned most at commensurate accuracy, or what else can be said."""
    if not any(len(run.rows) for run in runs):
        return "No net has been measured yet" if _goes_on(runs) else "No net was measured"
    summaries = [run.summary.assign(run=run.label) for run in runs if len(run.summary)]
    if not summaries:
        return _unpruned_alone(runs)
    best = _best(pandas.concat(summaries, ignore_index=True))
    so_far = "So far, " if _goes_on(runs) else ""
    if best[f"{RATIO}_mean"] == 0:
        return _nothing_commensurate(runs, so_far)
    accuracy = percent(best[f"{ACCURACY}_mean"], best[f"{ACCURACY}_std"])
    name = _name(best["method"], best["run"], runs)
    return f"{so_far}{name} keeps {accuracy} at {percent(best[f'{RATIO}_mean'])} pruned"


def explanation(runs: list[RunContent]) -> str:
    """How the headline was found, and how far it can be trusted."""
    summaries = [run.summary for run in runs if len(run.summary)]
    if not summaries:
        return ""
    margins = dict.fromkeys(f"{100 * run.config.pruning.commensurate_margin:g}" for run in runs)
    nets = max(int(summary["nets"].max()) for summary in summaries)
    of_nets = (
        f"means ± one standard deviation over {nets} nets"
        if nets > 1
        else "of a single net, so that nothing is known of the spread"
    )
    return (
        f"A net may have an error at most {' or '.join(margins)} points above that of the unpruned "
        f"one, whose accuracy is {_unpruned(runs)}; the largest prune ratio counts. These are "
        f"{of_nets}. The ratio is chosen on the test set, as in papers, which flatters; the table "
        f"below has the choice on the validation set as well."
    )


def status(run: RunContent) -> str:
    """How far a run is, and what comes next."""
    measured = f"{len(run.rows)} of {run.num_expected} nets are measured"
    if run.state == "done":
        return f"Done: {measured}."
    if run.state == "running":
        left = "" if run.seconds_left is None else f", about {duration(run.seconds_left)} left"
        return f"Running: {measured}{left}. This page was written meanwhile."
    if run.state == "failed":
        tasks = "1 task" if len(run.failures) == 1 else f"{len(run.failures)} tasks"
        return f"Failed: {tasks}; {measured}. The same command tries again what has failed."
    return f"Interrupted: {measured}. The same command goes on."


def joint_status(runs: list[RunContent]) -> str:
    """How many of several runs are done."""
    num_done = sum(run.state == "done" for run in runs)
    return f"{num_done} of {len(runs)} runs are done."


def _goes_on(runs: list[RunContent]) -> bool:
    return any(run.state in ("running", "interrupted") for run in runs)


def _best(summary: pandas.DataFrame) -> pandas.Series:
    """The row that is pruned most; of those that are pruned equally, the most accurate one."""
    order = [f"{RATIO}_mean", f"{ACCURACY}_mean"]
    return summary.sort_values(order, ascending=False, kind="stable").iloc[0]


def _name(method: str, run: str, runs: list[RunContent]) -> str:
    return f"{method} ({run})" if len(runs) > 1 else method


def _unpruned_alone(runs: list[RunContent]) -> str:
    """What is said before a method can be judged."""
    accuracy = _unpruned(runs)
    if not accuracy:
        return "Pruned nets are measured, but no unpruned one yet"
    what = "nothing is pruned yet" if _goes_on(runs) else "no net was pruned"
    return f"The unpruned net has {accuracy}; {what}"


def _unpruned(runs: list[RunContent]) -> str:
    """The accuracy of the unpruned nets, each counted once; empty before there are any."""
    found = [references(run.rows) for run in runs if len(run.rows)]
    if not any(map(len, found)):
        return ""
    nets = pandas.concat(found).drop_duplicates(["net_seed", *IDENTITY])  # runs may share nets
    return percent(nets["test_accuracy"].mean(), nets["test_accuracy"].std())


def _nothing_commensurate(runs: list[RunContent], so_far: str) -> str:
    """What is said if every method loses more than it may: which one loses least, and where."""
    losses = pandas.concat([_losses(run) for run in runs if len(run.rows)], ignore_index=True)
    least = losses.loc[losses["difference"].idxmax()]
    points = f"{-100 * least['difference']:.1f} points"
    name = _name(least["method"], least["run"], runs)
    sentence = (
        f"no method stays within the margin; {name} comes closest: {points} below the unpruned "
        f"net at {percent(least['prune_ratio'])} pruned"
    )
    return so_far + sentence if so_far else sentence[0].upper() + sentence[1:]


def _losses(run: RunContent) -> pandas.DataFrame:
    """The mean difference of each method and step of a run to the unpruned nets."""
    pruned = judged(run.rows).assign(run=run.label)
    by_step = pruned.groupby(["run", "method", "step"], sort=False)
    return by_step[["difference", "prune_ratio"]].mean().dropna().reset_index()
