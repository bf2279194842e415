"""Worker processes: the same numbers as in one process, whatever happens to them."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time

import pandas
import pytest
import torch
from whole_runs import (
    assert_same,
    content,
    is_running,
    needs_proc,
    processes,
    run_here,
    start,
    wait_for,
)

import experiment
from experiment.config.loading import load_config
from experiment.core.devices import num_cores, threads_of_each
from experiment.pruning.method import ScoreMethod
from experiment.runs.forecast import Forecast
from experiment.runs.tasks import Evaluate, Prune, Train
from experiment.runs.waiting import Waiting, lengths_of_chains, longest_chain_first


def workers_of(driver: int) -> list[int]:
    """The worker processes of a driver: the leaders of groups of their own."""
    return [
        number
        for number, fields in processes().items()
        if int(fields[1]) == driver and int(fields[2]) == number
    ]


@needs_proc
def test_workers_that_are_killed_cost_nothing_but_time(small, alone, tmp_path):
    draw = random.Random(0)
    process = start(small, tmp_path / "r", "--workers", "2", "--set", "nets_at_once=3")
    num_killed = 0
    while process.poll() is None and not num_killed:
        time.sleep(draw.uniform(0.1, 0.5))
        running = workers_of(process.pid)
        log = next((tmp_path / "r").rglob("log.txt"), None)
        if running and log is not None and "sample S" in log.read_text():
            os.kill(draw.choice(running), signal.SIGKILL)
            num_killed += 1
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert num_killed and "Traceback" not in err
    assert_same(alone, tmp_path / "r")


@needs_proc
def test_a_driver_that_ends_takes_its_workers_along_and_can_go_on(small, alone, tmp_path):
    for kind, code, moment in (
        (signal.SIGINT, 130, "001-prune.json"),
        (signal.SIGKILL, -signal.SIGKILL, "001-evaluate-contrast-1.json"),
    ):
        process = start(small, tmp_path / "r", "--workers", "2")
        wait_for(moment, tmp_path / "r", process)
        workers = workers_of(process.pid)
        assert len(workers) == 2
        began = time.monotonic()
        process.send_signal(kind)
        process.communicate(timeout=60)
        while any(is_running(worker) for worker in workers):
            time.sleep(0.05)
            assert time.monotonic() - began < 60
        assert process.returncode == code
    done = run_here(small, tmp_path / "r", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert_same(alone, tmp_path / "r")


class Deadly(ScoreMethod):
    """A method whose worker dies."""

    def scores(self, analysis, stream):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return analysis.weights


def test_a_task_that_kills_its_workers_is_given_up(small, tmp_path):
    settings = ["--set", "pruning.methods=[WT, test_workers:Deadly]", "--set", "num_nets=1"]
    done = run_here(small, tmp_path / "r", "--workers", "2", *settings)
    assert done.returncode == 1
    [failed] = [line for line in done.stderr.splitlines() if line.startswith("failed:")]
    assert "its worker has died 3 times, at last by SIGKILL" in failed
    assert done.stdout.count("attempt 2 of 3") == 1
    [rows, *_], _ = content(tmp_path / "r")
    assert rows["method"].value_counts().to_dict() == {"WT": 2, "reference": 1}


def test_runs_of_a_sweep_share_two_workers_and_trained_nets(small, alone, tmp_path):
    """The first one is what a process alone has run; in the last one no training succeeds."""
    deltas = "{pruning.delta: 1.0e-16}, {pruning.delta: 0.1}"
    sweep = f"sweep={{list: [{deltas}, {{training.optimizer.lr: 1.0e+30}}]}}"
    done = run_here(small, tmp_path / "r", "--workers", "2", "--set", sweep)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "the training loss is not finite" in done.stderr
    [undisturbed] = (path.parent for path in alone.rglob("results.csv"))
    assert_same(tmp_path / "r" / "small" / undisturbed.name, alone)
    tables = [
        pandas.read_csv(path.with_name("results.csv")).query("method == 'reference'")
        for path in (tmp_path / "r").rglob("environment.json")
    ]
    assert sorted(map(len, tables)) == [0, 2, 2]
    seconds = {table["retrain_seconds"].sum() for table in tables if len(table)}
    assert len(seconds) == 1  # of the same two trainings


@pytest.mark.parametrize("wrong", ["0", "-1", "two"])
def test_a_number_of_workers_that_makes_no_sense(small, tmp_path, wrong):
    done = run_here(small, tmp_path / "r", "--workers", wrong)
    assert done.returncode == 2 and "--workers" in done.stderr


def test_the_number_of_threads_is_recorded(small, tmp_path):
    settings = ["--set", "pruning.schedule=train", "--set", "training.epochs=1"]
    try:
        assert run_here(small, tmp_path, *settings, "--threads", "3").returncode == 0
    finally:
        torch.set_num_threads(1)
    [path] = tmp_path.rglob("environment.json")
    assert json.loads(path.read_text())["cpu_threads"] == 3


def test_workers_divide_the_cores_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = num_cores()
    assert threads_of_each(cores, None) == 1 == threads_of_each(2 * cores, None)
    assert threads_of_each(1, None) == torch.get_num_threads() == 1  # of the tests
    assert threads_of_each(cores, 5) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # which torch has read when it was imported
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert threads_of_each(cores, None) == 4


def test_the_longest_chain_comes_first_and_evaluations_before_all(small):
    config = load_config(small, ["retraining.epochs=5", "evaluation.corruptions=[]"])
    tasks = experiment.tasks(config)
    waiting = Waiting(tasks, longest_chain_first)
    order = []
    while waiting:
        [task] = waiting.take()
        waiting.finished(task)
        order.append(task)
    kinds = [type(task) for task in order]
    assert kinds[:6] == [Train, Evaluate, Train, Evaluate, Prune, Evaluate]
    by_key = {task.key: task for task in tasks}
    chains = lengths_of_chains(tasks)
    assert chains["net0/train"] == 10 and chains["net0/repetition0/0-SiPP/002-prune"] == 5
    steps = [task.place.step for task in order if isinstance(task, Prune)]
    assert steps == sorted(steps)  # no method is far behind the others
    assert set(by_key) == {task.key for task in order}


def test_the_time_that_is_left(small):
    tasks = experiment.tasks(load_config(small, ["retraining.epochs=5"]))
    forecast = Forecast(tasks)
    assert forecast.seconds_left(2, 0) is None
    named = {task.key: task for task in tasks}
    train = named["net0/train"]
    forecast.epoch_ended(train, 3.0)
    # 2 nets of 2 epochs and 8 retrainings of 5, less the one that is done; by two workers.
    assert forecast.seconds_left(2, 0) == pytest.approx((4 + 40 - 1) * 3.0 / 2)
    assert forecast.chain(train) == 1 + 10
    assert forecast.seconds_left(1000, forecast.chain(train)) == pytest.approx(11 * 3.0)
    forecast.interrupted(train)
    assert forecast.seconds_left(1, 0) == pytest.approx(44 * 3.0)
    forecast.ended(train, 6.0)
    forecast.ended(named["net0/evaluate"], 0.5)  # of 18
    assert forecast.seconds_left(1, 0) == pytest.approx(42 * 3.0 + 17 * 0.5)


def test_threads_may_run_an_experiment(small, tmp_path):
    """Signals can be handled in the main thread only."""
    from experiment.runs.engines.processes import Processes

    engines = []
    thread = threading.Thread(target=lambda: engines.append(Processes(["cpu"], 1)))
    thread.start()
    thread.join()
    engines[0].close()
