"""A PIN or passphrase of an operator's: from a file, from systemd's credentials, or asked for on a terminal; never from a
command line, which everybody on the computer can read.

Leaves to others: what it opens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from keyturn.core.errors import KeyturnError
from keyturn.edge import files

MAX_SECRET = 1024  # Bytes.

Prompt = Callable[[str], str | None]  # Asks a person; None where there is nobody to be asked.


class Secret:
    """One secret, looked for when it is asked for, and kept from then on.

    ``what`` it is called in questions and errors, ``variable`` names its file, ``credential`` is its name among systemd's
    credentials (systemd.exec(5), LoadCredential=).
    """

    def __init__(
        self, what: str, environ: Mapping[str, str], *, variable: str, credential: str, prompt: Prompt | None = None
    ) -> None:
        self.what = what
        self._environ = environ
        self._variable, self._credential, self._prompt = variable, credential, prompt
        self._found: str | None = None

    def __repr__(self) -> str:
        return f"Secret({self.what})"

    @property
    def known(self) -> bool:
        """Whether it was found."""
        return bool(self._found)

    def __call__(self) -> str:
        """Raises: KeyturnError ``signer_locked`` if it is nowhere, ``permission_denied`` for a file that others may read."""
        if self._found is None:
            self._found = self._stored()
        if self._found is None and self._prompt is not None:
            self._found = self._prompt(f"The signer's {self.what}")
        if not self._found:
            raise KeyturnError("signer_locked", f"the signer's {self.what} is needed, and nobody is here to be asked")
        return self._found

    def chosen(self, least: int) -> str:
        """A new secret, from the same places; a person is asked twice.

        Raises: KeyturnError ``usage`` for one of less than ``least`` characters, or two that differ; those of a call.
        """
        stored = self._stored()
        found = stored or self()
        if stored is None and self._prompt is not None and self._prompt(f"The same {self.what} again") != found:
            self._found = None
            raise KeyturnError("usage", f"the {self.what} was not the same both times; nothing was changed")
        if len(found) < least:
            raise KeyturnError("usage", f"a {self.what} has at least {least} characters")
        return found

    def _stored(self) -> str | None:
        named = self._environ.get(self._variable)
        folder = self._environ.get("CREDENTIALS_DIRECTORY")
        if named is not None:
            # systemd guards its credentials itself, by an access list that looks like an open mode.
            if files.open_to_others(named):
                raise KeyturnError("permission_denied", f"{named} can be read by others; `chmod 600` it")
            text = _text(Path(named))
            if text is None:
                raise KeyturnError("signer_locked", f"the file {named} of {self._variable} does not exist")
            return text
        return None if folder is None else _text(Path(folder) / self._credential)


def _text(path: Path) -> str | None:
    data = files.read(path, MAX_SECRET)
    return None if data is None else os.fsdecode(data).removesuffix("\n").removesuffix("\r")
