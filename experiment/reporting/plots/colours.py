"""The colours of methods: each has its own, the same in every figure."""

import hashlib
from collections.abc import Iterable

SHIPPED_COLOURS = {
    "SiPP": "#d62728",
    "SiPPRand": "#ff7f0e",
    "SiPPHybrid": "#9467bd",
    "WT": "#1f77b4",
    "WTLayer": "#17becf",
    "SNIP": "#2ca02c",
    "GraSP": "#8c564b",
    "SynFlow": "#e377c2",
    "Wanda": "#bcbd22",
    "Uniform": "#7f7f7f",
    "L1Sampling": "#6baed6",
    "L2Sampling": "#74c476",
    "L1L2Sampling": "#c5b0d5",
    "Random": "#bdbdbd",
    "PFP": "#a50f15",
    "PFPRand": "#fdae6b",
    "PFPTop": "#dd1c77",
    "FT": "#08519c",
    "SoftNet": "#54278f",
    "ThiNet": "#006d2c",
    "UniformFilters": "#525252",
}
# Chosen to look different from each other and from those above: far apart in CIELAB.
SPARE_COLOURS = (
    "#78690f",
    "#0069ff",
    "#c30fb4",
    "#ff8787",
    "#b469ff",
    "#964b00",
    "#1e7869",
    "#963c69",
    "#b4b469",
    "#6996ff",
    "#d29600",
    "#00c3a5",
    "#78c300",
    "#69784b",
    "#698700",
)


def method_colours(methods: Iterable[str]) -> dict[str, str]:
    """Colours for the methods of one figure, by method; no two are the same while colours last.

    A shipped method has a fixed colour. Any other (a new one, or one with options) has a spare
    colour that follows from its name. If several in the figure would have the same one, the first
    in alphabetical order keeps it, and the others get spare colours that nobody in the figure has.
    """
    methods = set(methods)
    colours = {method: SHIPPED_COLOURS[method] for method in methods & set(SHIPPED_COLOURS)}
    others = sorted(methods - set(SHIPPED_COLOURS))
    for method in others:
        favourite = _preferences(method)[0]
        if favourite not in colours.values():
            colours[method] = favourite
    for method in others:
        if method not in colours:
            colours[method] = _next_best(method, taken=set(colours.values()))
    return colours


def _next_best(method: str, taken: set[str]) -> str:
    """The spare colour that a method prefers among those not taken; if all are, among all."""
    preferences = _preferences(method)
    return next((colour for colour in preferences if colour not in taken), preferences[0])


def _preferences(method: str) -> tuple[str, ...]:
    """All spare colours in the order in which a method takes them: a rotation set by its name."""
    digest = hashlib.sha256(method.encode()).digest()
    start = int.from_bytes(digest) % len(SPARE_COLOURS)
    return SPARE_COLOURS[start:] + SPARE_COLOURS[:start]
