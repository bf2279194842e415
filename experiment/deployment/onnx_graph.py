"""A net as an ONNX graph."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError, first_line
from experiment.deployment.packages import require
from experiment.nets.running import copy_of, evaluating

OPSET = 18
INPUT = "images"
OUTPUT = "logits"
PACKAGES = ("onnx", "onnxscript")  # which torch's exporter needs


def onnx_graph(net: nn.Module, images: Tensor) -> Any:
    """An `onnx.ModelProto` of a net in eval mode, for batches of any size.

    Raises:
        UserError: if a package is missing, or torch cannot follow the net.
    """
    for package in PACKAGES:
        require(package, "export")
    copy = copy_of(net).cpu().eval()
    batch = torch.export.Dim("batch", min=1, max=2**16)
    try:
        with _quiet(), evaluating(copy), torch.no_grad():
            program = torch.onnx.export(
                copy,
                (images[:2].cpu(),),
                dynamo=True,
                dynamic_shapes=({0: batch},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # a net may do anything
        raise UserError(f"torch cannot write this net as ONNX: {_reason(error)}") from error
    assert program is not None  # it is only without `dynamo`
    return _bare(program.model_proto)


def _bare(graph: Any) -> Any:
    """The graph without the exporter's notes, which name files of the machine."""
    del graph.metadata_props[:]
    parts = graph.graph
    for part in (parts, *parts.node, *parts.input, *parts.output, *parts.value_info):
        del part.metadata_props[:]
    for initializer in parts.initializer:
        del initializer.metadata_props[:]
    return graph


def _reason(error: Exception) -> str:
    """The first line of what went wrong at the bottom of it."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return first_line(error)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A block whose prints, warnings and log lines nobody sees."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    hidden = io.StringIO()  # torch prints what it could not follow to stderr, for pages
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(hidden),
            contextlib.redirect_stderr(hidden),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
