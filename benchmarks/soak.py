"""Shows that nothing is lost: small experiments are killed, damaged and starved of space.

`python -m benchmarks.soak [--kills 200] [--damages 300] [--seed 0]` disturbs small experiments at
random moments and in random ways, runs the same command again, and compares what is there then
with an undisturbed run: the rows of the tables (times aside), all nets, the summary and the figure
to the bit, and that no other file lies there. What happens in a case is drawn from its seed;
`--only "GROUP SEED"` does one again. Full disks need the right to mount a file system.

Where moments are measured in seconds, a case does not happen to the microsecond again.
"""

import argparse
import collections
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.faults import checkpoint_cost, damages, kills, storage
from benchmarks.faults.cases import Case, Found
from benchmarks.faults.experiments import TEXTS, Experiment
from experiment.main import main as experiment_main

KILL_SHARES = {  # of the kills
    "kills, one process": (kills.one_process, 0.60, ["cascade", "rewind"]),
    "kills, sweep": (kills.one_process, 0.15, ["sweep"]),
    "kills, imports": (kills.imports, 0.08, ["cascade"]),
    "kills, a worker of two": (kills.worker, 0.07, ["cascade", "rewind"]),
    "kills, driver of workers": (kills.driver_of_workers, 0.10, ["cascade", "rewind"]),
}
DAMAGE_SHARES = {
    "damages, finished run": (damages.of_finished, 0.7, ["cascade", "rewind"]),
    "damages, half finished run": (damages.of_half_finished, 0.3, ["cascade", "rewind"]),
}


def main() -> int:
    options = parse_arguments()
    torch.set_num_threads(1)
    folder = Path(options.folder or tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    experiments = prepare(folder)
    cases = all_cases(options, experiments, folder)
    failures = do(cases, options.jobs)
    print(f"\n{len(cases)} cases in {(time.monotonic() - start) / 60:.0f} minutes")
    for case, found in failures:
        print(f'\nfailed: --only "{case.group} {case.seed}", in {case.folder}')
        print(*(f"  did {text}" for text in case.told), sep="\n")
        print(*(f"  {text[:1500]}" for text in found.problems[:8]), sep="\n")
    if options.epochs and not options.only:
        print(f"\n{checkpoint_cost.table(folder, options.epochs)}")
    return 1 if failures else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--damages", type=int, default=300)
    parser.add_argument(
        "--storage", type=int, default=5, help="of each kind of full disk and so on"
    )
    parser.add_argument("--epochs", type=int, default=6, help="to measure what checkpoints cost")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases at a time")
    parser.add_argument("--only", help='a case to do again: "GROUP SEED"')
    parser.add_argument("--folder", help="for all files (default: a temporary one)")
    return parser.parse_args()


def prepare(folder: Path) -> dict[str, Experiment]:
    """Run everything once in this process, so that forked ones start at once, and undisturbed."""
    null = os.open(os.devnull, os.O_WRONLY)
    kept = os.dup(1)
    sys.stdout.flush()
    os.dup2(null, 1)
    for name in TEXTS:
        experiment = Experiment.unrun(name, folder)
        assert experiment_main(experiment.arguments(folder / "warm")) == 0
    sys.stdout.flush()
    os.dup2(kept, 1)
    return {name: Experiment.undisturbed(name, folder) for name in TEXTS}


def all_cases(
    options: argparse.Namespace, experiments: dict[str, Experiment], folder: Path
) -> list[Case]:
    """The cases that were asked for, those that take longest first."""
    asked = [(shares, total) for shares, total in (
        (KILL_SHARES, options.kills), (DAMAGE_SHARES, options.damages)
    )]  # fmt: skip
    cases = []

    def add(group: str, fault: object, count: int, names: list[str]) -> None:
        for number in range(count):
            seed = options.seed * 100_000 + number
            case_folder = folder / "cases" / f"{group} {seed}".replace(" ", "-").replace(",", "")
            name = names[number % len(names)]
            cases.append(Case(group, fault, experiments[name], seed, case_folder))

    for shares, total in asked:
        for group, (fault, share, names) in shares.items():
            add(group, fault, round(total * share), names)
    for group, fault in storage.KINDS.items():
        add(group, fault, options.storage, ["cascade", "rewind"])
    if options.only:
        cases = [case for case in cases if f"{case.group} {case.seed}" == options.only]
    return cases


def do(cases: list[Case], jobs: int) -> list[tuple[Case, Found]]:
    """Do all cases, print the table, and return those that failed."""
    done: dict[str, list[Found]] = collections.defaultdict(list)
    failures = []
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for number, (case, found) in enumerate(pool.imap_unordered(Case.run, cases), 1):
            done[case.group].append(found)
            if found.problems:
                failures.append((case, found))
            if number % 20 == 0:
                print(f"{number} of {len(cases)}, {len(failures)} failed", file=sys.stderr)
    print(table(done, list(dict.fromkeys(case.group for case in cases))))
    return failures


def table(done: dict[str, list[Found]], groups: list[str]) -> str:
    """What has come of each group of cases."""
    lines = [
        "| kind of fault | number | resumed to equal results | worst seconds to end |",
        "|---|---|---|---|",
    ]
    for group in groups:
        found = done[group]
        good = sum(not one.problems for one in found)
        worst = max((one.seconds for one in found), default=0.0)
        lines.append(f"| {group} | {len(found)} | {good} | {f'{worst:.1f}' if worst else '-'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
