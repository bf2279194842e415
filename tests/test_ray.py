"""Ray clusters: the same numbers as in one process, whatever happens to actors and nodes."""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from whole_runs import (
    assert_same,
    command,
    launch,
    needs_proc,
    processes,
    run_here,
    start,
    wait_for,
)

import experiment
from experiment.commands._engines import share
from experiment.main import main
from experiment.runs.engines.remote_worker import first_one_alone

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sipp-experiment[ray]'")

QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass
class Node:
    """A node of a cluster: `ray start --block`, whose child is the raylet."""

    start: subprocess.Popen

    @property
    def raylet(self) -> int:
        """Its process, waited for if it has just been started."""
        while self.start.poll() is None:
            for number, fields in processes().items():
                if int(fields[1]) == self.start.pid and name_of(number).endswith("raylet"):
                    return number
            time.sleep(0.1)
        raise RuntimeError("the node has ended")

    @property
    def actors(self) -> list[int]:
        """The processes of actors, whose parent is the raylet."""
        raylet = self.raylet
        return [
            number
            for number, fields in processes().items()
            if int(fields[1]) == raylet and name_of(number).startswith("ray::RemoteWorker")
        ]

    def stop(self) -> None:
        self.start.terminate()
        self.start.wait(timeout=60)


def is_busy(actor: int) -> bool:
    return name_of(actor) == "ray::RemoteWorker.do"


def name_of(process: int) -> str:
    """The first word of a process's command line."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().partition(b"\0")[0].decode()
    except OSError:
        return ""


@dataclass
class Cluster:
    """Nodes of one CPU core each on this machine."""

    directory: Path  # of what Ray writes
    address: str
    nodes: list[Node]

    def add_node(self) -> Node:
        self.nodes.append(start_node(f"--address={self.address}"))
        return self.nodes[-1]


def start_node(*arguments: str) -> Node:
    words = ["start", "--num-cpus=1", "--block", "--disable-usage-stats", *arguments]
    start = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *words],
        env={**os.environ, **QUIET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return Node(start)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of a head node, and of those that tests add."""
    directory = Path(tempfile.mkdtemp(prefix="ray"))  # whose path must be short, for sockets
    words = ["--head", "--port=0", "--include-dashboard=false", f"--temp-dir={directory}"]
    head = start_node(*words)
    file = directory / "ray_current_cluster"
    while not file.exists() or not file.read_text():
        assert head.start.poll() is None, "the head node has not started"
        time.sleep(0.1)
    cluster = Cluster(directory, file.read_text().strip(), [head])
    yield cluster
    for node in reversed(cluster.nodes):
        node.stop()
    shutil.rmtree(directory, ignore_errors=True)


def on(cluster: Cluster, *arguments: str) -> list[str]:
    return ["--engine", "ray", "--address", cluster.address, *arguments]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


def test_a_cluster_of_this_machine_finds_what_one_process_finds(small, tmp_path):
    """Where all begin with the same weights, of a file."""
    net = experiment.build_network("lenet5", input_shape=(1, 8, 8), num_classes=10)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    settings = ["--set", f"network.weights={tmp_path / 'net.pt'}"]
    done = launch(small, tmp_path / "r", *settings, "--engine", "ray", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert run_here(small, tmp_path / "alone", *settings).returncode == 0
    assert_same(tmp_path / "alone", tmp_path / "r")


@needs_proc
def test_actors_and_nodes_that_are_killed_cost_nothing_but_time(small, alone, tmp_path, cluster):
    draw = random.Random(0)
    [head, *_] = cluster.nodes
    process = start(small, tmp_path / "r", *on(cluster, "--workers", "2"))
    while not any(map(is_busy, head.actors)):  # the driver has attached itself to the head node
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    [actor] = head.actors
    os.kill(actor, signal.SIGSTOP)  # its task waits for the other node
    other = cluster.add_node()  # where the second worker finds a place
    while not any(map(is_busy, other.actors)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(actor, signal.SIGKILL)
    time.sleep(draw.uniform(0.0, 0.5))
    os.kill(other.raylet, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert "Traceback" not in err
    assert_same(alone, tmp_path / "r")


@needs_proc
def test_a_driver_that_ends_takes_its_actors_along_and_can_go_on(small, alone, tmp_path, cluster):
    for kind, code, moment in (
        (signal.SIGINT, 130, "001-prune.json"),
        (signal.SIGKILL, -signal.SIGKILL, "002-prune.json"),
    ):
        process = start(small, tmp_path / "r", *on(cluster))
        wait_for(moment, tmp_path / "r", process)
        process.send_signal(kind)
        process.communicate(timeout=60)
        assert process.returncode == code
        while cluster.nodes[0].actors:
            time.sleep(0.05)
    done = launch(small, tmp_path / "r", *on(cluster))
    assert done.returncode == 0, done.stderr
    assert_same(alone, tmp_path / "r")


@needs_proc
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_that_ray_would_answer_itself(small, tmp_path, cluster, number, exit_code):
    process = start(small, tmp_path / "r", *on(cluster), "--set", "training.epochs=1000")
    while not any(map(is_busy, cluster.nodes[0].actors)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert err == "interrupted; run the same command again to resume\n"
    while cluster.nodes[0].actors:
        time.sleep(0.05)


OWN = """
import os, time
from pathlib import Path
from experiment.data.sets.digits import digits
from own.parts import SECONDS

class Own(digits):
    '''Digits that are prepared in a file, which takes some time.'''

    def load(self):
        if "DRIVER" not in os.environ:
            prepared = Path(__file__).parents[1] / "prepared"
            if not prepared.exists():
                with (prepared.parent / "preparations").open("a") as file:
                    print("prepared", file=file)
                time.sleep(SECONDS)
                prepared.touch()
        return super().load()
"""


def test_own_code_travels_and_data_are_prepared_once_per_node(small, tmp_path, cluster):
    folder = tmp_path / "folder"
    (folder / "own").mkdir(parents=True)
    (folder / "own" / "__init__.py").write_text("")
    (folder / "own" / "data.py").write_text(OWN)
    (folder / "own" / "parts.py").write_text("SECONDS = 1.0")
    shutil.copytree(ROOT / "experiment", folder / "experiment")
    settings = ["--set", "dataset.name=own.data:Own", "--set", "pruning.schedule=train"]
    shares = ["--cpus-per-worker", "0.5"]
    before = os.environ.get("PYTHONPATH", "")
    environment = {**os.environ, "DRIVER": "1", "PYTHONPATH": f"{folder}:{before}"}
    done = subprocess.run(
        command(small, tmp_path / "r", *on(cluster, *shares), *settings),
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [file] = (cluster.directory / "session_latest").rglob("preparations")  # beside a copy of it
    assert file.read_text() == "prepared\n"


def test_a_share_that_no_node_has(small, tmp_path, cluster):
    done = launch(small, tmp_path / "r", *on(cluster, "--cpus-per-worker", "64"))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "no node has 64 CPU cores for a worker (the nodes have: 1 CPU cores" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--address", "auto"], "--address: belongs to a Ray cluster; add --engine ray"),
        (["--gpus-per-worker", "0.5"], "--gpus-per-worker: belongs to a Ray cluster"),
        (["--engine", "ray", "--device", "mps"], "--device mps: Ray knows nothing of it"),
        (["--engine", "ray", "--address", "ray://localhost:1"], "Ray Client cannot be used here"),
    ],
)
def test_arguments_that_do_not_fit(small, tmp_path, capsys, arguments, says):
    assert main([str(small), "--results", str(tmp_path / "r"), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_shares():
    assert share("0.25") == 0.25 and share("3") == 3.0
    for wrong in ("-1", "1.5", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="a whole number"):
            share(wrong)


def test_one_prepares_alone_and_if_it_fails_the_next_one(tmp_path):
    inside, most, done = [], [], []

    def prepare(number: int) -> None:
        with contextlib.suppress(ValueError), first_one_alone(tmp_path / "new" / "marker"):
            inside.append(number)
            if len(done) < 2:
                most.append(len(inside))
            time.sleep(0.1)
            inside.remove(number)
            done.append(number)
            if len(done) == 1:
                raise ValueError("the first one fails")

    threads = [threading.Thread(target=prepare, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1, 2, 3] and most[:2] == [1, 1]
