"""Trackers show what the tables of a run hold, and no number depends on them."""

import struct
import threading
import time

import pandas
import pytest
from conftest import SMALL
from whole_runs import assert_same

import experiment
from experiment.config.loading import load_config
from experiment.core.errors import UserError
from experiment.main import main
from experiment.reporting import tracking
from experiment.reporting.tracking import Tracker
from experiment.runs.driver import run
from experiment.runs.preflight import Preflight

TOLD: list[tuple[str, int, dict[str, float]]] = []


class Remembering(Tracker):
    def start(self, about):
        TOLD.clear()
        self.about = about

    def log(self, axis, position, values):
        TOLD.append((axis, position, values))

    def finish(self):
        TOLD.append(("finished", 0, {}))


class Failing(Remembering):
    def __init__(self, *, at: str = "log"):
        self.at = at

    def start(self, about):
        if self.at == "start":
            raise ConnectionError("no answer from\nthe server")

    def log(self, axis, position, values):
        if self.at == "exit":
            raise SystemExit(3)
        raise ConnectionError("no answer from\nthe server")


class Hanging(Remembering):
    def start(self, about):
        threading.Event().wait()


class NoTracker:
    pass


class NotInstalled(Remembering):
    package = "no_such_package_anywhere"
    to_install = "no-such-package"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Loads the small experiment with trackers."""
    monkeypatch.syspath_prepend("tests")
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return lambda *trackers: load_config(path, [f"logging=[{', '.join(trackers)}]"])


def corrupted(config):
    """The same experiment, which evaluates nets on corrupted images too."""
    values = config.model_dump(mode="json")
    return type(config)(**values | {"evaluation": {"corruptions": ["fog"], "severities": [1, 5]}})


def fogs(directory):
    """The rows of a net on corrupted images, by what is measured and the name of its curve."""
    table = pandas.read_csv(directory / "corruptions.csv")
    for (method, severity), rows in table.groupby(["method", "severity"]):
        for measure in ("accuracy", "loss"):
            yield f"corruptions/{measure}/fog_{severity}/{method}/net0", rows["step"], rows[measure]


def own(name, options=""):
    return f"{{name: 'test_tracking:{name}'{options}}}"


def told(config):
    """What the tracker of an own module, which is imported by its own name, was told."""
    import test_tracking

    return test_tracking.TOLD


def test_a_tracker_is_told_of_every_row_of_the_tables(small, tmp_path):
    config = small(own("Remembering"))
    run(config, tmp_path / "run")
    *points, last = told(config)
    assert last[0] == "finished"
    rows = experiment.load_results(tmp_path / "run")
    at_steps = {
        (name, position): value
        for axis, position, values in points
        if axis == "step"
        for name, value in values.items()
    }
    for row in rows.itertuples():
        name = f"results/test_accuracy/{row.method}/net{row.net_seed}"
        assert at_steps[name, row.step] == row.test_accuracy
    epochs = pandas.read_csv(tmp_path / "run" / "training.csv")
    losses = [
        (name, position)
        for axis, position, values in points
        if axis == "epoch"
        for name in values
        if "/train_loss/" in name
    ]
    assert len(losses) == len(set(losses)) == len(epochs)


def test_a_run_that_goes_on_tells_of_all_rows_again(small, tmp_path):
    config = small(own("Remembering"))
    run(config, tmp_path / "run")
    before = sorted(map(str, told(config)))
    run(config, tmp_path / "run")
    assert sorted(map(str, told(config))) == before and len(before) > 3


def test_a_tracker_is_told_of_every_net_on_corrupted_images_also_when_a_run_goes_on(
    small, tmp_path
):
    config = corrupted(small(own("Remembering")))
    run(config, tmp_path / "run")
    curves = list(fogs(tmp_path / "run"))
    assert len(curves) == 3 * 2 * 2  # the unpruned net and two methods, two severities

    def points():
        return sorted(
            (name, position, value)
            for axis, position, values in told(config)
            for name, value in values.items()
            if name.startswith("corruptions/") and axis == "step"
        )

    expected = sorted(point for name, *columns in curves for point in zip_points(name, *columns))
    assert points() == expected
    # All are told again, those that are stored and those that are lost and evaluated once more.
    for lost in ("nothing", "*evaluate-fog-5.json"):
        for path in (tmp_path / "run" / "steps").rglob(lost):
            path.unlink()
        run(config, tmp_path / "run")
        assert points() == expected
    run(
        small(own("Remembering")), tmp_path / "run"
    )  # without corruptions, there is nothing to tell
    assert points() == []


def zip_points(name, steps, values):
    return [(name, step, value) for step, value in zip(steps, values)]


def test_trackers_do_not_change_the_run_id(small):
    assert small(own("Remembering")).run_id() == small().run_id()


@pytest.mark.parametrize("at", ["start", "log", "exit"])
def test_a_tracker_that_fails_is_left_out_and_said_once(small, tmp_path, capsys, at):
    config = small(own("Failing", f", at: {at}"), own("Remembering"))
    assert run(config, tmp_path / "run").failures == []
    run(small(), tmp_path / "without")
    assert_same(tmp_path / "run", tmp_path / "without")
    [line] = [one for one in capsys.readouterr().err.splitlines() if "tracker" in one]
    reason = "ExitedError" if at == "exit" else "ConnectionError: no answer from the server"
    assert line.startswith(
        f"tracker test_tracking:Failing: shows nothing any more: {reason}"
    ) and line.endswith("the run goes on")
    assert "Traceback" in (tmp_path / "run" / "log.txt").read_text()
    assert told(config)[-1][0] == "finished"


def test_a_tracker_that_does_not_answer_holds_nothing_up(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tracking.Tracking.close, "__defaults__", (0.2,))
    start = time.monotonic()
    assert run(small(own("Hanging")), tmp_path / "run").failures == []
    assert time.monotonic() - start < tracking.PATIENCE
    assert "Hanging: has not shown everything within 0.2 s" in capsys.readouterr().err


def test_a_tracker_that_cannot_be_used_is_told_before_anything_is_trained(small):
    with pytest.raises(UserError) as told:
        Preflight().check(small(own("NotInstalled"), own("NoTracker"), own("Remembering")))
    assert told.value.mistakes == (
        "logging[0]: tracker test_tracking:NotInstalled needs the package no-such-package, which "
        "is not installed: pip install no-such-package",
        "logging[1]: tracker test_tracking:NoTracker is of type NoTracker, which does not inherit "
        "from experiment.reporting.tracking.Tracker",
    )


@pytest.mark.parametrize(
    "value, expected",
    [
        ("tensorbord", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ("[{name: wandb, mode: of}]", "mode"),
        ("[{name: mlflow, port: 3}]", "port"),
        ("3", "logging"),
    ],
)
def test_mistakes_in_the_list_are_told_with_their_place(tmp_path, capsys, value, expected):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    code = main([str(path), "--results", str(tmp_path), "--set", f"logging={value}"])
    [line] = capsys.readouterr().err.splitlines()
    assert code == 2 and "logging" in line and expected in line


def test_tensorboard_reads_the_scalars(small, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):  # the second one replaces what the first has written
        run(corrupted(small("tensorboard")), tmp_path / "run")
    events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = experiment.load_results(tmp_path / "run")
    pruned = rows[(rows["step"] > 0) & (rows["net_seed"] == 0)]
    for method, group in pruned.groupby("method"):
        scalars = events.Scalars(f"results/test_accuracy/{method}/net0")
        assert [one.step for one in scalars] == list(group["step"])
        assert [one.value for one in scalars] == pytest.approx(list(group["test_accuracy"]))
    for name, steps, values in fogs(tmp_path / "run"):
        scalars = events.Scalars(name)
        assert [one.step for one in scalars] == list(steps)
        assert [one.value for one in scalars] == pytest.approx(list(values))


def records(path):
    """The records of a file of W&B, which has the format of LevelDB's logs."""
    content, position, record = path.read_bytes(), 7, b""
    while position < len(content):
        if (left := 32768 - position % 32768) < 7:  # the end of a block holds no header
            position += left
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            yield record
            record = b""


def history(path):
    """The values by name that a file of W&B has, and the axes of its kinds of names."""
    from wandb.proto import wandb_internal_pb2

    found, axes = {}, {}
    for content in records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        axes[record.metric.glob_name] = record.metric.step_metric
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            found.setdefault(name, []).append(float(item.value_json))
    return found, axes


def test_wandb_keeps_a_run_offline(small, tmp_path, capfd):
    pytest.importorskip("wandb")
    run(corrupted(small("{name: wandb, mode: offline}")), tmp_path / "run")
    assert "wandb" not in capfd.readouterr().err
    [path] = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    rows = experiment.load_results(tmp_path / "run")
    expected = {f"results/test_accuracy/{method}/net0" for method in ("SiPP", "WT")}
    expected |= {name for name, _, _ in fogs(tmp_path / "run")}
    limit = time.monotonic() + 60  # W&B's own process writes it
    found, axes = history(path)
    while not expected <= set(found) and time.monotonic() < limit:
        time.sleep(0.2)
        found, axes = history(path)
    for method, group in rows[rows["step"] > 0].groupby("method"):
        name = f"results/test_accuracy/{method}/net0"
        assert found[name] == pytest.approx(list(group["test_accuracy"]))
    for name, _, values in fogs(tmp_path / "run"):
        assert found[name] == pytest.approx(list(values))
    assert axes["results/*"] == axes["corruptions/*"] == "step" and axes["epochs/*"] == "epoch"


def test_mlflow_shows_one_run_with_its_settings(small, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlflow").as_uri()
    config = corrupted(small(f"{{name: mlflow, tracking_uri: '{uri}', experiment: tests}}"))
    for _ in range(2):
        run(config, tmp_path / "run")
    client = mlflow.MlflowClient(uri)
    [found] = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["network.name"] == config.network.name
    rows = experiment.load_results(tmp_path / "run")
    last = rows[(rows["method"] == "SiPP") & (rows["net_seed"] == 0)].iloc[-1]
    assert found.data.metrics["results/test_accuracy/SiPP/net0"] == last["test_accuracy"]
    for name, _, values in fogs(tmp_path / "run"):
        assert found.data.metrics[name] == values.iloc[-1]
