"""How Sphinx builds these pages: ``make docs``, without network, every warning an error."""

import os
import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))

# A build may not depend on what the machine has cached or on who runs it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from xr_terramind import __version__  # noqa: E402

project = "xr_terramind"
author = "The xr_terramind developers"
copyright = author
version = release = __version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "command_line",
    "notebook_pages",
]

exclude_patterns = ["_build", "figures", "_ext", "**/.ipynb_checkpoints"]
templates_path: list[str] = []

# Pages
myst_enable_extensions = ["deflist", "colon_fence", "linkify"]
myst_heading_anchors = 3
myst_linkify_fuzzy_links = False
smartquotes = False  # what is quoted is code more often than not
suppress_warnings = ["mystnb.unknown_mime_type"]  # a widget's type beside its text

# Notebooks, with the outputs that are stored in them.
nb_execution_mode = "off"
nb_merge_streams = True

# The reference. Signatures stay short: types stand in the docstrings, as numpydoc writes them.
autosummary_generate = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
add_module_names = False
toc_object_entries_show_parents = "hide"
default_role = "py:obj"
python_display_short_literal_types = True

# Without network there are no inventories of other projects to link to.
nitpick_ignore_regex = [
    # The bases that autodoc prints for exceptions and typed dictionaries.
    ("py:class", r"(builtins\.)?(ValueError|RuntimeError|OSError|TypeError|FileExistsError)"),
    ("py:class", r"(builtins\.)?(Exception|UserWarning|object)"),
]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = "xr_terramind"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}


def _name_the_accessor(app, doctree):
    """Show methods as they are typed: ``.terramind.embed()``."""
    for text in list(doctree.findall(nodes.Text)):
        shown = isinstance(text.parent, addnodes.desc_addname | nodes.literal)
        if shown and text.startswith("TerraMindAccessor."):
            named = text.replace("TerraMindAccessor.", ".terramind.", 1)
            text.parent.replace(text, nodes.Text(named))


def _keep_as_code(app, env, node, content):
    """Leave as code what docstrings quote and no page describes, such as a module's name.

    Only of the default role: what a page links to by name has to be there.
    """
    return content if node.get("reftype") == "obj" else None


def setup(app):
    """Connect what stands above."""
    app.connect("doctree-read", _name_the_accessor)
    app.connect("missing-reference", _keep_as_code)
