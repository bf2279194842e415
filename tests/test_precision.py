"""Training in bfloat16, compiled, or recorded, against a plain loop and against each other."""

import contextlib
import copy
import importlib
import logging
import shutil
import sys

import pandas
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from experiment.config.loading import load_config
from experiment.config.schema import DatasetPart, Training
from experiment.core.errors import UserError
from experiment.core.seeding import Stream
from experiment.data.loading import load_data
from experiment.nets.building import build_network
from experiment.nets.layout import lay_out_for_speed
from experiment.nets.masks import keep_all
from experiment.nets.state import NetState
from experiment.runs.driver import run
from experiment.training import compilation, recording, session, trainer
from experiment.training.trainer import Fit, Trainer

SGD = {"name": "SGD", "lr": 0.05, "nesterov": True}
ADAM = {"name": "AdamW", "lr": 1e-3, "weight_decay": 0.1}
TIMES = ["prune_seconds", "retrain_seconds"]


@pytest.fixture(scope="module")
def data():
    return load_data(DatasetPart(name="digits", crop_padding=1), Stream(0))


def make_net() -> nn.Module:
    with Stream(0).as_global():
        return build_network("lenet5", input_shape=(1, 8, 8), num_classes=10)


def make_masks(net: nn.Module) -> dict[str, torch.Tensor]:
    masks = keep_all(net)
    generator = Stream(1).generator()
    for name, mask in masks.items():
        if mask.dim() > 1:
            masks[name] = torch.rand(mask.shape, generator=generator) < 0.3
    return masks


def fit(net: nn.Module, **settings) -> Fit:
    options = {"epochs": 2, "batch_size": 100, "optimizer": SGD, "warmup_epochs": 1} | settings
    state = NetState.of(net, make_masks(net))
    return Fit(net=net, state=state, settings=Training(**options), stream=Stream(2))


def plainly_trained(data, precision: str, optimizer: dict) -> dict[str, torch.Tensor]:
    """Two epochs as a tutorial would write them: default layout, no fusion, one mask at a time."""
    net = make_net()
    masks = make_masks(net)
    options = dict(optimizer)
    kind = getattr(torch.optim, options.pop("name"))
    if kind is torch.optim.SGD:
        options |= {"momentum": 0.9, "weight_decay": 1e-4}
    step = 0
    steps = data.train.num_batches(100)
    updates = kind(net.parameters(), foreach=False, fused=False, **options)
    for epoch in range(2):
        generator = Stream(2).child("epoch", epoch).generator()
        for images, labels in data.train.training_batches(100, generator):
            with torch.no_grad():
                for name, parameter in net.named_parameters():
                    parameter *= masks[name]
            updates.param_groups[0]["lr"] = options["lr"] * min(1, (step + 1) / steps)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                outputs = net(images)
            updates.zero_grad()
            cross_entropy(outputs.float(), labels).backward()
            updates.step()
            step += 1
    return {name: value.detach() * masks[name] for name, value in net.named_parameters()}


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["SGD", "AdamW"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-4), ("bfloat16", 0.05)])
def test_training_is_what_a_plain_loop_does(data, precision, tolerance, optimizer):
    expected = plainly_trained(data, precision, optimizer)
    net = lay_out_for_speed(make_net(), next(data.test.batches(1)))
    trained, _ = Trainer(data).fit(fit(net, precision=precision, optimizer=optimizer))
    for name, value in expected.items():
        difference = (trained.tensors[name] - value).norm() / value.norm()
        assert float(difference) < tolerance, name


def test_bfloat16_computes_in_bfloat16_and_keeps_float32(data):
    net = make_net()
    seen = []
    net.get_submodule("conv1").register_forward_hook(
        lambda module, inputs, output: seen.append((module.training, output.dtype))
    )
    trained, records = Trainer(data).fit(fit(net, precision="bfloat16"))
    assert {dtype for training, dtype in seen if training} == {torch.bfloat16}
    assert {dtype for training, dtype in seen if not training} == {torch.float32}  # evaluations
    assert {tensor.dtype for tensor in trained.tensors.values()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in net.parameters()} == {torch.float32}
    assert records[-1].train_loss < records[0].train_loss


def test_precision_and_compilation_decide_the_numbers_and_nets_at_once_does_not(small_config):
    ids = [
        load_config(small_config, [override]).run_id()
        for override in (
            "training.precision=float32",
            "training.precision=bfloat16",
            "training.compile=on",
            "nets_at_once=3",
        )
    ]
    assert ids[0] == ids[3] and len(set(ids)) == 3


@pytest.mark.parametrize(("word", "value"), [("on", "on"), ("off", "off"), ("auto", "auto")])
def test_on_and_off_are_words(small_config, word, value):
    config = load_config(small_config, [f"training.compile={word}"])
    assert config.training.compile == config.retraining.compile == value


def test_compiling_on_a_cpu_says_nothing_of_a_cuda_toolkit(monkeypatch, caplog):
    """torch's compiler imports a module that warns where there is a toolkit, but no GPU."""
    name = "torch.utils.cpp_extension"
    logger = logging.getLogger(name)
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    logger.addHandler(caplog.handler)
    try:
        compilation.compiled(nn.Linear(1, 1))
        monkeypatch.setenv("CUDA_HOME", "/usr")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.import_module(name)
    finally:
        logger.removeHandler(caplog.handler)
    assert "CUDA" not in caplog.text


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in torch's compiler
def test_a_compiled_step_is_used_again_and_finds_nearly_the_same(data):
    torch._dynamo.utils.counters.clear()
    plain, _ = Trainer(data).fit(fit(make_net()))
    training = fit(make_net(), compile="on")
    compiled, _ = Trainer(data).fit(training)
    again, _ = Trainer(data).fit(training)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert compiled.digest == again.digest
    for name, tensor in plain.tensors.items():
        torch.testing.assert_close(compiled.tensors[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_net_that_cannot_be_compiled_is_told_in_one_line(data, monkeypatch):
    def fails(*arguments, **options):
        def call(images):
            raise torch._dynamo.exc.BackendCompilerFailed(print, RuntimeError("no compiler"), None)

        return call

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(UserError, match=r"^training\.compile: .*no compiler.*; use off$"):
        Trainer(data).fit(fit(make_net(), compile="on"))


class FakeGraph:
    """A CUDA graph's stand-in, which repeats the recorded step as it was called."""

    def __init__(self):
        self.replays = 0

    def replay(self):
        self.replays += 1
        self.step()


@pytest.fixture
def graphs(monkeypatch):
    """Recording on a CPU: what a step changes while it is recorded is put back afterwards.

    It shows that steps are replayed with the right draws and learning rates, and that nothing else
    comes from Python; not that a GPU can record them.
    """
    made = []

    @contextlib.contextmanager
    def record(graph, stream, capture_error_mode):
        made.append(graph)
        yield

    def fake_record(recorded, step):
        owner = step.func.__self__  # a method with the size of the batch filled in
        tensors = [*owner.net.state_dict().values(), owner.sums]
        tensors += [
            value
            for state in owner.optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ]
        before = [tensor.clone() for tensor in tensors]
        graph = original(recorded, step)
        with torch.no_grad():
            for tensor, value in zip(tensors, before):
                tensor.copy_(value)
        graph.step = lambda: step(*recorded.draws)
        return graph

    original = recording.RecordedStep._record
    monkeypatch.setattr(recording.RecordedStep, "_record", fake_record)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_rng_state", torch.get_rng_state)
    monkeypatch.setattr(session, "can_record", lambda device: True)
    monkeypatch.setattr(trainer, "compiled", lambda net: net)
    return made


@pytest.mark.parametrize("optimizer", [SGD, {"name": "SGD", "lr": 0.05, "momentum": 0.0}])
def test_a_recorded_step_is_replayed_with_new_draws_and_learning_rates(data, graphs, optimizer):
    expected, records = Trainer(data).fit(fit(make_net(), optimizer=optimizer))
    found, recorded = Trainer(data).fit(fit(make_net(), compile="on", optimizer=optimizer))
    whole_batches = 2 * (len(data.train) // 100)
    assert [graph.replays for graph in graphs] == [whole_batches - recording.WARM_UP_STEPS]
    for name, tensor in expected.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=1e-4, atol=1e-6)
    for one, other in zip(records, recorded):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert one.learning_rate == pytest.approx(other.learning_rate, rel=1e-6)


def test_a_step_that_draws_random_numbers_is_not_recorded(data, graphs):
    with Stream(0).as_global():
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    plain, _ = Trainer(data).fit(fit(copy.deepcopy(net)))
    found, _ = Trainer(data).fit(fit(net, compile="on"))
    assert graphs == []
    for name, tensor in plain.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_run_in_bfloat16_is_evaluated_and_pruned_in_float32(small_config, tmp_path):
    """Interrupted or not it is the same; here: run once more from its own configuration."""
    config = load_config(small_config, ["training.precision=bfloat16", "pruning.methods=[SiPP]"])
    tables = []
    for name in ("a", "b"):
        run(config, tmp_path / name)
        tables.append(pandas.read_csv(tmp_path / name / "results.csv").drop(columns=TIMES))
        config = load_config(tmp_path / name / "config.yaml")
    pandas.testing.assert_frame_equal(*tables, check_exact=True)
    assert (tables[0]["test_accuracy"] > 0.25).all()  # chance is 0.1
