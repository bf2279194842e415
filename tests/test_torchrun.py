"""`torchrun ... -m experiment.main`: one net over several processes, whatever happens to them."""

import json
import os
import re
import signal
import threading
from datetime import timedelta
from pathlib import Path

import pandas
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, nn
from whole_runs import KEY, launch, needs_proc, processes, run_here, start, wait_for

from experiment.config.loading import load_config
from experiment.core import torchrun
from experiment.core.errors import UserError
from experiment.main import main
from experiment.networks.lenet import lenet5
from experiment.runs.compile_choice import for_a_team
from experiment.runs.engines import team
from experiment.runs.engines.engine import Finished
from experiment.training.team import Team

TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2"]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which torchrun would set, and say


def the_run(results: Path) -> Path:
    [directory] = {path.parent for path in results.rglob("config.yaml")}
    return directory


def tables(results: Path) -> list[pandas.DataFrame]:
    return [
        pandas.read_csv(the_run(results) / name).sort_values(key, ignore_index=True)
        for name, key in (("results.csv", KEY), ("training.csv", [*KEY, "epoch"]))
    ]


def assert_alike(results: Path, others: Path) -> None:
    """The same rows, losses that differ by rounding, and the same masks."""
    for one, other in zip(tables(results), tables(others)):
        assert one[KEY].equals(other[KEY])
        for column in one.columns:
            if "loss" in column:
                assert (one[column] - other[column]).abs().max() < 1e-4, column
            elif column.endswith("keep_ratio"):
                assert one[column].equals(other[column])
            elif "accuracy" in column:  # of 360 test images, one may be on the edge
                assert (one[column] - other[column]).abs().max() < 6e-3, column
    nets = sorted(the_run(results).rglob("*.safetensors"))
    assert len(nets) == 18
    for path in nets:
        own = load_file(path)
        theirs = load_file(the_run(others) / path.relative_to(the_run(results)))
        masks = [name for name in own if name.startswith("mask:")]
        assert masks and all(torch.equal(own[name], theirs[name]) for name in masks)
        for name in own.keys() - masks:
            torch.testing.assert_close(own[name], theirs[name], atol=1e-3, rtol=1e-3)


def test_two_processes_find_what_one_finds(small, alone, tmp_path):
    done = launch(small, tmp_path, launcher=TORCHRUN)
    assert done.returncode == 0, done.stderr
    assert_alike(tmp_path, alone)
    assert "Warning" not in done.stderr and "Traceback" not in done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("net 0")]
    assert len(lines) == len(set(lines)) == 5  # one process alone speaks
    assert "on cpu, 2 processes" in done.stdout
    recorded = json.loads((the_run(tmp_path) / "environment.json").read_text())
    assert recorded["processes_per_net"] == 2 and recorded["cpu_threads"] == 1
    assert {path.name for path in the_run(tmp_path).iterdir()} == {
        path.name for path in the_run(alone).iterdir()
    }


def test_ctrl_c_ends_all_and_one_process_goes_on(small, alone, tmp_path):
    process = start(small, tmp_path, launcher=TORCHRUN)
    wait_for("001-prune.json", tmp_path, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert err.count("interrupted; run the same command again to resume") == 1
    assert not list(tmp_path.rglob("run.lock"))
    num_rows = len(tables(tmp_path)[0])
    assert 0 < num_rows < 10
    done = run_here(small, tmp_path)
    assert done.returncode == 0, done.stderr
    assert_alike(tmp_path, alone)
    assert "processes_per_net was 2, is 1" in (the_run(tmp_path) / "log.txt").read_text()


def test_a_wait_for_the_others_can_be_interrupted(monkeypatch):
    monkeypatch.setattr(team, "LONGEST_WAIT", timedelta(seconds=20))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been ignored
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        link = team.Link(Team(rank=0, size=2), distributed.HashStore())
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
            link.compare(Finished((), 0.0))  # for the second process, which never comes
    finally:
        distributed.destroy_process_group()
        signal.signal(signal.SIGINT, before)


def members_of(launcher: int) -> dict[int, int]:
    """The processes that torchrun has started, by rank."""
    found = {}
    for number, fields in processes().items():
        if int(fields[1]) == launcher:
            environment = b"\0" + Path(f"/proc/{number}/environ").read_bytes()
            if ranks := re.search(rb"\0RANK=(\d+)\0", environment):
                found[int(ranks[1])] = number
    return found


@needs_proc
def test_torchrun_restarts_processes_that_are_killed(small, alone, tmp_path):
    """The first one: it leaves its lock behind. If another one ends, the first one hears of it."""
    process = start(small, tmp_path, launcher=[*TORCHRUN, "--max-restarts=1"])
    wait_for("001-prune.json", tmp_path, process)
    os.kill(members_of(process.pid)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert out.count("results in ") == 2
    assert_alike(tmp_path, alone)


def failing(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """A net whose training fails in the second process alone."""
    team.GRACE = timedelta(seconds=1)
    net = lenet5(input_shape=input_shape, num_classes=num_classes)

    def fail(module: nn.Module, inputs: tuple) -> None:
        if net.training and torch.is_grad_enabled() and torchrun.is_follower():
            raise RuntimeError("out of luck")

    net.register_forward_pre_hook(fail)
    return net


def test_a_process_that_fails_alone_ends_all(small, tmp_path):
    done = launch(small, tmp_path, "--set", "network.name=test_torchrun:failing", launcher=TORCHRUN)
    assert done.returncode == 1
    assert "failed: process 1 of 2 cannot go on with the others: " in done.stderr
    assert "RuntimeError: out of luck" in done.stderr
    assert not list(tmp_path.rglob("training.csv")) or not len(tables(tmp_path)[1])


def test_what_fails_in_all_processes_is_a_failure_of_the_run(small, tmp_path):
    settings = ["--set", "training.optimizer.lr=1e30", "--set", "num_nets=1"]
    done = launch(small, tmp_path, *settings, launcher=TORCHRUN)
    assert done.returncode == 1
    # Once when it happens, once at the end; and not as a failure of one process alone.
    assert done.stderr.count("failed: DivergedError: the training loss is not finite") == 2
    assert "cannot go on with the others" not in done.stderr


@pytest.fixture
def member(monkeypatch):
    """Makes this process one that torchrun has started."""

    def become(rank: int, size: int = 2) -> None:
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
        for name, value in zip(names, (rank, rank, size, size, "none")):
            monkeypatch.setenv(name, str(value))

    return become


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "--workers: torchrun has started 2 processes"),
        (["--engine", "ray"], "--engine ray: torchrun has started 2 processes"),
        (["--device", "mps"], "--device mps: several processes cannot use it together"),
        (["--time"], "--time: only measures"),
    ],
)
def test_what_torchrun_cannot_do_is_refused_by_one_process(
    small, tmp_path, member, capsys, arguments, message
):
    member(0)
    command = [str(small), "--results", str(tmp_path), *arguments]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    member(1)
    with pytest.raises(SystemExit) as end:  # without a failure: torchrun would end the first one
        main(command)
    assert end.value.code == 0
    assert capsys.readouterr() == ("", "")


def test_a_team_cannot_compile(small):
    for part in ("training", "retraining"):
        with pytest.raises(UserError, match=f"{part}.compile: .*; use off"):
            for_a_team(load_config(small, [f"{part}.compile=on"]))
    config = for_a_team(load_config(small, []))
    assert config.training.compile == config.retraining.compile == "off"


def test_plans_and_wrong_arguments_are_printed_once(small, member, capsys):
    for rank in range(2):
        member(rank)
        assert main([str(small), "--dry-run"]) == 0
        if rank:
            with pytest.raises(SystemExit) as end:
                main([str(small), "--nonsense"])
            assert end.value.code == 0
        else:
            assert main([str(small), "--nonsense"]) == 2
        assert main([], "schema") == 0
        printed = capsys.readouterr()
        assert bool(printed.out) == bool(printed.err) == (rank == 0)


def test_one_process_of_torchrun_is_none(member):
    member(0, size=1)
    assert torchrun.member() is None
