"""Keep the translations: ``python tests/make_locale.py DIRECTORY`` (``make locale``; DIRECTORY is ``src/keyturn/locale``).

The sentences are found in the source: what is given to ``_``, ``noted`` and ``plural``, and what ``status`` shows of core's
catalogues. Each language's ``.po`` keeps its translations, gets new sentences with an empty one, and loses those that are
gone; the ``.mo`` beside it is what the program reads. ``test_language.py`` makes both elsewhere and compares.
"""

from __future__ import annotations

import ast
import json
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from keyturn.client import views
from keyturn.core import hardware, license
from keyturn.core.errors import CATALOGUE

SOURCE = Path(__file__).parents[1] / "src" / "keyturn"
LOCALE = SOURCE / "locale"
PLURALS = {"de": "nplurals=2; plural=(n != 1);"}
_MARKS = {"_", "noted"}


class Message(NamedTuple):
    """One sentence, its form for many if it has one, and where it is said."""

    one: str
    many: str | None
    places: tuple[str, ...]


def messages() -> list[Message]:
    """Every sentence of ours that a person may read in their language, by alphabet: code that moves changes nothing."""
    found: dict[tuple[str, str | None], list[str]] = {}
    for path in sorted((SOURCE / "client").glob("*.py")):
        for one, many in calls(ast.parse(path.read_text("utf-8"))):
            found.setdefault((one, many), []).append(f"client/{path.name}")
    for place, texts in _catalogues().items():
        for text in texts:
            found.setdefault((text, None), []).append(place)
    return sorted(Message(one, many, tuple(sorted(set(places)))) for (one, many), places in found.items())


def calls(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """The texts in calls of the marks. Raises: ValueError for a text that is put together before it is translated."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id in _MARKS and isinstance(node.args[0], (ast.JoinedStr, ast.BinOp, ast.Call)):
            raise ValueError(f"line {node.lineno}: a text is put together before it is translated")
        texts = [text for argument in node.args for text in _texts(argument)]
        if node.func.id in _MARKS:
            yield from ((text, None) for text in texts)
        elif node.func.id == "plural":
            one, many = texts
            yield one, many


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.BoolOp):  # `_(this or "that")`
        for value in node.values:
            yield from _texts(value)


def _catalogues() -> Mapping[str, Iterable[str]]:
    """What core writes down and the client says: remedies of reasons, titles and remedies of errors, parts of a computer."""
    shown = [CATALOGUE[code] for code in views.SHOWN]
    return {
        "core/license.py": license._REMEDIES.values(),
        "core/errors.py": [text for entry in shown for text in (entry.title, entry.remedy)],
        "core/hardware.py": [*hardware.LABELS.values(), "and", "{count} more parts"],
    }


Translations = dict[tuple[str, str | None], tuple[str, ...]]


def read(text: str) -> Translations:
    """A ``.po`` file's translations, one or several forms each; the head is that of the empty text."""
    found: Translations = {}
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if match := re.fullmatch(r'(msgid|msgid_plural|msgstr(?:\[\d\])?) (".*")', line):
                name = match[1]
                fields[name] = json.loads(match[2])
            elif line.startswith('"'):
                fields[name] += json.loads(line)
        if "msgid" in fields:
            forms = tuple(value for field, value in sorted(fields.items()) if field.startswith("msgstr"))
            found[fields["msgid"], fields.get("msgid_plural")] = forms
    return found


def po(language: str, wanted: list[Message], known: Translations) -> str:
    """The ``.po`` file of a language with exactly the sentences that there are."""
    head = (
        f"Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\nLanguage: {language}\n"
        f"Plural-Forms: {PLURALS[language]}\n"
    )
    first = "# Translate here, then: make locale. {braces} stay as they are, and so do `commands`."
    blocks = [f'{first}\nmsgid ""\nmsgstr ""\n{_lines(head)}']
    for message in wanted:
        lines = [f"#: {place}" for place in message.places] + [f"msgid {_quoted(message.one)}"]
        forms = known.get((message.one, message.many), ())
        if message.many is None:
            lines.append(f"msgstr {_quoted(forms[0] if forms else '')}")
        else:
            lines.append(f"msgid_plural {_quoted(message.many)}")
            lines += [f"msgstr[{number}] {_quoted(forms[number] if forms else '')}" for number in range(2)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def mo(translations: Translations) -> bytes:
    """The binary catalogue (GNU gettext manual, "The Format of GNU MO Files"), without a hash table."""
    pairs = sorted(
        ("\0".join(filter(None, key)).encode() if key[1] else key[0].encode(), "\0".join(forms).encode())
        for key, forms in translations.items()
        if all(forms)
    )
    count, start = len(pairs), 28 + 16 * len(pairs)
    sizes = [[*column] for column in zip(*pairs, strict=True)]
    tables, data = b"", b""
    for texts in sizes:
        for text in texts:
            tables += struct.pack("<II", len(text), start + len(data))
            data += text + b"\0"
    return struct.pack("<7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, start) + tables + data


def _lines(text: str) -> str:
    return "\n".join(_quoted(line) for line in text.splitlines(keepends=True))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def files(folder: Path) -> dict[str, bytes]:
    """Every catalogue file by its path below ``folder``, with the translations that are there."""
    made: dict[str, bytes] = {}
    for language in PLURALS:
        place = f"{language}/LC_MESSAGES/keyturn"
        there = folder / f"{place}.po"
        text = po(language, messages(), read(there.read_text("utf-8")) if there.exists() else {})
        made |= {f"{place}.po": text.encode(), f"{place}.mo": mo(read(text))}
    return made


def main(folder: Path) -> int:
    """Write them; the result is how many sentences lack a translation, at most 1."""
    lacking = 0
    for name, data in files(folder).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        if name.endswith(".po"):
            empty = [key[0] for key, forms in read(data.decode()).items() if not all(forms)]
            lacking += len(empty)
            print(f"{folder / name}: {len(empty)} sentences to translate", *empty, sep="\n  ")
    return min(lacking, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
