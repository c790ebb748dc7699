"""How the pages become a site. They are plain Markdown, which a code host shows too; nothing here is fetched from anywhere."""

from keyturn import __version__

project = "Keyturn"
project_copyright = "The Keyturn developers"
version = release = __version__

extensions = ["myst_parser"]
myst_heading_anchors = 3  # Links such as operations.md#find work here as they do on a code host.
nitpicky = True
smartquotes = False  # They would turn --option into –option.

html_theme = "furo"
html_title = f"Keyturn {version}"
html_static_path = ["static"]
html_css_files = ["keyturn.css"]
html_copy_source = False
html_show_sourcelink = False
