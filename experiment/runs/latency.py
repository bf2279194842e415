"""How long the nets of a run take, in several runtimes: a table and a figure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.core.devices import choose_device
from experiment.core.errors import UserError
from experiment.core.files import write_whole
from experiment.deployment.cost import Cost
from experiment.deployment.latency import BATCH_SIZES, measure_latency
from experiment.deployment.latency_text import latency_lines
from experiment.deployment.subject import Subject
from experiment.reporting.records import REFERENCE
from experiment.runs.net_source import Source
from experiment.runs.stored_nets import MeasuredNet

if TYPE_CHECKING:
    import pandas

TABLE = "latency.csv"
FIGURE = Path("plots", "accuracy_vs_latency")
OF_NET = ("network", "dataset", "method", "net_seed", "repetition", "step")
OF_SIZE = ("keep_ratio_requested", "keep_ratio", "test_accuracy")
MOST_NETS = 40
DENSE_KERNELS = (
    "weights that are pruned one by one stay as zeros, by which dense kernels multiply all the "
    "same: such nets are faster only where filters are gone as a whole, or with sparse rows"
)


@dataclass(frozen=True)
class Latencies:
    """What was measured."""

    table: "pandas.DataFrame"
    path: Path  # of the table
    figure: Path
    left_out: list[str]  # nets that are not kept


def measure_run(
    run: str | Path,
    *,
    methods: Sequence[str] = (),
    keep_ratios: Sequence[float] = (),
    net_seed: int = 0,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    threads: int = 1,
    seconds: float = 10.0,
    device: str = "cpu",
    round_channels: int = 1,
    recompute: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Latencies:
    """Measure the unpruned net and the pruned ones side by side, physically smaller where they are.

    Args:
        run: the directory of a run, which may still be running.
        methods: only these; by default all.
        keep_ratios: only these of those that were asked for.
        net_seed: which of several nets; of several repetitions the first.
        batch_sizes, threads, seconds, device: see `measure_latency`.
        round_channels: see `shrink`.
        recompute: whether nets that are not kept are computed again.

    Returns:
        The table, one row per net, runtime and batch size, which is written to latency.csv of the
        run, and the figure in plots/.

    Raises:
        UserError: if there are no such nets.
    """
    source = Source.of(run, choose_device("auto") if recompute else "cpu", say)
    chosen, left_out = _chosen(source, methods, keep_ratios, net_seed, recompute)
    reference = source.stored.find(None, None, net_seed, 0)
    if not chosen and not left_out:
        raise UserError(f"{run}: has no pruned nets yet")
    if not chosen:
        raise UserError(
            f"{run}: none of these nets is kept: {'; '.join(left_out)}. --recompute computes them "
            f"again; runs with checkpoints: all keep every net"
        )
    nets = {one.title: one for one in (reference, *chosen)}
    subjects = []
    about = {}
    for title, found in nets.items():
        net = source.shrunk(source.stored.load(found, recompute), round_channels).net
        subjects.append(Subject(title, net, source.images))
        about[title] = _about(found, Cost.of(net, source.images))
    say(f"measuring {len(subjects)} nets, {seconds:g} s for each batch size")
    table = measure_latency(
        subjects,
        batch_sizes=batch_sizes,
        threads=threads,
        seconds=seconds,
        device=device,
        say=say,
    )
    return _written(table, about, source.stored.run.directory, left_out)


def _chosen(
    source: Source,
    methods: Sequence[str],
    keep_ratios: Sequence[float],
    net_seed: int,
    recompute: bool,
) -> tuple[list[MeasuredNet], list[str]]:
    """The pruned nets to measure, and what those are called that are not kept."""
    stored = source.stored
    candidates = stored.pruned(methods, keep_ratios, net_seed)
    there = [one for one in candidates if recompute or stored.is_kept(one)]
    if len(there) > MOST_NETS:
        raise UserError(
            f"{stored.run.directory}: {len(there)} nets are too many to be measured side by side, "
            f"at most {MOST_NETS}: choose some by --method and --keep-ratio"
        )
    return there, [one.title for one in candidates if one not in there]


def _about(found: MeasuredNet, cost: Cost) -> dict[str, object]:
    """The columns of a net."""
    return {
        **{name: found.values[name] for name in (*OF_NET, *OF_SIZE)},
        "parameters": cost.parameters,
        "macs": cost.macs,
        "nonzero_macs": cost.nonzero_macs,
    }


def _written(
    table: "pandas.DataFrame",
    about: dict[str, dict[str, object]],
    directory: Path,
    left_out: list[str],
) -> Latencies:
    """The table with the columns of the nets in front, written and drawn."""
    import pandas

    from experiment.reporting.plots.figures import save
    from experiment.reporting.plots.latency import accuracy_vs_latency

    of_nets = pandas.DataFrame([about[name] for name in table["net"]])
    whole = pandas.concat([of_nets, table.drop(columns="net")], axis=1)
    path = directory / TABLE
    write_whole(path, whole.to_csv(index=False))
    figure = save(accuracy_vs_latency(whole), directory / FIGURE)
    return Latencies(whole, path, figure, left_out)


def summary(found: Latencies) -> list[str]:
    """What to tell people of latencies."""
    table = found.table
    names = [
        "unpruned" if method == REFERENCE else f"{method} {100 * (1 - kept):.4g}% pruned"
        for method, kept in zip(table["method"], table["keep_ratio"])
    ]
    lines = latency_lines(table.assign(net=names))
    if found.left_out:
        lines.append(
            f"not kept, and so not measured (see --recompute): {'; '.join(found.left_out)}"
        )
    if (table["nonzero_macs"] < 0.99 * table["macs"]).any():
        lines.append(f"note: {DENSE_KERNELS}")
    return [*lines, f"table: {found.path}", f"plot: {found.figure}"]
