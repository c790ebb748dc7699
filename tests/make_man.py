"""Make the man pages keyturn(1), keyturn-service(1) and keyturn-host(1): ``python tests/make_man.py DIRECTORY`` (``make man``).

Commands come from Click as on docs/commands.md, environment and files from the tables of docs/settings.md; Sphinx writes the
manual's own language.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from command_tree import Command, Option, commands, common, far
from keyturn import __version__
from make_pages import DOCS, EXITS, meaning, term

ABOUT = {
    "keyturn": "activate products on this computer, see where they stand, give seats back",
    "keyturn-service": "a publisher's activation service: set it up, run it, mint keys, help callers",
    "keyturn-host": "an organization's activation host: activate the computers of its own network",
}
# Sections of settings.md by their beginning, and what each page shows of them.
_ENVIRONMENT = {
    "keyturn": ("Environment", "Test products"), "keyturn-service": ("Settings of", "Environment"),
    "keyturn-host": ("The host's settings", "Environment", "Test products"),
}  # fmt: skip
_FILES = {"keyturn": "store of the client", "keyturn-service": "service's home", "keyturn-host": "host's home"}
# The other pages' own.
_MINE = {
    "keyturn": r"KEYTURN_(AT|TOKEN)|^`PATH`", "keyturn-service": r"KEYTURN_KEY_FILE",
    "keyturn-host": r"KEYTURN_(AT|TOKEN|SERVICE)",
}  # fmt: skip
_CONF = """\
project, version, release, root_doc = "Keyturn", "{version}", "{version}", "keyturn"
extensions, myst_enable_extensions = ["myst_parser"], ["deflist"]
man_pages = {pages!r}
"""


def source(name: str) -> str:
    """One manual page in Markdown."""
    program = name.partition("-")[2]  # Empty: the client.
    shown = [command for command in commands() if _program(command) == program]
    others = ", ".join(f"{other}(1)" for other in ABOUT if other != name)
    verb = f"**keyturn {program}** [*OPTIONS*] *VERB* …" if program else "**keyturn** [*OPTIONS*] [*VERB* …]"
    lines = [
        "---", "orphan: true", "---", f"# {name}", "", "## Synopsis", "", verb, "", "## Description", "",
        *_paragraphs(shown[0]),
        "Options stand before or after the verb. Data goes to stdout, everything else to stderr. A verb that cannot be undone"
        " says what it will do and asks; off a terminal it takes **--yes**.",
        "", "## Options", "", *_options([*common(), *(far() if program == "service" else shown[0].options)]),
        "## Verbs", "", *(line for command in shown[1:] if not command.commands for line in _verb(command)),
        "## Exit status", "", *_definitions((f"**{number}**", meaning) for number, meaning in EXITS.items()),
        "**keyturn explain** lists every error code with its exit status and remedy.",
        "", "## Environment", "", *_definitions(_environment(name)),
        "## Files", "", *_definitions((row[0], row[1]) for row in _table("Files") if _FILES[name] in row[1]),
        "## See also", "", others, "",
    ]  # fmt: skip
    return "\n".join(lines)


def _program(command: Command) -> str:
    """Which server a command belongs to; empty: the client."""
    word = "".join(command.words[1:2])
    return word if f"keyturn-{word}" in ABOUT else ""


def _verb(command: Command) -> Iterator[str]:
    yield from (f"### {command.usage}", "", *_paragraphs(command), *_options(command.options))


def _paragraphs(command: Command) -> Iterator[str]:
    for paragraph in command.help:
        yield from ("```", paragraph, "```", "") if "\n" in paragraph else (paragraph, "")


def _options(options: Sequence[Option]) -> Iterator[str]:
    return _definitions((term(option), meaning(option)) for option in options)


def _definitions(items: Iterator[tuple[str, str]]) -> Iterator[str]:
    for word, told in items:
        yield from (word, f": {told}", "")


def _environment(name: str) -> Iterator[tuple[str, str]]:
    for section in _ENVIRONMENT[name]:
        for row in _table(section):
            variable, told = (
                (row[2], f"Setting {row[0]}: {row[3]}. Default: {row[1]}.") if len(row) == 4 else (row[0], row[1])
            )
            if not re.search(_MINE[name], variable):
                yield variable, told


def _table(section: str) -> Iterator[tuple[str, ...]]:
    """The rows of the tables of one section of settings.md, without links."""
    text = (DOCS / "settings.md").read_text("utf-8")
    (body,) = (part for part in text.split("\n## ") if part.startswith(section))
    for line in re.sub(r" ?\(\[[^]]*\]\([^)]*\)\)", "", body).splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
        if line.startswith("| `"):
            yield cells


def main(folder: Path) -> int:
    """Write the sources, and let Sphinx make the pages; a warning is an error."""
    with tempfile.TemporaryDirectory() as top:
        sources = Path(top)
        pages = [(name, name, about, "The Keyturn developers", 1) for name, about in ABOUT.items()]
        (sources / "conf.py").write_text(_CONF.format(version=__version__, pages=pages), "utf-8")
        for name in ABOUT:
            (sources / f"{name}.md").write_text(source(name), "utf-8")
        options = ["-b", "man", "-q", "-W", "-n", "-E", "-d", f"{top}/.doctrees"]
        return subprocess.run([sys.executable, "-m", "sphinx", *options, top, str(folder)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
