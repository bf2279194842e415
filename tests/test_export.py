"""Nets that people take away: each format, what a file says of itself, and what is refused."""

import dataclasses
import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import safetensors.torch
import torch
from conftest import ROOT
from test_shrinking import NETS, built, images_for, with_statistics

import experiment
from experiment.__main__ import main as command_line
from experiment.core.errors import UserError
from experiment.deployment import packages, writing
from experiment.deployment.formats import onnx as onnx_format
from experiment.deployment.formats import openvino as openvino_format
from experiment.deployment.metadata import Metadata
from experiment.deployment.onnx_graph import OPSET, onnx_graph
from experiment.deployment.shrinking import shrink
from experiment.deployment.writing import FORMATS, write_checked
from experiment.nets.masks import set_removed_to_zero
from experiment.runs import exporting
from experiment.runs.results import read_state

needs_onnx = pytest.mark.skipif(
    not all(map(packages.is_installed, ("onnx", "onnxscript", "onnxruntime"))),
    reason="needs onnx, onnxscript and onnxruntime",
)
needs_openvino = pytest.mark.skipif(not packages.is_installed("openvino"), reason="needs openvino")
ALL_FORMATS = [
    "safetensors",
    "torch-export",
    pytest.param("onnx", marks=needs_onnx),
    pytest.param("openvino", marks=[needs_onnx, needs_openvino]),
]

EXPERIMENT = """
network: {name: lenet5}
dataset: {name: digits}
training: {epochs: 15, batch_size: 64, optimizer: {name: SGD, lr: 0.05}}
retraining: {epochs: 3}
pruning:
  methods: [WT, FT, {name: WT, allocation: uniform}]
  keep_ratios: [0.5, 0.2]
num_nets: 2
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run, of which the nets of the last ratio are kept."""
    folder = tmp_path_factory.mktemp("export")
    path = folder / "mine.yaml"
    path.write_text(EXPERIMENT)
    return experiment.run(path, results=folder / "results", device="cpu").directory


def metadata_of(name: str, net: torch.nn.Module) -> Metadata:
    channels, side = NETS[name]
    return Metadata(
        software="test",
        network=name,
        network_options={},
        input_shape=(channels, side, side),
        num_classes=4,
        classes=("a", "b", "c", "d"),
        mean=(0.5,) * channels,
        std=None,
        dataset="none",
        run_id="0",
        method="FT",
        net_seed=0,
        repetition=0,
        keep_ratio_requested=0.3,
        keep_ratio=0.3,
        test_accuracy=0.5,
        validation_accuracy=0.5,
        parameters=sum(one.numel() for one in net.parameters()),
        macs=1,
    )


@needs_onnx
@needs_openvino
@pytest.mark.parametrize(
    ("name", "method"),
    [("lenet5", "WTLayer"), ("resnet20", "FT"), ("densenet22", "WTLayer"), ("mobilenet_v2", "FT")],
)
def test_every_kind_of_net_in_every_format(name, method, tmp_path, monkeypatch):
    """Files are read back and run by what they are for; `write_checked` compares the outputs.

    Nets are plain, residual, with concatenated channels, and with depthwise convolutions; what
    cutting down does to others of these kinds is tested in `test_shrinking.py`.
    """
    torch.manual_seed(0)
    net, images = built(name), images_for(name)
    pruned = experiment.prune(net, [images], method=method, keep_ratio=0.3).net
    with_statistics(pruned, images)
    smaller = shrink(pruned, images).net
    once = functools.lru_cache(maxsize=1)(onnx_graph)  # it takes most of the time
    monkeypatch.setattr(onnx_format, "onnx_graph", once)
    monkeypatch.setattr(openvino_format, "onnx_graph", once)
    plain = {}
    for kind, chosen in FORMATS.items():
        path = tmp_path / f"net{chosen.SUFFIX}"
        written = write_checked(smaller, kind, path, metadata_of(name, smaller), images)
        assert written.path == path and path.is_file()
        assert written.size.compressed <= written.size.plain
        plain[kind] = written.size.plain
    again = experiment.load_network(tmp_path / "net.safetensors")
    with torch.no_grad():
        assert torch.equal(again(images), smaller(images))
    num_bytes = 4 * sum(one.numel() for one in smaller.parameters())
    assert num_bytes <= plain["safetensors"] < 1.05 * num_bytes + 60_000
    assert all(size > 0.9 * num_bytes for size in plain.values())  # some drop normalisations
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "net.bin", "net.onnx", "net.pt2", "net.safetensors", "net.xml"
    ]  # fmt: skip


@pytest.fixture(scope="module")
def exported_as(run, tmp_path_factory):
    """A function that exports a net of the run once in each format."""
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(kind: str):
        path = folder / f"small{FORMATS[kind].SUFFIX}"
        return experiment.export(run, "FT", 0.2, format=kind, output=path, seconds=0)

    return export


@pytest.mark.parametrize("kind", ALL_FORMATS)
def test_a_net_of_a_run(kind, exported_as):
    exported = exported_as(kind)
    assert exported.path.name == f"small{FORMATS[kind].SUFFIX}" and exported.path.is_file()
    before, after = exported.sizes.to_dict("records")
    assert after["parameters"] < 0.25 * before["parameters"]
    assert after["macs"] < before["macs"] and after["file"] < before["file"]
    assert after["nonzero_macs"] == after["macs"]
    assert exported.widths["conv3"][0] == 120 and exported.latency is None
    [note] = exported.notes
    assert re.search(r"the number of channels of \w+, \w+ is no multiple of 8", note)
    assert "FT: 20" in repr(exported)


def test_widths_are_filled_up_and_latency_is_measured(run, tmp_path):
    path = tmp_path / "net.safetensors"
    exported = experiment.export(run, "FT", 0.2, output=path, round_channels=8, seconds=0.01)
    assert not any(after % 8 for before, after in exported.widths.values() if not before % 8)
    assert all("multiple" not in note for note in exported.notes)
    latency = exported.latency
    assert set(latency["net"]) == {"original", "exported"} and set(latency["batch_size"]) == {1, 64}
    assert "PyTorch 2." in repr(exported) and "batches of 64" in repr(exported)


def test_a_stored_net_is_the_one_that_was_measured(run):
    """The accuracy of the loaded net is that of its row."""
    data = experiment.load_config(run / "config.yaml").dataset
    from experiment.core.seeding import Stream
    from experiment.data.loading import load_data

    test = load_data(data, Stream(0)).test
    images, labels = next(test.batches(len(test)))
    rows = experiment.load_results(run)
    for method in ("WT", "FT", "WT(allocation=uniform)"):
        net = experiment.load_network(run, method, 0.2, net_seed=1)
        [row] = rows.query(
            "method == @method and keep_ratio_requested == 0.2 and net_seed == 1"
        ).to_dict("records")
        with torch.no_grad():
            accuracy = (net(images).argmax(1) == labels).float().mean()
        assert float(accuracy) == pytest.approx(row["test_accuracy"], abs=1e-6)
        assert not net.training
        kept = sum(int(one.count_nonzero()) for one in net.parameters())
        total = sum(one.numel() for one in net.parameters())
        assert kept / total == pytest.approx(row["keep_ratio"], abs=1e-3)
    smaller = experiment.load_network(run, "FT", 0.2, net_seed=1, smaller=True)
    assert sum(one.numel() for one in smaller.parameters()) < 0.25 * total
    unpruned = experiment.load_network(run)
    assert all(int(one.count_nonzero()) for one in unpruned.parameters())


def test_a_net_that_was_not_kept_is_computed_again(run, tmp_path):
    with pytest.raises(UserError, match=r"WT\(allocation=uniform\) at 0.5: the net was not kept"):
        experiment.load_network(run, "WT(allocation=uniform)", 0.5)
    config = experiment.load_config(run / "config.yaml")
    kept = experiment.run(
        config.model_dump(mode="json"), ["checkpoints=all"], results=tmp_path, device="cpu"
    ).directory
    state = read_state(next(kept.rglob("net0/**/1-FT/001-retrain.safetensors")))
    with torch.random.fork_rng():
        expected = experiment.build_network("lenet5", input_shape=(1, 8, 8), num_classes=10)
    set_removed_to_zero(expected, state.load_into(expected))
    lines = []
    stored = experiment.runs.stored_nets.StoredNets(
        experiment.runs.found.found_run(run), say=lines.append
    )
    again = stored.load(stored.find("FT", 0.5, 0, 0), recompute=True)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert lines == ["computing again: 2 steps, 3 epochs"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--method", "SiPP"], "method 'SiPP' is not among them; this run has pruned with WT, FT"),
        (["--method", "WT"], "WT has pruned to several keep ratios; name one of 0.5, 0.2"),
        (["--method", "FT", "--keep-ratio", "0.3"], "has no keep ratio 0.3 of FT; its keep ratios"),
        (["--net-seed", "7"], "has no net_seed 7; its net seeds are 0, 1"),
        (["--method", "FT", "--keep-ratio", "0.5"], "net 0, FT at 0.5: the net was not kept; kept"),
        (["--method", "FT", "--keep-ratio", ".2", "--repetition", "2"], "has no repetition 2"),
        (["--format", "onx"], "format 'onx': there is safetensors, onnx, torch-export, openvino"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(arguments, expected, run, capsys):
    assert command_line(["export", str(run), "--seconds", "0", *arguments]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err and captured.err.count("\n") == 1


def test_the_command_says_what_is_gained(run, tmp_path, capsys):
    path = tmp_path / "deep" / "net.safetensors"
    arguments = ["--method", "WT", "--keep-ratio", "0.2", "-o", str(path)]
    assert command_line(["export", str(run), "--seconds", "0", *arguments]) == 0
    out = capsys.readouterr().out
    assert re.search(r"lenet5, WT: (19.9|20.0).*requested 20.00%", out)
    assert "dense kernels multiply by them all the same" in out
    assert f"file: {path}" in out and path.is_file()
    assert [one.name for one in path.parent.iterdir()] == ["net.safetensors"]


def test_a_run_that_is_still_going_on(run, tmp_path):
    """What is there of it can be had: nets whose row is not written yet are no nets yet."""
    going_on = tmp_path / "results" / run.name
    shutil.copytree(run, going_on)
    lines = (going_on / "results.csv").read_text().splitlines(keepends=True)
    (going_on / "results.csv").write_text("".join(lines[:4]))
    assert experiment.export(going_on, "WT", 0.2, seconds=0).path.parent == going_on / "exports"
    with pytest.raises(UserError, match="this run has pruned with WT"):
        experiment.export(going_on, "FT", 0.2, seconds=0)


def test_a_damaged_net_is_told(run, tmp_path):
    copy = tmp_path / run.name
    shutil.copytree(run, copy)
    path = next(copy.rglob("net0/**/1-FT/002-retrain.safetensors"))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged: .*002-retrain.safetensors: was changed"):
        experiment.export(copy, "FT", 0.2, seconds=0)


def test_a_file_that_computes_something_else_is_not_written(run, tmp_path, monkeypatch):
    from experiment.deployment.formats import safetensors as format_module

    right = format_module.write

    def with_one_channel_too_few(net, images, path, metadata):
        with torch.no_grad():
            net.conv3.weight[0] = 0
        right(net, images, path, metadata)

    monkeypatch.setattr(format_module, "write", with_one_channel_too_few)
    with pytest.raises(UserError, match=r"the .safetensors file does not compute what .* nothing"):
        experiment.export(run, "FT", 0.2, output=tmp_path / "wrong.safetensors", seconds=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [
        ("onnx", "onnx", "export"),
        ("onnx", "onnxruntime", "export"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_missing_packages_are_named(kind, package, extra, run, tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "is_installed", lambda name: name != package)
    with pytest.raises(UserError, match=rf"needs the package {package}, .*\[{extra}\]"):
        experiment.export(run, "FT", 0.2, format=kind, output=tmp_path / "net", seconds=0)
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_what_an_onnx_file_says_of_itself(run, exported_as):
    import onnx
    import onnxruntime

    path = exported_as("onnx").path
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
    [batch, *rest] = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param == "batch" and [one.dim_value for one in rest] == [1, 8, 8]
    assert str(ROOT).encode() not in path.read_bytes()  # no paths of this machine
    session = onnxruntime.InferenceSession(path)
    said = session.get_modelmeta().custom_metadata_map
    [row] = (
        experiment.load_results(run)
        .query("method == 'FT' and keep_ratio_requested == 0.2 and net_seed == 0")
        .to_dict("records")
    )
    assert said["network"] == "lenet5" and said["run_id"] == run.name and said["method"] == "FT"
    assert float(said["keep_ratio"]) == row["keep_ratio"]
    assert float(said["test_accuracy"]) == row["test_accuracy"]
    assert json.loads(said["classes"]) == list("0123456789")
    assert len(json.loads(said["mean"])) == len(json.loads(said["std"])) == 1
    for count in (1, 3, 100):
        images = numpy.zeros((count, 1, 8, 8), dtype=numpy.float32)
        assert session.run(None, {"images": images})[0].shape == (count, 10)


@needs_onnx
def test_the_script_for_those_who_do_not_have_this_software(run, tmp_path):
    """The script of the README classifies a picture with onnxruntime alone."""
    from PIL import Image
    from sklearn.datasets import load_digits

    page = (ROOT / "README.md").read_text()
    [script] = re.findall(r"```python\n(# classify\.py.*?)```", page, re.DOTALL)
    experiment.export(run, "WT", 0.2, format="onnx", output=tmp_path / "net.onnx", seconds=0)
    (tmp_path / "classify.py").write_text(script)
    digits = load_digits()
    right = 0
    for index in range(3):
        image = numpy.round(digits.images[index] * 255 / 16).astype(numpy.uint8)
        Image.fromarray(image).save(tmp_path / "image.png")
        command = [sys.executable, "classify.py", "net.onnx", "image.png"]
        shown = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True, env={}
        )
        right += shown.stdout.split()[0] == str(digits.target[index])
    assert right >= 2


def test_a_file_that_names_own_code_is_not_trusted(tmp_path):
    net = built("lenet5")
    path = tmp_path / "x.safetensors"
    named = dataclasses.replace(metadata_of("lenet5", net), network="antigravity:Class")
    safetensors.torch.save_file(net.state_dict(), path, metadata=named.as_texts())
    with pytest.raises(UserError, match="run only with own_code=True"):
        experiment.load_network(path)


def test_a_failure_of_the_unpruned_net_writes_nothing(run, tmp_path, monkeypatch):
    from experiment.deployment.formats import safetensors as format_module

    def fails(net, images, path, metadata):
        if metadata.method == "reference":
            raise UserError("the unpruned net cannot be written")
        raise AssertionError("too early")

    monkeypatch.setattr(format_module, "write", fails)
    with pytest.raises(UserError, match="the unpruned net cannot be written"):
        experiment.export(run, "FT", 0.2, output=tmp_path / "x.safetensors", seconds=0)
    assert list(tmp_path.iterdir()) == []


def test_latency_that_cannot_be_measured_is_told(run, tmp_path, monkeypatch):
    def fails(*arguments, **more):
        raise UserError("no runtime can")

    monkeypatch.setattr(exporting, "measure_latency", fails)
    lines: list[str] = []
    path = tmp_path / "x.safetensors"
    exported = experiment.export(run, "FT", 0.2, output=path, say=lines.append)
    assert path.is_file() and exported.latency is None
    assert lines == ["latency is not measured: no runtime can"]


def test_files_that_are_no_exported_nets(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        experiment.load_network(path)
    path.write_bytes(b"not a net")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        experiment.load_network(path)
    safetensors.torch.save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(UserError, match="was not written by `python -m experiment export`"):
        experiment.load_network(path)
    net = built("lenet5")
    metadata = metadata_of("lenet5", net)
    safetensors.torch.save_file({"other": torch.ones(2)}, path, metadata=metadata.as_texts())
    with pytest.raises(UserError, match="holds another network than the code builds now"):
        experiment.load_network(path)


def test_formats_are_those_that_help_names(capsys):
    with pytest.raises(SystemExit):
        command_line(["export", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert all(kind in shown for kind in writing.FORMATS)
