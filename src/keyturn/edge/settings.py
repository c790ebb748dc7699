"""A server's settings: a TOML file of texts, over which the environment stands, over defaults.

Leaves to others: which settings there are and what they mean (each program's ``home``).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from keyturn.core.errors import KeyturnError
from keyturn.edge import files

MAX_FILE = 65_536
LISTENING = "listening.json"  # In a server's home: where it listens, or did last.


def read(
    path: Path, defaults: Mapping[str, str], prefix: str, environ: Mapping[str, str], *, remedy: str | None = None,
    join: Callable[[Iterable[str]], str] = " ".join,
) -> tuple[dict[str, str], dict[str, str]]:  # fmt: skip
    """The values in force, and where each comes from: environment (``prefix`` and the name) over file over default.

    ``join`` makes one text of a list that somebody wrote. Raises: KeyturnError ``not_initialised`` (with ``remedy``),
    ``file_malformed``.
    """
    data = files.read(path, MAX_FILE)
    if data is None:
        raise KeyturnError("not_initialised", f"{path} does not exist", remedy=remedy)
    stored = _parsed(path, data)
    values, origins = dict(defaults), dict.fromkeys(defaults, "default")
    for name in defaults:
        if name in stored:
            said = stored[name]
            values[name] = join(map(str, said)) if isinstance(said, list) else str(said)
            origins[name] = str(path)
        variable = prefix + name.upper()
        if variable in environ:
            values[name], origins[name] = environ[variable], f"environment {variable}"
    return values, origins


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write the file anew, for its owner alone."""
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items()]
    files.write(path, "".join(lines).encode(), files.PRIVATE)


def change(
    path: Path, defaults: Mapping[str, str], name: str, value: str, check: Callable[[Mapping[str, str]], object]
) -> None:
    """Set one value; ``check`` reads all of them.

    Raises: KeyturnError ``usage`` for a name that is no setting, and what it raises.
    """
    if name not in defaults:
        raise KeyturnError("usage", f"{name!r} is not one of {', '.join(defaults)}")
    check({**defaults, name: value})
    values = {**_parsed(path, files.read(path, MAX_FILE) or b""), name: value}
    write(path, {known: values[known] for known in defaults if known in values})


def _parsed(path: Path, data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except ValueError as error:
        raise KeyturnError("file_malformed", f"{path} is not TOML") from error
