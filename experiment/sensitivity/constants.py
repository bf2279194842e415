"""The constants of SiPP's guarantees (arXiv:1910.05422, Section 4)."""

C = 3  # of the assumption on the distribution of relative contributions
DEFAULT_DELTA = 1e-16  # failure probability of the certificates, unless another one is asked for
