"""Latency: nets and runtimes take turns, and what is computed from the times is right."""

import itertools
import re
import warnings

import matplotlib.image
import numpy
import pandas
import pytest
import torch
from conftest import SmallNet
from torch import nn

import experiment
from experiment.__main__ import main as command_line
from experiment.core.errors import UserError
from experiment.deployment import latency, packages
from experiment.deployment.cost import Cost, FileSize
from experiment.deployment.crossing import crossing, first_faster
from experiment.deployment.latency import LEAST_ROUNDS, RUNTIMES, WARM_UPS, measure_latency
from experiment.deployment.latency_text import latency_lines
from experiment.deployment.onnx_graph import onnx_graph
from experiment.deployment.runtimes import onnx_runtime, openvino, pytorch, pytorch_sparse
from experiment.deployment.subject import Subject
from experiment.reporting.plots.figures import save
from experiment.reporting.plots.latency import accuracy_vs_latency


class Clock:
    """A clock that is put forward by those whom it measures."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Made:
    """A runtime in which every net takes as long as is said, and that remembers who ran."""

    NAME = "made up"
    PACKAGE = "torch"
    EXTRA = ""
    ON_GPU = False

    def __init__(self, clock: Clock, lengths: dict[str, list[float]]):
        self.clock = clock
        self.lengths = {name: itertools.cycle(values) for name, values in lengths.items()}
        self.ran: list[tuple[str, int]] = []

    def prepare(self, subject, threads, device):
        def run(images):
            self.ran.append((subject.name, len(images)))
            if len(images) != len(subject.images):  # not the comparison of outputs
                self.clock.now += next(self.lengths[subject.name])
            return subject.net(images)

        return run


def subjects(*names: str) -> list[Subject]:
    torch.manual_seed(0)
    return [Subject(name, nn.Linear(3, 2).eval(), torch.rand(5, 3)) for name in names]


@torch.no_grad()
def test_nets_take_turns_and_are_compared_within_rounds():
    clock = Clock()
    # Both take longer and longer, but the second always half of the first.
    first = [1.0] * WARM_UPS + [float(index) for index in range(1, 11)]
    runtime = Made(clock, {"first": first, "second": [one / 2 for one in first]})
    table = measure_latency(
        subjects("first", "second"), batch_sizes=[2], seconds=0, runtimes=[runtime], clock=clock
    )
    of_first, of_second = table.to_dict("records")
    assert of_first["rounds"] == LEAST_ROUNDS == 10
    assert of_first["median_ms"] == pytest.approx(5500)
    assert of_first["quartile_1_ms"] == pytest.approx(3250)
    assert of_first["quartile_3_ms"] == pytest.approx(7750)
    assert of_second["speedup_quartile_1"] == of_second["speedup"] == pytest.approx(2)
    assert of_first["speedup"] == 1 and of_first["batch_size"] == 2
    timed = [name for name, count in runtime.ran if count == 2][2 * WARM_UPS :]
    rounds = list(zip(timed[::2], timed[1::2]))
    assert all(set(pair) == {"first", "second"} for pair in rounds)
    assert len(set(rounds)) == 2  # the order changes


@torch.no_grad()
def test_the_time_is_used_up():
    clock = Clock()
    runtime = Made(clock, {"only": [0.5]})
    table = measure_latency(
        subjects("only"), batch_sizes=[1, 3], seconds=20, runtimes=[runtime], clock=clock
    )
    assert table["rounds"].tolist() == [40, 40] and table["batch_size"].tolist() == [1, 3]


def test_threads_are_put_back():
    before = torch.get_num_threads()
    seen = []

    class Watching(Made):
        def prepare(self, subject, threads, device):
            seen.append(torch.get_num_threads())
            raise ValueError("no")

    with pytest.raises(UserError, match="made up cannot run only: ValueError: no"):
        measure_latency(subjects("only"), threads=2, runtimes=[Watching(Clock(), {})])
    assert seen == [2] and torch.get_num_threads() == before


def test_a_runtime_that_computes_something_else_is_caught():
    class Wrong(Made):
        def prepare(self, subject, threads, device):
            return lambda images: subject.net(images) * 1.01

    with torch.no_grad(), pytest.raises(UserError, match="only in made up does not compute what"):
        measure_latency(subjects("only"), runtimes=[Wrong(Clock(), {})])


@torch.no_grad()
def test_a_runtime_that_fails_is_left_out_and_told():
    class Failing(Made):
        NAME = "failing"

        def prepare(self, subject, threads, device):
            raise UserError("it cannot")

    clock, lines = Clock(), []
    table = measure_latency(
        subjects("only"),
        runtimes=[Failing(clock, {}), Made(clock, {"only": [1.0]})],
        batch_sizes=[1],
        seconds=0,
        say=lines.append,
        clock=clock,
    )
    assert table["runtime"].tolist() == ["made up"]
    assert lines == ["not measured: only in failing: it cannot"]


def sparse_net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 8, 1, stride=2, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 10),
        nn.Linear(10, 4),
    ).eval()
    with torch.no_grad():
        for layer in (net[1], net[4]):
            layer.weight.mul_(torch.rand(layer.weight.shape) > 0.8)
    return net


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda one: one.NAME)
def test_runtimes_compute_what_the_net_does(runtime):
    threads = 2
    if not packages.is_installed(runtime.PACKAGE):
        pytest.skip(f"needs {runtime.PACKAGE}")
    net = sparse_net()
    subject = Subject("net", net, torch.rand(4, 3, 8, 8))
    table = measure_latency(
        [subject], runtimes=[runtime], batch_sizes=[1, 7], threads=threads, seconds=0
    )
    assert table["runtime"].tolist() == [runtime.NAME] * 2
    assert (table["median_ms"] > 0).all() and table["threads"].tolist() == [threads] * 2
    assert table["device"].str.len().min() > 0 and table["version"].str.match(r"\d+\.").all()


def test_layers_with_few_weights_become_sparse():
    net, images = sparse_net(), torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        expected = net(images)
        assert pytorch_sparse.make_sparse(net) == 2
        assert torch.allclose(net(images), expected, atol=1e-6)
    assert [type(layer).__name__ for layer in net] == [
        "Conv2d", "SparseRows", "ReLU", "Flatten", "SparseRows", "Linear"
    ]  # fmt: skip
    dense = Subject("dense", SmallNet().eval(), torch.rand(2, 3, 8, 8))
    assert pytorch_sparse.prepare(dense, 1, "cpu") is None


def test_sparse_rows_are_compared_with_the_dense_unpruned_net():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 8, 8)
    dense = Subject("unpruned", nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval(), images)
    sparse = Subject("pruned", sparse_net(), images)
    table = measure_latency(
        [dense, sparse], runtimes=[pytorch, pytorch_sparse], batch_sizes=[1], seconds=0
    )
    names = list(zip(table["net"], table["runtime"]))
    assert names == [
        ("unpruned", "PyTorch"), ("pruned", "PyTorch"), ("pruned", "PyTorch, sparse rows")
    ]  # fmt: skip
    assert table["speedup"].notna().all()


@torch.no_grad()
def test_nets_on_different_devices_are_not_compared():
    """The device without data stands in for a GPU, on which sparse rows do not run."""

    class Stored(Made):
        def prepare(self, subject, threads, device):
            if subject.name == "unpruned" and not self.ON_GPU:
                return None
            return lambda images: subject.outputs

    dense, sparse = Stored(Clock(), {}), Stored(Clock(), {})
    dense.NAME, dense.ON_GPU = pytorch.NAME, True
    sparse.NAME = pytorch_sparse.NAME
    for device, is_compared in (("cpu", True), ("meta", False)):
        table = measure_latency(
            subjects("unpruned", "pruned"),
            runtimes=[dense, sparse],
            batch_sizes=[1],
            seconds=0,
            device=device,
        )
        of_sparse = table[table["runtime"] == sparse.NAME]
        assert of_sparse["net"].tolist() == ["pruned"]
        assert of_sparse["speedup"].notna().tolist() == [is_compared]
        assert table.loc[table["runtime"] == dense.NAME, "speedup"].notna().all()
        text = "\n".join(latency_lines(table))
        assert "nan" not in text and text.count(" x") == 2 + is_compared


class Branching(nn.Module):
    """A net whose course depends on its values, which no graph can show."""

    def forward(self, x):
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


def test_a_net_that_cannot_become_a_graph_is_told_in_one_line(capfd):
    pytest.importorskip("onnxscript")
    with pytest.raises(UserError) as caught:
        onnx_graph(Branching(), torch.rand(2, 3, 4, 4))
    [mistake] = caught.value.mistakes
    assert mistake.startswith("torch cannot write this net as ONNX: ") and "\n" not in mistake
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [1, 3])
def test_graphs_take_batches_of_any_size(count, capfd):
    """Also those made from a single image, whose size torch might take for a constant."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    net = sparse_net().train()
    graph = onnx_graph(net, torch.rand(count, 3, 8, 8))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for size in (1, 2, 7):
        images = torch.rand(size, 3, 8, 8)
        [outputs] = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            assert numpy.allclose(outputs, net(images).numpy(), atol=1e-5)
    assert net.training and capfd.readouterr() == ("", "")


def test_missing_runtimes_are_left_out(monkeypatch):
    monkeypatch.setattr(latency, "is_installed", lambda name: name == "torch")
    assert latency.installed(RUNTIMES) == [pytorch, pytorch_sparse]
    monkeypatch.setattr(packages, "is_installed", lambda name: False)
    [subject] = subjects("only")
    for runtime, extra in ((onnx_runtime, "export"), (openvino, "openvino")):
        with pytest.raises(UserError, match=rf"needs the package {runtime.PACKAGE}.*\[{extra}\]"):
            runtime.prepare(subject, 1, "cpu")


def test_where_sparse_products_begin_to_be_faster():
    def table(*speedups: float) -> pandas.DataFrame:
        return pandas.DataFrame({"zeros": [0.5, 0.8, 0.9], "speedup": speedups})

    assert first_faster(table(0.5, 1.5, 2.0)) == 0.8
    assert first_faster(table(1.5, 0.9, 2.0)) == 0.9
    assert first_faster(table(0.5, 0.6, 0.9)) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pixels in (None, (3, 2)):
            found = crossing(30, 20, 4, pixels=pixels, zeros=[0.5, 0.9], seconds=0)
            assert found["zeros"].tolist() == [0.5, 0.9]
            assert (found[["dense_ms", "sparse_ms", "speedup"]] > 0).all(axis=None)


def test_costs_by_hand(tmp_path):
    """A 3x3 convolution of 2 to 4 channels on 5x5 pixels, and a linear layer of 100 to 3."""
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(100, 3))
    with torch.no_grad():
        net[0].weight[:3] = 0
        net[2].bias[0] = 0
    cost = Cost.of(net, torch.rand(8, 2, 5, 5))
    convolution, linear = 25 * 2 * 4 * 9, 100 * 3
    assert cost == Cost(
        parameters=72 + 4 + 300 + 3,
        nonzero_parameters=18 + 4 + 300 + 2,
        macs=convolution + linear,
        nonzero_macs=convolution // 4 + linear,
    )
    (tmp_path / "a").write_bytes(bytes(1000))
    (tmp_path / "b").write_bytes(numpy.random.default_rng(0).bytes(100))
    size = FileSize.of(sorted(tmp_path.iterdir()))
    assert size.plain == 1100 and 100 < size.compressed < 150


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latency")
    path = folder / "mine.yaml"
    path.write_text(
        "network: {name: lenet300_100}\ntraining: {epochs: 1}\n"
        "pruning: {methods: [WT, FT], keep_ratios: [0.5, 0.1]}\ncheckpoints: all\n"
    )
    return experiment.run(path, results=folder / "results", device="cpu").directory


def test_the_nets_of_a_run(run, capsys, monkeypatch):
    monkeypatch.setattr("experiment.deployment.latency.LEAST_ROUNDS", 2)
    arguments = ["--seconds", "0.1", "--batch-size", "2", "--keep-ratio", "0.1"]
    assert command_line(["latency", str(run), *arguments]) == 0
    out = capsys.readouterr().out
    assert "PyTorch 2." in out and "batches of 2" in out and "1 thread:" in out
    assert re.search(r"WT \d\d\.\d+% pruned", out) and "dense kernels" in out
    table = pandas.read_csv(run / "latency.csv")
    assert set(table["method"]) == {"reference", "WT", "FT"}
    assert set(table["step"]) == {0, 2}
    of_torch = table[table["runtime"] == "PyTorch"].set_index("method")
    assert of_torch.loc["FT", "macs"] < 0.2 * of_torch.loc["reference", "macs"]
    assert of_torch.loc["WT", "nonzero_macs"] < 0.25 * of_torch.loc["WT", "macs"]
    sparse = table[table["runtime"] == "PyTorch, sparse rows"]
    assert sparse["method"].tolist() == ["WT"]
    for suffix in ("png", "pdf"):
        assert (run / "plots" / f"accuracy_vs_latency.{suffix}").stat().st_size > 5000
    picture = matplotlib.image.imread(run / "plots" / "accuracy_vs_latency.png")
    assert picture.shape[1] > 400 and picture[..., :3].std() > 0.05


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--method", "SNIP"], "method 'SNIP' is not among them; this run has pruned with WT, FT"),
        (["--keep-ratio", "0.3"], "has no keep ratio 0.3 of WT; its keep ratios are 0.5, 0.1"),
        (["--batch-size", "9999999999"], "batches of 9,999,999,999 images cannot be measured"),
        (["--batch-size", "0"], "must be a whole number of at least 1, not '0'"),
    ],
)
def test_latency_of_what_is_not_there(arguments, expected, run, capsys):
    assert command_line(["latency", str(run), *arguments]) == 2
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1


def test_the_figure_has_a_panel_for_each_runtime_and_batch_size(tmp_path):
    rows = [
        {
            "network": "lenet5", "dataset": "digits", "method": method, "keep_ratio": kept,
            "test_accuracy": 0.9 * kept**0.1, "runtime": runtime, "device": "a processor",
            "threads": 1, "batch_size": size, "median_ms": size * kept,
            "quartile_1_ms": 0.9 * size * kept, "quartile_3_ms": 1.2 * size * kept,
        }
        for runtime in ("PyTorch", "OpenVINO")
        for size in (1, 64)
        for method, kept in (("reference", 1.0), ("_odd$name", 0.5), ("_odd$name", 0.2))
    ]  # fmt: skip
    figure = accuracy_vs_latency(pandas.DataFrame(rows))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "PyTorch, batches of 1", "OpenVINO, batches of 1",
        "PyTorch, batches of 64", "OpenVINO, batches of 64",
    ]  # fmt: skip
    [legend] = figure.legends
    assert [one.get_text() for one in legend.get_texts()] == ["unpruned", r" _odd\$name"]
    assert figure.get_suptitle() == "lenet5 on digits, on a processor, 1 thread"
    assert save(figure, tmp_path / "figure").is_file()
    for row in rows:
        if row["runtime"] == "PyTorch":
            row |= {"device": "a GPU", "threads": None}
    figure = accuracy_vs_latency(pandas.DataFrame(rows))
    assert figure.get_suptitle() == "lenet5 on digits"
    assert [axes.get_title() for axes in figure.axes] == [
        f"{runtime}, batches of {size}\non {device}"
        for size in (1, 64)
        for runtime, device in (("PyTorch", "a GPU"), ("OpenVINO", "a processor, 1 thread"))
    ]
