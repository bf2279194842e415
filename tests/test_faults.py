"""What is interrupted, damaged or deleted costs time, and never a number."""

import hashlib
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pandas
import pytest
import safetensors.torch
import torch
from conftest import ROOT, SMALL
from whole_runs import TIMES, assert_same, command, heed_signals, run_here, start, wait_for

from experiment.config.loading import load_config
from experiment.core.errors import StorageError
from experiment.core.files import write_whole, writing
from experiment.main import main
from experiment.methods.magnitude import WT
from experiment.reporting import logger
from experiment.runs import live, results
from experiment.runs.driver import run
from experiment.runs.ledger import Ledger
from experiment.runs.lock import Owner
from experiment.training.session import Session

CONFIG = f"{SMALL}\ncheckpoints: all\ncheckpoint_minutes: 0\n"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "small.yaml"
    path.write_text(CONFIG)
    return load_config(path)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory) -> Path:
    """The directory of a run that nothing has disturbed."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    assert run(config, directory).failures == []
    return directory


@pytest.fixture(scope="module")
def with_last_nets(config, tmp_path_factory) -> Path:
    """The directory of the same run, which has kept the last nets only, and of its trained net."""
    folder = tmp_path_factory.mktemp("last")
    config = config.model_copy(update={"checkpoints": "last"})
    assert run(config, folder / "run", nets=folder / "nets").failures == []
    return folder


def nets(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*.safetensors")
        if "damaged" not in path.parts
    }


def assert_equal(directory: Path, other: Path) -> None:
    """The same rows in the same order, and the same nets, to the bit."""
    for name in ("results.csv", "training.csv"):
        one, another = (
            pandas.read_csv(each / name).drop(columns=TIMES, errors="ignore")
            for each in (directory, other)
        )
        pandas.testing.assert_frame_equal(one, another, check_exact=True)
    assert nets(directory) == nets(other)
    assert not list(directory.rglob("*.checkpoint*")) and not list(directory.rglob(".*.part"))


class Stopped(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("schedule", ["cascade", "rewind"])
def test_a_training_goes_on_after_its_last_checkpoint(config, tmp_path, monkeypatch, schedule):
    """Stopped after each number of steps in turn, until it gets through: nothing is done twice."""
    [_, magnitude] = config.pruning.methods
    pruning = config.pruning.model_copy(
        update={"schedule": schedule, "rewind_epoch": 1, "methods": [magnitude]}
    )
    training = config.training.model_copy(update={"epochs": 3})
    config = config.model_copy(
        update={"pruning": pruning, "training": training, "retraining": training}
    )
    run(config, tmp_path / "whole")
    steps = 0
    step = Session.step
    per_epoch = 0

    def counted(session, *arguments):
        nonlocal steps, per_epoch
        per_epoch = session.data.train.num_batches(config.training.batch_size)
        steps += 1
        step(session, *arguments)
        if steps % 30 == 0:  # in the middle of an epoch
            raise Stopped

    monkeypatch.setattr(Session, "step", counted)
    num_stops = 0
    while True:
        try:
            run(config, tmp_path / "stopped")
        except Stopped:
            num_stops += 1
        else:
            break
    assert per_epoch < 30 and num_stops > 3
    monkeypatch.undo()
    assert_equal(tmp_path / "stopped", tmp_path / "whole")
    num_epochs = len(pandas.read_csv(tmp_path / "whole" / "training.csv"))
    assert steps < per_epoch * (num_epochs + num_stops)  # each stop costs less than an epoch
    assert "goes on after epoch" in (tmp_path / "stopped" / "log.txt").read_text()


def test_a_checkpoint_stays_until_the_next_is_stored(config, tmp_path, monkeypatch, capsys):
    """The process ends between the net of a checkpoint and its record."""
    training = config.training.model_copy(update={"epochs": 4})
    config = config.model_copy(update={"training": training})
    written = []

    def write(path, content, **options):
        write_whole(path, content, **options)
        if ".checkpoint" in path.name and path.suffix == ".safetensors":
            written.append(path)
            if len(written) == 2:
                raise Stopped

    monkeypatch.setattr(results, "write_whole", write)
    with pytest.raises(Stopped):
        run(config, tmp_path / "stopped")
    monkeypatch.undo()
    run(config, tmp_path / "stopped")
    captured = capsys.readouterr()
    assert "net 0: training: goes on after epoch 1" in captured.out and not captured.err
    run(config, tmp_path / "whole")
    assert_equal(tmp_path / "stopped", tmp_path / "whole")


def test_a_process_that_is_killed_within_a_training_goes_on(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    settings = ["--set", "training.epochs=9", "--set", "pruning.methods=[WT]"]
    process = start(path, tmp_path / "killed", *settings)
    while not (tables := list((tmp_path / "killed").rglob("training.csv"))) or (
        len(tables[0].read_text().splitlines()) < 5
    ):
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()
    process.communicate()
    resumed = run_here(path, tmp_path / "killed", *settings)
    assert resumed.returncode == 0
    assert "net 0: training: goes on after epoch " in resumed.stdout
    assert run_here(path, tmp_path / "whole", *settings).returncode == 0
    assert_same(tmp_path / "killed", tmp_path / "whole")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def put_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def take_from_neighbour(path: Path) -> None:
    others = sorted(path.parent.glob(f"*{path.suffix}"))
    other = next(one for one in others if one.read_bytes() != path.read_bytes())
    path.write_bytes(other.read_bytes())


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "empty": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a bit flipped": flip,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n{}"),
    "a folder": put_folder,
    "a link to nothing": put_link_to_nothing,
    "a pipe": put_pipe,  # from which one could read for ever
    "exchanged": take_from_neighbour,
}
TRAIN, PRUNE, RETRAIN, EVALUATE = (
    "net0/train",
    "net0/repetition0/0-SiPP/001-prune",
    "net0/repetition0/0-SiPP/001-retrain",
    "net0/repetition0/1-WT/002-evaluate",
)
# Each damage is done to a record and to the net of another step, and to each of them several ones.
DAMAGED = {
    "truncated": (TRAIN, PRUNE),
    "empty": (PRUNE, RETRAIN),
    "zeroed": (RETRAIN, TRAIN),
    "a bit flipped": (EVALUATE, PRUNE),
    "longer": (TRAIN, RETRAIN),
    "a folder": (PRUNE, TRAIN),
    "a link to nothing": (RETRAIN, PRUNE),
    "a pipe": (EVALUATE, TRAIN),
    "exchanged": (TRAIN, RETRAIN),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_reported_and_their_steps_computed_anew(
    config, finished, tmp_path, capsys, damage
):
    shutil.copytree(finished, tmp_path / "run")
    record, net = DAMAGED[damage]
    names = [f"{record}.json", f"{net}.safetensors"]
    for name in names:
        DAMAGES[damage](tmp_path / "run" / "steps" / name)
    assert run(config, tmp_path / "run").failures == []
    assert_equal(tmp_path / "run", finished)
    told = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(told) == len(names)
    for name in names:
        [line] = [one for one in told if one.startswith(f"damaged: {tmp_path}/run/steps/{name}")]
        assert "steps/damaged" in line
        assert os.path.lexists(tmp_path / "run" / "steps" / "damaged" / name)


IN_PLACE_OF_FILES = {
    "a folder": lambda path: (path.mkdir(), (path / "file").write_text("a file")),
    "a link": lambda path: path.symlink_to(path.parents[1] / "outside"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("put", IN_PLACE_OF_FILES)
def test_what_lies_in_the_place_of_a_runs_files_is_moved_aside_and_nothing_else_changed(
    config, finished, tmp_path, capsys, put
):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "outside").write_text("of somebody else")
    names = [path.relative_to(finished) for path in finished.rglob("*") if path.is_file()]
    names = [name for name in names if name.parts[0] != "steps"]
    assert {"log.txt", "identity.json", "results.csv"} <= {name.name for name in names}
    for name in names:
        (tmp_path / "run" / name).unlink()
        IN_PLACE_OF_FILES[put](tmp_path / "run" / name)
    assert run(config, tmp_path / "run").failures == []
    assert_equal(tmp_path / "run", finished)
    assert (tmp_path / "outside").read_text() == "of somebody else"
    errors = capsys.readouterr().err
    for name in names:
        path = tmp_path / "run" / name
        assert path.is_file() and not path.is_symlink()
        assert f"damaged: {path}: is no file; moved to" in errors
        assert os.path.lexists(tmp_path / "run" / "steps" / "damaged" / name)


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_records_of_other_runs_versions_and_hands_are_not_used(config, finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    run(config.model_copy(update={"seed": 7}), tmp_path / "other")
    steps = tmp_path / "run" / "steps"
    names = [f"net0/repetition0/{method}/001-evaluate.json" for method in ("0-SiPP", "1-WT")]
    shutil.copy(tmp_path / "other" / "steps" / names[0], steps / names[0])
    edit(steps / names[1], version=99)
    record = json.loads((steps / "net0" / "evaluate.json").read_text())["record"]
    edit(steps / "net0" / "evaluate.json", record={**record, "test_accuracy": 1.0})
    capsys.readouterr()
    assert run(config, tmp_path / "run").failures == []
    assert_equal(tmp_path / "run", finished)
    errors = capsys.readouterr().err
    assert f"{names[0]}: belongs to" in errors
    assert f"{names[1]}: has version 99 of the format, not 1" in errors
    assert "evaluate.json: was changed or damaged" in errors
    assert len(list((steps / "damaged").rglob("*.json"))) == 3


def test_a_folder_that_is_a_link_to_another_run_is_put_aside_and_that_run_left_alone(
    config, finished, tmp_path, capsys
):
    shutil.copytree(finished, tmp_path / "run")
    run(config.model_copy(update={"seed": 7}), tmp_path / "other")
    before = nets(tmp_path / "other")
    folder = tmp_path / "run" / "steps" / "net0" / "repetition0"
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "other" / "steps" / "net0" / "repetition0")
    assert run(config, tmp_path / "run").failures == []
    assert_equal(tmp_path / "run", finished)
    assert f"damaged: {folder} is a link to another folder" in capsys.readouterr().err
    assert nets(tmp_path / "other") == before
    assert (folder.parents[1] / "damaged" / "net0" / "repetition0").is_symlink()


def forge(path: Path, change) -> None:
    """Change a record, and give it the digest that it should have then."""
    stored = json.loads(path.read_text())
    change(stored)
    del stored["sha256"]
    digest = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**stored, "sha256": digest}))


FORGERIES = {
    "text": lambda stored: stored["record"].update(test_accuracy="1.0"),
    "nothing": lambda stored: stored["record"].update(test_loss=None),
    "NaN": lambda stored: stored["record"].update(test_loss=float("nan")),
    "a list": lambda stored: stored["record"].update(constant_output=[]),
}


def test_values_of_another_type_are_not_used(config, finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    paths = sorted((tmp_path / "run" / "steps" / "net0" / "repetition0").rglob("*-evaluate.json"))
    for path, change in zip(paths, FORGERIES.values(), strict=True):
        forge(path, change)
    assert run(config, tmp_path / "run").failures == []
    assert_equal(tmp_path / "run", finished)
    errors = capsys.readouterr().err
    assert all(f"damaged: {path}" in errors for path in paths)


@pytest.mark.parametrize("name", ["001-prune", "002-prune", "002-retrain", "002-evaluate"])
def test_a_step_that_was_computed_from_other_nets_is_computed_again(
    config, with_last_nets, tmp_path, capsys, name
):
    """The net from which it starts may no longer be kept: that is computed again, too."""
    config = config.model_copy(update={"checkpoints": "last"})
    shutil.copytree(with_last_nets / "run", tmp_path / "run")
    path = tmp_path / "run" / "steps" / "net0" / "repetition0" / "0-SiPP" / f"{name}.json"
    forge(path, lambda stored: stored.update(inputs=["0" * 64]))
    capsys.readouterr()
    assert run(config, tmp_path / "run").failures == []
    assert "again, since what it starts from is another net now" in capsys.readouterr().out
    assert_equal(tmp_path / "run", with_last_nets / "run")


def test_a_net_of_another_shape_is_not_used(config, finished, tmp_path, capsys):
    """Although its digest is the one in the record: the network's code may have changed."""
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "steps" / "net0" / "train.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["tensor:fc2.weight"] = torch.cat([tensors["tensor:fc2.weight"]] * 2)
    content = safetensors.torch.save(tensors)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    forge(path.with_suffix(".json"), lambda stored: stored.update(state=digest))
    assert run(config, tmp_path / "run").failures == []
    assert_equal(tmp_path / "run", finished)
    told = f"damaged: {path}: holds another net than that of the experiment"
    assert told in capsys.readouterr().err


def test_a_checkpoint_counts_although_what_it_was_computed_from_is_computed_again(
    config, finished, tmp_path, monkeypatch
):
    store_checkpoint = Ledger.store_checkpoint

    def store_and_stop(ledger, task, result):
        store_checkpoint(ledger, task, result)
        if task.key.endswith("0-SiPP/002-retrain"):
            raise Stopped

    monkeypatch.setattr(Ledger, "store_checkpoint", store_and_stop)
    with pytest.raises(Stopped):
        run(config, tmp_path / "run")
    monkeypatch.undo()
    edit(tmp_path / "run/steps/net0/repetition0/0-SiPP/001-retrain.json", version=99)
    assert run(config, tmp_path / "run").failures == []
    assert "step 2: retraining at 20.0%: goes on" in (tmp_path / "run/log.txt").read_text()
    assert_equal(tmp_path / "run", finished)


@pytest.mark.parametrize(
    ("checkpoints", "name"),
    [
        ("last", "001-prune"),
        ("last", "001-retrain"),
        ("last", "002-prune"),
        ("last", "002-retrain"),
        ("all", "001-prune"),
        ("all", "002-retrain"),
    ],
)
def test_a_deleted_step_is_computed_from_nets_that_are_gone(
    config, finished, with_last_nets, tmp_path, checkpoints, name
):
    """Nets that nothing was to start from any more are found again, from the trained one on."""
    config = config.model_copy(update={"checkpoints": checkpoints})
    kept = {"all": finished, "last": with_last_nets / "run"}[checkpoints]
    shutil.copytree(kept, tmp_path / "run")
    expected = nets(tmp_path / "run")
    for path in (tmp_path / "run").rglob(f"0-SiPP/{name}.*"):
        path.unlink()
    assert run(config, tmp_path / "run").failures == []
    assert nets(tmp_path / "run") == expected
    for table in ("results.csv", "training.csv"):
        one, other = (
            pandas.read_csv(directory / table).drop(columns=TIMES, errors="ignore")
            for directory in (tmp_path / "run", finished)
        )
        pandas.testing.assert_frame_equal(one, other, check_exact=True)


def test_what_follows_from_a_mended_method_is_measured_again(
    config, finished, tmp_path, monkeypatch
):
    """Only its prunings were deleted; nothing of the old nets stays in the table."""
    shutil.copytree(finished, tmp_path / "run")
    for path in (tmp_path / "run").rglob("1-WT/001-prune.json"):
        path.unlink()
    monkeypatch.setattr(WT, "scores", smallest_first)
    assert run(config, tmp_path / "run").failures == []
    run(config, tmp_path / "fresh")
    assert_equal(tmp_path / "run", tmp_path / "fresh")


def smallest_first(method, analysis, stream):
    return {name: 1 / (1 + weight.abs()) for name, weight in analysis.weights.items()}


def test_tables_are_written_from_the_steps(config, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    results = tmp_path / "run" / "results.csv"
    results.write_text(results.read_text().replace("SiPP", "Better"))
    (tmp_path / "run" / "training.csv").unlink()
    assert run(config, tmp_path / "run").failures == []
    for name in ("results.csv", "training.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "a bit flipped"])
@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_a_damaged_shared_net_is_trained_again(
    config, finished, with_last_nets, tmp_path, capsys, damage, kind
):
    shared = Path(shutil.copytree(with_last_nets / "nets", tmp_path / "nets"))
    [path] = shared.rglob(f"*.{kind}")
    before = path.read_bytes()
    DAMAGES[damage](path)
    run(config, tmp_path / "two", nets=shared)
    assert f"damaged: {path}" in capsys.readouterr().err
    assert_equal(tmp_path / "two", finished)
    assert kind == "json" or path.read_bytes() == before
    assert [one.name for one in (shared / "cpu" / "damaged").glob(f"*.{kind}")] == [path.name]


def test_what_a_killed_process_left_beside_a_shared_net_is_deleted(
    config, with_last_nets, tmp_path
):
    shared = Path(shutil.copytree(with_last_nets / "nets", tmp_path / "nets"))
    [net] = shared.rglob("*.safetensors")
    lock = net.with_suffix(".lock")
    owner = asdict(Owner.current()) | {"process": 2**22 + 1}  # no process has such a number
    lock.write_text(json.dumps(owner))
    for name in (f".{net.name}.1.part", f".{lock.name}.{owner['token']}.right"):
        net.with_name(name).write_text(json.dumps(owner))
    run(config, tmp_path / "two", nets=shared)
    assert {path.suffix for path in net.parent.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("damage", ["empty", "a pipe", "[]", "nested"])
def test_other_files_than_steps_are_written_anew(config, finished, tmp_path, damage):
    shutil.copytree(finished, tmp_path / "run")
    plots = [Path("plots", f"accuracy_vs_sparsity.{suffix}") for suffix in ("pdf", "png")]
    names = ["results.csv", "training.csv", "summary.csv", "environment.json", *plots]
    texts = {"[]": "[]", "nested": "[" * 100_000}
    for path in (tmp_path / "run" / name for name in names):
        path.write_text(texts[damage]) if damage in texts else DAMAGES[damage](path)
    assert run(config, tmp_path / "run").failures == []
    assert_equal(tmp_path / "run", finished)
    for name in ("summary.csv", "environment.json", "plots/accuracy_vs_sparsity.png"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


SAID = "interrupted; run the same command again to resume\n"


def test_a_signal_ends_a_run_with_one_line(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    process = start(path, tmp_path / "results", "--set", "training.epochs=1000")
    wait_for("train.checkpoint.json", tmp_path, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.endswith(SAID) and err.count("interrupted") == 1 and "Traceback" not in err
    assert not list(tmp_path.rglob("run.lock"))


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_exit_code_of_any_command_tells_the_signal(number, exit_code):
    """Of one that only waits."""
    script = """if True:
        import sys, time, types
        from experiment.core import signals
        signals.install()
        from experiment import commands, main

        def run(options):
            with signals.orderly():
                print("ready", flush=True)
                time.sleep(60)

        waits = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)
        commands.load = lambda name: waits
        sys.exit(main.main([]))
    """
    process = start_script(script)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (exit_code, SAID)


def start_script(script: str) -> subprocess.Popen:
    """A process that has said that it is ready, and ignores no signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("delays", [[0.1], [0.5], [2.5, 0.01], [3.0, 0.3]])
def test_early_and_repeated_interrupts_show_no_traceback(tmp_path, delays):
    """Within the imports, or while the run is about to end because of the first one."""
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    process = start(path, tmp_path / "results", "--set", "training.epochs=1000")
    while b"experiment.main" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.01)
    for delay in delays:
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    if delays != [0.1]:  # when Python itself may be starting
        assert process.returncode == 130
        assert err.endswith(SAID) and err.count("interrupted") == 1
        assert "experiment/" not in err


def test_a_signal_ends_what_does_not_listen():
    """Python's own handlers are not called while other code does not return."""
    script = """if True:
        import ctypes
        from experiment.core import signals
        signals.GRACE = 0.5
        signals.install()
        with signals.orderly():
            lock = ctypes.create_string_buffer(64)
            ctypes.CDLL(None).pthread_mutex_lock(lock)
            print("ready", flush=True)
            ctypes.CDLL(None).pthread_mutex_lock(lock)  # for ever
    """
    process = start_script(script)
    time.sleep(0.3)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, SAID)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_all_runs_at_once(config, tmp_path, monkeypatch, capsys):
    paths = [tmp_path / f"{name}.yaml" for name in ("one", "two")]
    for path in paths:
        path.write_text(CONFIG)
    log = tmp_path / "results" / "one" / config.run_id() / "log.txt"

    def append_to_full_disk(path, text):
        with writing(path), open("/dev/full", "a") as file:
            file.write(text)

    monkeypatch.setattr(logger, "append", append_to_full_disk)
    assert main([*map(str, paths), "--results", str(tmp_path / "results")]) == 1
    assert capsys.readouterr().err == (
        f"failed: cannot write {log}: No space left on device; free some space, and run the same "
        f"command again to go on\n"
    )
    assert not (tmp_path / "results" / "two").exists() and not list(tmp_path.rglob("run.lock"))


def test_a_directory_that_vanishes_at_the_end_is_told(config, tmp_path, monkeypatch):
    monkeypatch.setattr(live.Live, "refresh", lambda self: None)
    monkeypatch.setattr(live, "write_plots", lambda rows, directory: shutil.rmtree(directory))
    with pytest.raises(StorageError, match=r"files of the run have vanished meanwhile: .*/run"):
        run(config, tmp_path / "run")


def test_a_net_that_cannot_be_stored_ends_the_run(config, tmp_path):
    """Its tables can be written: they are smaller. The run goes on once there is room."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))
    try:
        with pytest.raises(
            StorageError, match=r"cannot write .*train.checkpoint.safetensors: File too large"
        ):
            run(config, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("train.json"))
    assert run(config, tmp_path / "run").failures == []


@pytest.mark.parametrize("redirection", ["2>&1 | head -1", ">&- 2>&-"])
def test_output_that_nobody_reads_stops_nothing(tmp_path, redirection):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    line = shlex.join(command(path, tmp_path / "results", "--set", "pruning.schedule=train"))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} {redirection}"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(pandas.read_csv(next(tmp_path.rglob("results.csv")))) == 1
