"""The language a person reads: English, which is in the source, or a translation from ``keyturn/locale``.

Keeps: which language the environment asks for, and the catalogues. Leaves to others: what is said.

- ``LANGUAGE``, then ``LC_ALL``, ``LC_MESSAGES``, ``LANG``, as GNU gettext reads them: ``LANGUAGE`` is a list of wishes, and
  counts unless the locale is plainly ``C``.
- JSON, events and error codes are not translated: programs and administrators of all countries compare them.
- ``gettext`` is imported when something is to be translated, and not before: ``keyturn status`` runs at every logon.
- A catalogue is made of its ``.po`` by ``make locale``, and a test fails on a sentence that it lacks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gettext import NullTranslations

TRANSLATED = ("de",)
FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "locale")


def wanted(environ: Mapping[str, str]) -> str:
    """The language the environment asks for, of those there are: ``en`` or one of ``TRANSLATED``."""
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    if locale in ("C", "POSIX"):
        return "en"
    for wish in (*(environ.get("LANGUAGE") or "").split(":"), locale):
        language = wish.partition("_")[0].partition(".")[0].partition("@")[0].lower()
        if language == "en" or language in TRANSLATED:
            return language
    return "en"


def text(message: str) -> str:
    """A sentence of ours in the reader's language; the English one is its name."""
    language = wanted(os.environ)
    return message if language == "en" else _catalogue(language).gettext(message)


def plural(one: str, many: str, count: int) -> str:
    """The form of a sentence for a number."""
    language = wanted(os.environ)
    if language == "en":
        return one if count == 1 else many
    return _catalogue(language).ngettext(one, many, count)


def noted(message: str) -> str:
    """Mark a sentence for the translators where it is written down; :func:`text` translates it where it is said."""
    return message


@cache
def _catalogue(language: str) -> NullTranslations:
    import gettext

    try:
        with open(os.path.join(FOLDER, language, "LC_MESSAGES", "keyturn.mo"), "rb") as stream:
            return gettext.GNUTranslations(stream)
    except OSError:
        return gettext.NullTranslations()  # Somebody who packs it left the folder out: English is better than nothing.
