"""Which proxy stands between this computer and an address: the environment, read as curl reads it.

Keeps: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, in lower case (which wins) or upper case.
Leaves to others: talking to the proxy (``keyturn.edge.transport``).

- A proxy is reached over plain HTTP; ``https://`` and ``socks…://`` proxies are refused by name, never passed by.
- ``NO_PROXY`` holds names (with everything below them), addresses and networks (``10.0.0.0/8``), each with an
  optional port, or ``*``. Loopback addresses are proxied like any other unless they are listed.
- ``HTTP_PROXY`` in upper case is ignored under CGI, where a request's ``Proxy:`` header sets it.
- Credentials never show: not in a ``repr``, not in an error.
"""

from __future__ import annotations

import base64
import ipaddress
import urllib.parse
from collections.abc import Mapping
from typing import NamedTuple

from keyturn.core.errors import KeyturnError


class Proxy(NamedTuple):
    """One proxy. ``authorization`` is the whole value of ``Proxy-Authorization``, a secret."""

    host: str
    port: int
    authorization: str | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.place})"

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Proxies(NamedTuple):
    """The proxies of an environment; ``Proxies()`` has none."""

    http: str | None = None
    https: str | None = None
    bypass: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Proxies(http={self.http is not None}, https={self.https is not None}, bypass={self.bypass!r})"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Proxies:
        """Read ``environ``; nothing is checked before a proxy is used."""

        def get(name: str) -> str | None:
            return environ.get(name, "").strip() or environ.get(name.upper(), "").strip() or None

        every = get("all_proxy")
        http = environ.get("http_proxy", "").strip() or None if "REQUEST_METHOD" in environ else get("http_proxy")
        bypass = tuple(entry for entry in (get("no_proxy") or "").lower().replace(",", " ").split() if entry)
        return cls(http or every, get("https_proxy") or every, bypass)

    def find(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy for an address, or ``None``.

        Raises: KeyturnError ``service_unreachable`` if the environment names one that cannot be used.
        """
        text = self.https if scheme == "https" else self.http
        if text is None or any(_covers(entry, host.lower().rstrip("."), port) for entry in self.bypass):
            return None
        return _parse(text, scheme)


def _parse(text: str, scheme: str) -> Proxy:
    where = f"proxy: the {scheme} proxy of the environment"
    try:
        parts = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port = None, 0
    if not host:
        # `from None` and no text: what cannot be parsed may hold a password anywhere.
        raise KeyturnError("service_unreachable", f"{where} is not of the form http://HOST:PORT") from None
    if parts.scheme != "http":
        raise KeyturnError("service_unreachable", f"{where} is of the kind {parts.scheme}://; only http:// works")
    authorization = None
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    return Proxy(host, port, authorization)


def _covers(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, _, wanted = entry.rpartition(":")
    if name and wanted.isdigit() and (":" not in name or name.endswith("]")):
        if int(wanted) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        entry = entry.removeprefix("*").strip(".")
        return bool(entry) and (host == entry or host.endswith(f".{entry}"))
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
