"""How Sphinx builds this site: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import cascade_bayes  # noqa: E402  the checkout that the pages stand in, installed or not

# Sphinx reads pages from this folder alone; the notebooks are shown as they are committed, and not run.
shutil.copytree(
    HERE.parent / "notebooks",
    HERE / "notebooks",
    ignore=lambda _, names: [name for name in names if not name.endswith(".ipynb")],
    dirs_exist_ok=True,
)

project = "cascade_bayes"
author = "The cascade_bayes developers"
copyright = "The cascade_bayes developers"
version = release = cascade_bayes.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "command_reference",
]
exclude_patterns = ["_build", "_ext", "_static", "**.ipynb_checkpoints"]

html_theme = "furo"
html_title = "cascade_bayes"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False

nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "dollarmath", "deflist"]
myst_heading_anchors = 3
myst_update_mathjax = False
mathjax4_config = {"output": {"displayOverflow": "linebreak"}}  # long formulas wrap on a telephone

default_role = "py:obj"
maximum_signature_line_length = 70
add_module_names = False
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
smartquotes = False  # options begin with two hyphens


def skip_member(app, what, name, obj, skip, options):
    """Leave out fields of a NamedTuple, which the class itself describes under Attributes."""
    alias = (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")
    return True if alias else None


def setup(app):
    """Register what this file adds to Sphinx."""
    app.connect("autodoc-skip-member", skip_member)
