"""A program of torch.export: needs torch to run, but neither this software nor the net's code."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from experiment.core.errors import UserError, first_line
from experiment.deployment.fidelity import SAME_NET
from experiment.deployment.metadata import Metadata
from experiment.nets.running import copy_of, evaluating

SUFFIX = ".pt2"
TOLERANCE = SAME_NET
METADATA = "metadata.json"  # among the extra files of the archive


def write(net: nn.Module, images: Tensor, path: Path, metadata: Metadata) -> None:
    """Write a net for batches of any size. Raises UserError if torch cannot follow it."""
    program = exported_program(net, images)
    torch.export.save(program, path, extra_files={METADATA: json.dumps(metadata.as_texts())})


def read(path: Path) -> Callable[[Tensor], Tensor]:
    """What a file computes."""
    module = torch.export.load(path).module()

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            return module(images)

    return run


def exported_program(net: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    """A net in eval mode as a graph, for batches of any size."""
    copy = copy_of(net).cpu().eval()
    example = images[:2].cpu()
    batch = torch.export.Dim("batch", min=1, max=2**16)
    try:
        with evaluating(copy), torch.no_grad():
            return torch.export.export(copy, (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # a net may do anything
        raise UserError(f"torch.export cannot follow this net: {first_line(error)}") from error
