"""How Sphinx makes a site of the repository's Markdown: `./dev docs`.

The sources are the pages as they lie in the repository, so links between them are the ones that a reader of the
repository follows. What leads nowhere, a page, a file or a heading, is a warning, and a warning ends the build.
"""

import re

from sphinx.application import Sphinx

from dataplane import __version__

project = "udplane"
version = release = __version__
extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/**.md"]
root_doc = "docs/index"

myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["misc.highlighting_failure"]  # what is shown as JSON may be a part of a file

html_theme = "furo"
html_title = f"udplane {release}"
html_extra_path = ["index.html"]
templates_path = ["."]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "to-the-api.html",
        "sidebar/scroll-end.html",
    ]
}
html_copy_source = False
html_show_sphinx = False

CONTENTS = ("docs/index", "docs/decisions/README")
"""Pages that list others: what each of their sections links to, in that order, is a section of the navigation."""


def add_navigation(_: Sphinx, docname: str, source: list[str]) -> None:
    """Give a page of contents the lists of pages that Sphinx wants, which a reader of the repository need not see."""
    if docname not in CONTENTS:
        return
    for level, heading, section in re.findall(
        r"^(##?) ([^\n]+)\n(.*?)(?=^##? |\Z)", source[0], re.DOTALL | re.MULTILINE
    ):
        pages = re.findall(r"\[([^]]+)\]\(([^)#:]+\.md)\)", section)
        entries = [f"{title} <{page}>" for title, page in pages]
        if entries:
            caption = f":caption: {heading}" if docname == root_doc and level == "##" else ""
            source[0] += "\n".join(["\n\n```{toctree}", ":hidden:", caption, "", *entries, "```", ""])


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", add_navigation)
