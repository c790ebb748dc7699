"""A cloud's own word for which instance this is, from its metadata service on the link.

Used only where an organization's policy allows it (``probes.read``'s ``ask``); by default no network is asked. It helps a
user who may not read the firmware's UUID: in Azure and Google's cloud nothing else tells instances apart for them.

Keeps the three services' questions. Leaves to others: whether to ask (policy), what the answer is worth (``core.hardware``).

Rules:

- Only a link-local address (RFC 3927, RFC 4291) or, for tests, this computer itself: what is asked never leaves the link.
- One second for everything, no proxy, no redirect, no name to look up; an answer counts up to 256 bytes.
- No answer is no value. A service on that address that is another's (a portal, a router) fails the question's own proof:
  EC2's token (IMDSv2), Google's header, a UUID from Azure.
- Where policy allows it the answer goes before the firmware's UUID, for root too, so that root and user agree. Allow it
  before activating: an instance that was activated by its UUID is otherwise another one once.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Mapping

from keyturn.core.errors import KeyturnError
from keyturn.edge.wire import FAULTS, Connection, Target, open_socket

ADDRESS = "169.254.169.254"
PATIENCE = 1.0  # Seconds.
_MAX_VALUE = 256
_EC2 = re.compile(r"i-[0-9a-f]{8,32}", re.ASCII)
_AZURE = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_GOOGLE = re.compile(r"[0-9]{8,20}", re.ASCII)


def instance(kind: str, address: str = ADDRESS, port: int = 80) -> str | None:
    """Ask which instance of the cloud ``kind`` (``aws``, ``azure``, ``gce``) this is; ``None`` without a good answer.

    Raises: ValueError if ``address`` is neither link-local nor this computer's own.
    """
    place = ipaddress.ip_address(address)
    if not (place.is_link_local or place.is_loopback):
        raise ValueError(f"{address} is not on the link")
    target, deadline = Target("http", address, port, "/"), time.monotonic() + PATIENCE
    if kind == "aws":
        # IMDSv2: a token by PUT, which no open proxy or redirect passes on, then the question with it.
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        token = _asked(target, deadline, "PUT", "/latest/api/token", lifetime)
        if token is None:
            return None
        found = _asked(target, deadline, "GET", "/latest/meta-data/instance-id", {"X-aws-ec2-metadata-token": token[0]})
        return _matching(_EC2, found)
    if kind == "azure":
        path = "/metadata/instance/compute/vmId?api-version=2021-02-01&format=text"
        return _matching(_AZURE, _asked(target, deadline, "GET", path, {"Metadata": "true"}))
    if kind == "gce":
        header = {"Metadata-Flavor": "Google"}
        found = _asked(target, deadline, "GET", "/computeMetadata/v1/instance/id", header)
        return _matching(_GOOGLE, found) if found is not None and found[1].get("metadata-flavor") == "Google" else None
    return None


def _matching(pattern: re.Pattern[str], found: tuple[str, Mapping[str, str]] | None) -> str | None:
    return found[0] if found is not None and pattern.fullmatch(found[0]) else None


def _asked(
    target: Target, deadline: float, method: str, path: str, headers: Mapping[str, str]
) -> tuple[str, Mapping[str, str]] | None:
    """One question on a connection of its own: the text and its headers (names in lower case), if it was answered 200."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {target.authority}", "Connection: close", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    try:
        with open_socket(target, target.host, target.port, deadline) as sock:
            connection = Connection(sock, target.place)
            connection.begin(deadline)
            response = connection.head(method, "\r\n".join([*lines, "", ""]).encode("ascii"))
            body = response.read(_MAX_VALUE + 1) if response.status == 200 else b""
    except (KeyturnError, *FAULTS):
        return None
    text = body.decode("ascii", "replace").strip()
    if not text or len(body) > _MAX_VALUE or not text.isprintable() or not text.isascii():
        return None
    return text, {name.lower(): value.strip() for name, value in response.getheaders()}
