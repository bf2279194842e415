"""The state of a net between two tasks: all that pruning, training or evaluating it starts from."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn

from experiment.nets.masks import Masks, keep_all
from experiment.nets.running import device_of
from experiment.nets.tensors import content_of


@dataclass(frozen=True, eq=False)
class NetState:
    """Parameters, buffers, masks and, within a training, the optimiser and the epoch; on the CPU.

    The position of the learning rate's schedule follows from the epoch. `optimizer` holds the
    tensors that the optimiser keeps for each parameter, by `<parameter name>:<their name>`; it is
    empty for a net whose next training starts with a fresh optimiser.
    """

    tensors: dict[str, Tensor]
    masks: Masks
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    epoch: int = 0  # how many epochs of its training are done

    @classmethod
    def of(cls, net: nn.Module, masks: Masks | None = None) -> "NetState":
        """A copy of a net's state; without masks every parameter counts as kept."""
        masks = keep_all(net) if masks is None else masks
        return cls(
            {name: copied(tensor) for name, tensor in net.state_dict().items()},
            {name: mask.cpu().contiguous() for name, mask in masks.items()},
        )

    def load_into(self, net: nn.Module) -> Masks:
        """Load parameters and buffers into a net, in place; return the masks on its device."""
        net.load_state_dict(self.tensors)
        device = device_of(net)
        return {name: mask.to(device) for name, mask in self.masks.items()}

    @cached_property
    def is_pruned(self) -> bool:
        """Whether any parameter is masked away."""
        return not all(bool(mask.all()) for mask in self.masks.values())

    @cached_property
    def digest(self) -> str:
        """A hash of the tensors and masks: equal for equal nets, wherever they come from."""
        content = hashlib.sha256()
        for kind in (self.tensors, self.masks):
            for name, tensor in sorted(kind.items()):  # files have an order of their own
                content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                content.update(content_of(tensor))
        return content.hexdigest()


def copied(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU that shares no memory and has no gradient."""
    return tensor.detach().cpu().clone().contiguous()
