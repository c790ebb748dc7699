"""The client's side of the agent's socket: one question, one answer, and who answers.

Keeps: where a person's own agent listens, the size and time of an exchange, and the credentials of the other side (SO_PEERCRED).
Leaves to others: what is asked and whether the answer is believed (``core.capability``), the agent's side
(``edge.agent_listen``).

- Linux only: elsewhere there is no agent, and :func:`ask` says so.
- An answer counts only from root or from this very account: anybody may make a socket in a place that is free.
- Without an agent nothing is slower: one look at a path, and the socket library is imported after that.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keyturn.core import jws
from keyturn.core.capability import MAX_ANSWER, Question
from keyturn.core.errors import KeyturnError

if TYPE_CHECKING:
    from socket import socket

PATIENCE = 2.0  # Seconds for the whole exchange: `keyturn status` runs at every logon.
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): process, user, group.


def user_socket(environ: Mapping[str, str]) -> str | None:
    """Where a person's own agent listens; ``None`` without a run-time folder (XDG Base Directory)."""
    folder = environ.get("XDG_RUNTIME_DIR", "")
    return os.path.join(folder, "keyturn", "agent.sock") if folder.startswith("/") else None


def peer(connection: socket) -> int:
    """The account at the other end, as the kernel knows it. Raises: KeyturnError ``platform_unsupported``."""
    if sys.platform != "linux":
        raise KeyturnError("platform_unsupported", "the agent's socket is there on Linux only")
    import socket

    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(found)[1])


def ask(path: str, question: Question, *, patience: float = PATIENCE) -> dict[str, Any]:
    """Ask the agent at ``path`` and return its answer, not yet believed.

    Raises: KeyturnError ``agent_unreachable`` if none is there or answers in time, ``permission_denied`` if it is another
    account's, ``answer_unexpected``, ``document_malformed`` for what is no answer; or the error that the agent answers with.
    """
    if sys.platform != "linux" or not os.path.exists(path):
        raise KeyturnError("agent_unreachable", f"there is no agent at {path}")
    import socket
    import time

    deadline = time.monotonic() + patience
    data = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience)
            connection.connect(path)
            if peer(connection) not in (0, os.geteuid()):
                raise KeyturnError("permission_denied", f"what listens at {path} is another account's")
            with contextlib.suppress(BrokenPipeError):  # Who may not ask is told so before the question is read.
                connection.sendall(json.dumps(question.as_json()).encode() + b"\n")
            while not data.endswith(b"\n"):
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                part = connection.recv(65_536)
                if not part:
                    break
                data += part
                if len(data) > MAX_ANSWER:
                    raise KeyturnError("answer_unexpected", "the agent's answer is too large")
    except OSError as error:
        raise KeyturnError("agent_unreachable", f"{path}: {error.strerror or error}") from error
    return read_answer(bytes(data))


def read_answer(line: bytes) -> dict[str, Any]:
    """The object that the agent answers with. Raises: KeyturnError ``document_malformed``, or the error that it says."""
    value = jws.loads(line)
    told = value.get("error")
    if isinstance(told, dict):
        code, detail, remedy = (str(told.get(name))[:500] for name in ("code", "detail", "remedy"))
        raise KeyturnError(code, detail, remedy=remedy)
    return value
