"""Weights as safetensors, with all that is needed to build the net again with this software."""

from collections.abc import Callable
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from experiment.core.errors import UserError
from experiment.core.text import shown
from experiment.deployment.fidelity import SAME_NET
from experiment.deployment.metadata import Metadata
from experiment.deployment.resizing import with_tensors
from experiment.nets.building import build_network
from experiment.nets.running import run_in_eval_mode

SUFFIX = ".safetensors"
TOLERANCE = SAME_NET


def write(net: nn.Module, images: Tensor, path: Path, metadata: Metadata) -> None:
    """Write a net, which may be narrower than its class builds it."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}
    path.write_bytes(safetensors.torch.save(_unshared(tensors), metadata.as_texts()))


def read(path: Path) -> Callable[[Tensor], Tensor]:
    """What the net of a file computes."""
    net = load_exported(path, own_code=True)  # it was written by this process
    return lambda images: run_in_eval_mode(net, (images, None))


def load_exported(path: Path, *, own_code: bool) -> nn.Module:
    """The net of a file that `write` has written, in eval mode.

    Raises UserError if it is none, or names own code that is not allowed.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as safetensors: {error}") from None
    metadata = Metadata.from_texts(texts, str(path))
    if ":" in metadata.network and not own_code:
        raise UserError(
            f"{path}: its network is the code {shown(metadata.network)}, which is run only with "
            f"own_code=True: treat a file from others like code"
        )
    net = build_network(
        metadata.network,
        input_shape=metadata.input_shape,
        num_classes=metadata.num_classes,
        **metadata.network_options,
    )
    return fitted(net, tensors, path).eval()


def fitted(net: nn.Module, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """The net with these tensors, whose shapes decide how wide it is."""
    own = net.state_dict()
    if own.keys() != tensors.keys():
        [name, *_] = sorted(own.keys() ^ tensors.keys())
        raise UserError(
            f"{path}: holds another network than the code builds now: {name} is in one of them only"
        )
    with_tensors(net, {name: one for name, one in tensors.items() if one.shape != own[name].shape})
    net.load_state_dict(tensors)
    return net


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tensors that share memory with others, which safetensors does not store."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        result[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return result
