"""The mask of each method on one fixed net: whoever changes a method sees it here.

Weights and inputs come from raw bits of PCG64, which are the same everywhere; torch's random
numbers have no part in them. The net is such that errors of rounding do not matter, which is
tested. What methods draw themselves comes from torch's and numpy's generators, of the versions in
requirements.txt.
"""

import hashlib

import numpy
import pytest
import torch
from torch import nn

import experiment
from experiment.core.registry import METHODS

GOLDEN = {
    "FT": "2f92a838386d073e",
    "GraSP": "0745ada26241c67d",
    "L1L2Sampling": "7f54c0f0b6bae2ff",
    "L1Sampling": "50d5f56c0c3bf279",
    "L2Sampling": "47a396797d2403f3",
    "PFP": "3b59acb24e441399",
    "PFPRand": "6909206750a14c1c",
    "PFPTop": "4ed965dd2aee65f0",
    "Random": "45c71216be5c03c7",
    "SiPP": "5934c1a99dc0a6e0",
    "SiPPHybrid": "bc1614d14439d56a",
    "SiPPRand": "2d9579904354fed4",
    "SNIP": "1e964351aba73893",
    "SoftNet": "691a2f42bc8ce363",
    "SynFlow": "7d02c249ed7bf046",
    "ThiNet": "98593ccf4d16195e",
    "Uniform": "6f7cd26abe21bc92",
    "UniformFilters": "69a220667a069b78",
    "Wanda": "0a7535aab532f714",
    "WT": "de459cf6008a9ecc",
    "WTLayer": "161306bae27fe2a9",
}
SEED = 11
NOISE = 1e-4  # by how much of itself each weight may be off: far more than rounding
HELP = "python -m tests.test_golden_masks prints the table GOLDEN anew, if the change is meant"


class Golden(nn.Module):
    """A convolution, a residual addition, BatchNorm, a grouped convolution, a linear layer."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.inner, self.outer = nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 16, 1)
        self.plain, self.grouped = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 8, 3, groups=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
        x = torch.relu(self.grouped(torch.relu(self.plain(x))))
        return self.head(x.mean((2, 3)))


class Bits:
    """Numbers from the raw bits of PCG64."""

    def __init__(self, seed: int):
        self.bits = numpy.random.PCG64(seed)

    def uniform(self, shape: torch.Size) -> torch.Tensor:
        """Multiples of 2^-20 in [0, 1), which single precision holds."""
        raw = self.bits.random_raw(shape.numel()) >> numpy.uint64(44)
        return torch.from_numpy(raw.astype(numpy.float64) / 2**20).float().reshape(shape)


def golden_net(noise: float = 0.0) -> tuple[nn.Module, tuple]:
    """The net and its batch; every weight is off by up to `noise` of itself."""
    net, bits, other = Golden(), Bits(SEED), Bits(SEED + 1)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                uniform = bits.uniform(value.shape)
                positive = value.dim() == 1 and "bias" not in name and "mean" not in name
                value.copy_(uniform + 0.5 if positive else uniform - 0.5)
                value.mul_(1 + noise * (2 * other.uniform(value.shape) - 1))
    return net, (2 * bits.uniform(torch.Size([12, 2, 6, 6])) - 0.5, torch.arange(12) % 5)


def golden(method: str, noise: float = 0.0) -> str:
    """The first 16 hex digits of the hash of the masks' bits."""
    net, batch = golden_net(noise)
    masks = experiment.prune(
        net, [batch], method=method, keep_ratio=0.5, seed=0, loss=nn.functional.cross_entropy
    ).masks
    digest = hashlib.sha256()
    for name in sorted(masks):
        digest.update(numpy.packbits(masks[name].flatten().numpy()).tobytes())
    return digest.hexdigest()[:16]


def test_every_method_has_a_golden_mask():
    assert sorted(GOLDEN) == sorted(METHODS.names()), (
        f"a method has no golden mask, or is gone: {HELP}"
    )


@pytest.mark.parametrize("method", GOLDEN)
def test_masks_are_as_they_were(method):
    assert golden(method) == GOLDEN[method], f"{method} chooses otherwise than it did: {HELP}"


@pytest.mark.parametrize("method", GOLDEN)
def test_masks_do_not_hang_on_rounding(method):
    assert golden(method, noise=NOISE) == golden(method)


if __name__ == "__main__":
    print("GOLDEN = {")
    for method in METHODS.names():
        print(f'    "{method}": "{golden(method)}",')
    print("}")
