"""Weights that somebody has trained already, read from a file into a net."""

import pickle
import platform
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from experiment.core.errors import UserError, first_line
from experiment.core.files import content_digest
from experiment.core.text import shown

WITHIN = ("state_dict", "model_state_dict", "model", "net")  # where checkpoints keep weights
COUNTERS = "num_batches_tracked"  # of normalisations: older files lack them, and nothing needs them
PICKLE = b"\x80"  # with which files of torch before 1.6 begin; later ones are ZIP archives
MOST_NAMED = 3
ADVICE = "save the weights alone, torch.save(net.state_dict(), FILE)"


def load_weights(
    net: nn.Module, path: str | Path, place: str = "", digest: str | None = None
) -> None:
    """Load the weights of a file into a net, in place.

    Args:
        path: a `.safetensors` file, or one that torch.save has written: a `state_dict`, or a
            checkpoint with one in it. Names may have a prefix, such as DataParallel's `module.`.
        place: what messages begin with.
        digest: of the file when the experiment was read. Another process, on another machine
            perhaps, must find the same.

    Raises:
        UserError: if the file cannot be read, holds something else or belongs to another net.
    """
    path = Path(path)
    try:
        if digest is not None:
            _require_unchanged(path, digest)
        tensors = _without_prefix(read_weights(path), net.state_dict().keys())
        _require_fit(net, tensors)
        net.load_state_dict(tensors, strict=False)
    except UserError as error:
        raise error.within(f"{place}{path}") from None


def _require_unchanged(path: Path, digest: str) -> None:
    """Raise UserError unless a file is what it was when the experiment was read."""
    host = f"on {platform.node()}"
    try:
        found = content_digest(path)
    except OSError as error:
        raise UserError(
            f"cannot be read {host}, though it was there when the experiment was read: every "
            f"machine that computes must see it by this path ({error.strerror})"
        ) from None
    if found != digest:
        raise UserError(
            f"holds something else {host} than when the experiment was read: put the file back, or "
            f"start the experiment again"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. Raises UserError if there are none."""
    if not path.exists():
        raise UserError("no such file")
    if not path.is_file():
        raise UserError("is not a file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = _read_torch(path)
    found = _state_dict(content)
    if found is None:
        raise UserError(f"holds no weights by name, but {_described(content)}: {ADVICE}")
    return found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"cannot be read as weights: {first_line(error)}") from None


def _read_torch(path: Path) -> Any:
    """What torch.save has written, as far as it can be read without running code that it holds."""
    try:
        with path.open("rb") as file:
            is_torchs = file.read(1) == PICKLE or zipfile.is_zipfile(file)
        if is_torchs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on files of other versions, or with odd tensors
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"holds Python objects, which could run any code when they are read, and are not: "
            f"{ADVICE}"
        ) from None
    except Exception as error:  # damaged files end in errors of any kind
        # What torch says after its first sentence may be the advice to run the code all the same.
        reason = first_line(error).partition(". ")[0]
        raise UserError(f"cannot be read as weights: {reason}: {ADVICE}") from None
    raise UserError("is not, or not wholly, a file that torch.save has written, nor .safetensors")


def _state_dict(content: Any) -> dict[str, Tensor] | None:
    """The tensors by name in what a file holds; None if there are none."""
    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(one, Tensor) for one in content.values()):
        return {str(name): one for name, one in content.items()}
    inner = [_state_dict(content[name]) for name in WITHIN if name in content]
    return next((one for one in inner if one is not None), None)


def _described(content: Any) -> str:
    """What a file holds instead of weights."""
    kind = shown(type(content).__name__)
    if not isinstance(content, Mapping):
        return kind
    return f"{kind} with {_named([shown(str(name)) for name in content]) or 'nothing in it'}"


def _without_prefix(tensors: dict[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """The tensors without a prefix of all names, if the network knows more of them without it.

    DataParallel puts `module.` in front, torch.compile `_orig_mod.`, and trainers `model.`; but a
    network may have a layer of such a name, too.
    """
    best = tensors
    while prefix := _common_prefix(tensors):
        tensors = {name.removeprefix(prefix): one for name, one in tensors.items()}
        if len(tensors.keys() & own) > len(best.keys() & own):
            best = tensors
    return best


def _common_prefix(names: Collection[str]) -> str:
    """The first part of dotted names, with its dot, if all have the same; empty if not."""
    parts = {name.partition(".")[:2] for name in names}
    return "".join(*parts) if len(parts) == 1 and all(dot for _, dot in parts) else ""


def _require_fit(net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raise UserError unless a file has the tensors of the net, of the same shapes and kinds."""
    own = net.state_dict()
    missing = [name for name in own if name not in tensors and not name.endswith(COUNTERS)]
    unexpected = [name for name in tensors if name not in own]
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"lacks {_named(missing)}")
        if unexpected:
            parts.append(f"has {_named(unexpected)}, which the network does not have")
        raise UserError(f"{', and '.join(parts)}: it belongs to another network")
    _require_shapes(tensors, own)
    for name, one in tensors.items():
        if _kind(one) != _kind(own[name]):
            raise UserError(
                f"{name} holds {_kind(one)}, but {_kind(own[name])} in the network: {ADVICE}, of "
                f"the net as it was before it was converted"
            )
    for name, _ in net.named_parameters(remove_duplicate=False):
        if name in tensors and not tensors[name].isfinite().all():
            raise UserError(f"{name} holds numbers that are not finite: its training has failed")


def _require_shapes(tensors: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise UserError unless tensors have the shapes of the network's own."""
    other = {name: one.shape for name, one in tensors.items() if one.shape != own[name].shape}
    if not other:
        return
    differences = [
        f"{name} is {list(shape)}, but {list(own[name].shape)} in the network"
        for name, shape in other.items()
    ]
    raise UserError(f"{_named(differences, '; ')}{_hint(other, own)}")


def _hint(other: Mapping[str, torch.Size], own: Mapping[str, Tensor]) -> str:
    """What people mostly got wrong if shapes differ: the number of classes, which a head has."""
    counts = {
        (shape[0], own[name].shape[0])
        for name, shape in other.items()
        if len(shape) and shape[1:] == own[name].shape[1:]
    }
    head = list(own)[-1]
    if len(counts) != 1 or head not in other or len(other) > 2:
        return ""
    [(in_file, in_network)] = counts
    return f": the file is of a net for {in_file} classes, and the data set has {in_network}?"


def _kind(tensor: Tensor) -> str:
    """What of a tensor must be the same, so that its values can be copied to another."""
    if tensor.is_quantized:
        return "quantised numbers"
    if tensor.layout != torch.strided:
        return "sparse numbers"
    if tensor.is_complex():
        return "complex numbers"
    return "real numbers" if tensor.is_floating_point() else "integers"


def _named(names: list[str], separator: str = ", ") -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{separator.join(names[:MOST_NAMED])}{more}"
