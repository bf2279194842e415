"""One process at a time writes the results of a run."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

from experiment.core.errors import LockedError
from experiment.main import main
from experiment.runs.lock import NAME, Lock, holder_of, locked, start_of

HOLD = """
import sys, time
from pathlib import Path
from experiment.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def write_lock(directory, **changes):
    owner = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": start_of(os.getpid()),
        "since": "2026-01-02 03:04:05 UTC",
        "token": "of another lock",
    }
    (directory / NAME).write_text(json.dumps(owner | changes))


def test_a_lock_is_gone_after_the_block(tmp_path):
    directory = tmp_path / "new" / "run"
    with locked(directory):
        assert json.loads((directory / NAME).read_text())["process"] == os.getpid()
    with pytest.raises(ValueError, match="of the block"), locked(directory):
        raise ValueError("of the block")
    assert not list(tmp_path.iterdir())  # nor are directories left that were made for it alone
    with locked(directory):
        (directory / "table").touch()
    assert [path.name for path in directory.iterdir()] == ["table"]


def test_another_process_is_named(tmp_path, holder):
    with pytest.raises(LockedError, match=f"process {holder.pid} on .*, since 2.*wait"):
        locked(tmp_path).__enter__()
    with pytest.raises(LockedError, match=f"process {holder.pid}"):  # it certainly runs
        locked(tmp_path, take_over=True).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / NAME).exists()
    with locked(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["process"] == os.getpid()


@pytest.mark.skipif(start_of(os.getpid()) is None, reason="only Linux tells when processes start")
def test_a_new_process_with_the_number_of_the_owner_is_not_the_owner(tmp_path):
    write_lock(tmp_path, started=start_of(os.getpid()) - 1)
    with locked(tmp_path):
        pass


def test_a_lock_of_another_host_is_taken_over_only_if_asked(tmp_path):
    write_lock(tmp_path, host="another", process=7)
    with pytest.raises(LockedError, match=r"process 7 on another, since 2026-.*--take-over"):
        locked(tmp_path).__enter__()
    with locked(tmp_path, take_over=True):
        assert json.loads((tmp_path / NAME).read_text())["host"] == socket.gethostname()
    assert not list(tmp_path.iterdir())


def test_only_the_lock_that_was_seen_to_be_dead_is_taken_over(tmp_path):
    write_lock(tmp_path, host="another", token="dead")
    dead = holder_of(tmp_path / NAME)
    write_lock(tmp_path, host="a third", token="has just taken it over")
    with pytest.raises(LockedError, match="on a third"):
        Lock.take(tmp_path / NAME, instead_of=dead)
    write_lock(tmp_path, host="another", token="dead")
    Lock.take(tmp_path / NAME, instead_of=dead).release()
    assert not list(tmp_path.iterdir())


def test_processes_that_were_killed_while_they_removed_a_lock_stop_nobody(tmp_path):
    write_lock(tmp_path, process=2**22 + 1, token="dead")  # no process has such a number
    for name in ("run.lock.dead", ".run.lock.dead.right.of another lock"):
        right = tmp_path / f".{name}.right"
        right.write_text((tmp_path / NAME).read_text().replace("dead", "of another lock"))
    (tmp_path / ".table.csv.1.part").touch()
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert not list(tmp_path.iterdir())


def test_the_right_to_remove_a_lock_is_left_to_who_has_it(tmp_path, holder):
    live = (tmp_path / NAME).read_text()
    write_lock(tmp_path, process=2**22 + 1, token="dead")
    (tmp_path / ".run.lock.dead.right").write_text(live)
    with pytest.raises(LockedError, match="could not be taken"):
        locked(tmp_path).__enter__()
    assert (tmp_path / ".run.lock.dead.right").read_text() == live


@pytest.mark.skipif(start_of(os.getpid()) is None, reason="only Linux tells when processes start")
def test_a_process_that_has_ended_unnoticed_by_its_parent_holds_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it is left there, as a zombie
    with locked(tmp_path):
        pass


def test_a_lock_that_was_taken_over_is_left_alone(tmp_path):
    with locked(tmp_path):
        write_lock(tmp_path, host="another")
    assert json.loads((tmp_path / NAME).read_text())["host"] == "another"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', "[" * 100_000])
def test_a_damaged_lock_is_said(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(LockedError, match="damaged; delete it"):
        locked(tmp_path).__enter__()
    assert (tmp_path / NAME).read_text() == text


@pytest.mark.parametrize("name", ["", "made/by/the/first"])
def test_of_many_that_find_a_dead_lock_or_none_one_at_a_time_holds_it(tmp_path, name):
    inside = []
    most = 0
    done = 0

    def work():
        nonlocal most, done
        for _ in range(20):
            try:
                with locked(tmp_path / name):
                    inside.append(1)
                    most = max(most, len(inside))
                    time.sleep(0.0005)
                    inside.pop()
                    done += 1
            except LockedError:
                pass

    if not name:
        write_lock(tmp_path, process=2**22 + 1)  # no process has such a number
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert done > 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_links_a_lock_is_a_lock(tmp_path, monkeypatch):
    def no_links(source, target):
        raise PermissionError("this file system has no links")

    monkeypatch.setattr(os, "link", no_links)
    write_lock(tmp_path, process=2**22 + 1)
    with locked(tmp_path), pytest.raises(LockedError, match="wait"):
        locked(tmp_path).__enter__()
    assert not list(tmp_path.iterdir())


def test_a_temporary_file_that_another_process_deletes_leaves_no_empty_lock(tmp_path, monkeypatch):
    link = os.link

    def deleted_before(source, target):
        os.unlink(source)
        monkeypatch.setattr(os, "link", link)
        link(source, target)

    monkeypatch.setattr(os, "link", deleted_before)
    with locked(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_in_use_ends_with_exit_code_3(small_config, tmp_path, capsys):
    command = [str(small_config), "--results", str(tmp_path / "r"), "--device", "cpu"]
    assert main(command) == 0
    [table] = (tmp_path / "r").rglob("results.csv")
    before = {path: path.stat().st_mtime_ns for path in table.parent.rglob("*")}
    write_lock(table.parent, host="another", process=7)
    capsys.readouterr()
    assert main(command) == 3
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert shown.err.startswith(f"locked: {small_config}: {table.parent} is in use by process 7")
    (table.parent / NAME).unlink()
    assert {path: path.stat().st_mtime_ns for path in table.parent.rglob("*")} == before
    write_lock(table.parent, host="another", process=7)
    assert main([*command, "--take-over"]) == 0
    assert not (table.parent / NAME).exists()
