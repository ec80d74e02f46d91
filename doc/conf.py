# SPDX-License-Identifier: BSD-3-Clause
"""How ``make doc`` builds the documentation."""

from __future__ import annotations

import os
import warnings

# One thread in each product of matrices: the examples are small.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sksmooth

project = "sksmooth"
author = "the sksmooth developers"
release = version = sksmooth.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "README.md"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
default_role = "code"  # in docstrings: `name` is code

html_theme = "pydata_sphinx_theme"
html_title = "sksmooth"
html_show_sourcelink = False
html_extra_path = ["llms.txt"]
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "/plot_[0-9]",
    "ignore_pattern": r"(_data|spam_filter|dask_cluster|plot_backdoor_with_labels)\.py",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 30,
    "plot_gallery": True,
    "image_scrapers": ("matplotlib",),
}
# Messages of libraries that the pages would show.
warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")


def setup(app):
    """Let references of scikit-learn's own docstrings stand as text: its pages are not here."""
    app.connect(
        "missing-reference",
        lambda app, env, node, contnode: (
            contnode if node.get("reftarget") == "accuracy_score" else None
        ),
    )
