"""How Sphinx makes pages for the browser of this folder: `make pages`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import experiment

project = "Pruning experiments"
version = release = experiment.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["conf.py"]
html_theme = "furo"  # light and dark, narrow and wide; fetches nothing
html_title = project
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
suppress_warnings = ["misc.highlighting_failure"]
