"""Nets that several runs need are trained by one of them, whatever becomes of it."""

import json
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import asdict, replace

import pandas
import pytest

from experiment.config.loading import load_config
from experiment.core.errors import LockedError
from experiment.runs.claims import Claims
from experiment.runs.driver import run
from experiment.runs.lock import NAME, Owner, locked

FAST = {"heartbeat": 0.05, "stale": 0.4}


@pytest.fixture
def claims(tmp_path):
    made = []

    def make() -> Claims:
        made.append(Claims(tmp_path / "nets" / "cpu", **FAST))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_one_owner_at_a_time(claims):
    first, second = claims(), claims()
    assert first.take("a") and not second.take("a")
    assert first.take("a")  # again, since its worker has died
    assert second.holder("a").process == os.getpid()
    assert second.take("b")
    second.release("a")  # not its own
    assert not second.take("a")
    first.release("a")
    assert second.holder("a") is None and second.take("a")
    second.close()
    assert first.take("a") and first.take("b")


def test_of_many_threads_one_holds_a_claim(claims):
    holders = 0
    most = []
    turn = threading.Lock()

    def compete() -> None:
        nonlocal holders
        mine = claims()
        while not mine.take("a"):
            time.sleep(0.001)
        with turn:
            holders += 1
            most.append(holders)
        time.sleep(0.01)
        with turn:
            holders -= 1
        mine.release("a")

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def hold(directory, taken) -> None:
    Claims(directory).take("a")
    taken.set()
    time.sleep(60)


def test_the_claim_of_a_killed_process_is_taken_over_at_once(claims):
    context = multiprocessing.get_context("spawn")
    taken = context.Event()
    own = claims()
    process = context.Process(target=hold, args=(own.directory, taken))
    process.start()
    assert taken.wait(30)
    assert not own.take("a")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert own.take("a")


def foreign(claims: Claims) -> None:
    """Make a claim look as if it were one of another host."""
    path = claims.directory / "a.lock"
    owner = Owner(**json.loads(path.read_text()))
    path.write_text(json.dumps(asdict(replace(owner, host="elsewhere"))))


def test_a_claim_of_another_host_counts_as_long_as_it_shows_life(claims):
    there, here = claims(), claims()
    there.take("a")
    foreign(there)
    end = time.monotonic() + 3 * FAST["stale"]
    while time.monotonic() < end:
        assert not here.take("a")
        time.sleep(0.02)
    there._closed.set()  # it has died
    deadline = time.monotonic() + 30
    while not here.take("a"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_claim_that_cannot_be_written_stops_nobody(tmp_path):
    (tmp_path / "file").write_text("")
    claims = Claims(tmp_path / "file" / "cpu")
    assert claims.take("a") and claims.holder("a") is None
    claims.close()


def test_a_run_waits_for_the_net_that_another_one_trains(small_config, tmp_path, capsys):
    config = load_config(small_config, ["pruning.schedule=train"])
    nets = tmp_path / "nets"
    runs = [
        threading.Thread(target=run, args=(config, tmp_path / name, "cpu", nets)) for name in "ab"
    ]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    assert "waits for the same net of process" in capsys.readouterr().out
    seconds = [pandas.read_csv(tmp_path / name / "results.csv")["retrain_seconds"] for name in "ab"]
    assert (seconds[0] == seconds[1]).all()
    assert not list(nets.rglob("*.lock"))


@pytest.mark.parametrize("fate", ["taken over", "deleted"])
def test_a_run_whose_lock_is_lost_stops_before_it_writes(small_config, tmp_path, fate):
    config = load_config(small_config)
    directory = tmp_path / "r"
    with locked(directory) as lock:
        if fate == "deleted":
            (directory / NAME).unlink()
        else:
            other = replace(lock.owner, process=1, token="other")
            (directory / NAME).write_text(json.dumps(asdict(other)))
        with pytest.raises(LockedError, match=fate):
            run(config, directory, lock=lock)
    assert not list(directory.rglob("*.safetensors"))
    assert (directory / NAME).exists() == (fate == "taken over")
