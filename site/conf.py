"""How Sphinx makes the book; `book.py` lays its pages out and runs it."""

import os

project = "Learning from images and text by mutual information"
author = "its authors"
html_show_copyright = False
html_title = "Learning by mutual information"
language = "en"

extensions = ["myst_nb", "sphinx_copybutton", "sphinx-mathjax-offline"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/plain", 100)]  # a figure's text is its alt text
myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type"]

REPOSITORY = os.environ.get("REPOSITORY", "")  # its address: then pages link to it, and to Colab

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_favicon = html_logo = "_static/icon.svg"
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
html_last_updated_fmt = None
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,  # of stored outputs; the handouts are for working in
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # search stands in the sidebar
    "logo": {"text": html_title},
}
if REPOSITORY:
    html_theme_options |= {"repository_url": REPOSITORY, "use_repository_button": True}
    html_theme_options |= {"use_issues_button": True}
copybutton_exclude = ".linenos, .gp, .go"

revealjs_style_theme = "white"
revealjs_static_path = ["_static"]
revealjs_css_files = ["deck.css"]
revealjs_js_files = ["deck.js"]
revealjs_script_plugins = [{"src": "revealjs/plugin/notes/notes.js", "name": "RevealNotes"}]
revealjs_script_conf = {"hash": True, "slideNumber": "c/t"}
