"""The client's HTTP: a plain probe, and signed documents over verified TLS, on the standard library alone.

Keeps: proxies, the trust store, the kept connection, and the translation of every fault into :class:`KeyturnError`.
Leaves to others: when to probe, what to send, whether to repeat it (``keyturn.flows.exchange``), what an answer means.

- Data travels over HTTPS only, TLS 1.2 or newer, and the certificate is always verified.
- ``ca_bundle`` replaces the trust store. Without it the product file's CA is *added* to the system's store, so that a
  publisher who moves to a public certificate strands nobody.
- ``judge`` takes the trust store's place for a peer whose certificate no authority signed: it is given the certificate of each
  connection before a byte is sent over it, and raises if that is not the one.
- Redirects are never followed. An answer has at most 1 MiB, says itself where it ends (a length, or chunks), and arrives
  whole within ``read_timeout``, however slowly its bytes drip.
- A fault names host, port and the step that failed: name, connect, proxy, tls or answer. Proxy credentials appear in no
  message, no ``repr`` and no record.
- A kept connection that the server has closed meanwhile is replaced once, and only if no byte of an answer had come.
  The same bytes are sent again then, so a request must be safe to repeat (ours are: the same request, the same answer).
"""

from __future__ import annotations

import email.utils
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Literal, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.edge.proxies import Proxies, Proxy
from keyturn.edge.wire import FAULTS, Connection, Target, open_socket, remaining, words

__all__ = ["ProbeResult", "Proxies", "Recorder", "Reply", "Transport", "probe", "trust_store"]

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
MAX_RETRY_AFTER = 30 * 86_400
USER_AGENT = "keyturn"  # A constant: no version, no system, nothing to tell one computer from another.
PROBLEM = "application/problem+json"

Recorder = Callable[[str, bytes, bytes], None]
Judge = Callable[[bytes], None]  # Of a TLS certificate in DER form.


class ProbeResult(NamedTuple):
    """What the probe found. ``status`` is ``None`` exactly if ``outcome`` is ``silent``."""

    outcome: Literal["go", "unready", "silent"]
    status: int | None
    detail: str


class Reply(NamedTuple):
    """A whole answer. Header names are in lower case; of a repeated header the last one counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> int | None:
        """Seconds to wait, from 0 to 30 days; a date is read against the answer's own ``Date``."""
        text = self.headers.get("retry-after", "")
        if text.isascii() and text.isdigit():
            return min(int(text[:9]), MAX_RETRY_AFTER)
        until = _http_date(text)
        if until is None:
            return None
        now = _http_date(self.headers.get("date", ""))
        return int(min(max(until - (time.time() if now is None else now), 0), MAX_RETRY_AFTER))

    def json(self) -> dict[str, object]:
        """Return the body as a JSON object. Raises: KeyturnError ``answer_unexpected``."""
        try:
            value = json.loads(self.body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise KeyturnError("answer_unexpected", f"The answer ({self.status}) is not JSON.") from error
        if not isinstance(value, dict):
            raise KeyturnError("answer_unexpected", f"The answer ({self.status}) is not a JSON object.")
        return value

    def problem(self) -> KeyturnError | None:
        """The error that a problem document carries; ``None`` for any other answer."""
        if self.media_type != PROBLEM:
            return None
        members = self.json()
        code = _line(members.get("code"), 40)
        detail = _line(members.get("detail"), 500) or _line(members.get("title"), 200)
        error = KeyturnError(
            code if code and code.isidentifier() else "answer_unexpected",
            detail or f"The service answered {self.status}.",
            remedy=_line(members.get("remedy"), 500),
            retry_after=self.retry_after,
        )
        error.reference = _line(members.get("reference"), 40)
        return error


class Transport:
    """HTTPS to a service, one kept connection at a time. Use it in a ``with`` block, from one thread."""

    def __init__(
        self,
        *,
        ca_pem: str | None = None,
        ca_bundle: str | None = None,
        environ: Mapping[str, str],
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        recorder: Recorder | None = None,
        judge: Judge | None = None,
    ) -> None:
        self._judge = judge
        self._ca_pem = ca_pem
        self._ca_bundle = ca_bundle
        self._proxies = Proxies.from_environment(environ)
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._recorder = recorder
        self._context: ssl.SSLContext | None = None
        self._kept: Connection | None = None

    def __enter__(self) -> Transport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connection, if there is one; the transport stays usable."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def get_json(self, url: str) -> dict[str, object]:
        """Return the JSON object at ``url``.

        Raises: KeyturnError ``service_unready`` if the service answers 429 or 500 and above, ``answer_unexpected`` for
            anything else that is not 200 with a JSON object, and those of :meth:`post`.
        """
        target = Target.parse(url, "https")
        reply = self._request("GET", target, b"", None)
        if reply.status == 429 or reply.status >= 500:
            raise target.fault("service_unready", "answer", f"it answered {reply.status}", reply.retry_after)
        if reply.status != 200:
            raise target.fault("answer_unexpected", "answer", f"it answered {reply.status}")
        return reply.json()

    def post(self, url: str, body: bytes, content_type: str) -> Reply:
        """Send ``body`` and return the service's answer: any 2xx, and every problem document whatever its status.

        Raises:
            KeyturnError: ``usage`` if ``url`` is not an ``https://`` address; ``service_unreachable`` if there is no
                answer, or only that of something in between (429, 500 and above, without a problem document);
                ``tls_untrusted`` if the certificate does not verify; ``answer_unexpected`` for a redirect, a body that
                is too large or not HTTP, or a 4xx without a problem document; ``file_malformed`` for an unreadable CA.
        """
        return self.call("POST", url, body, content_type)

    def call(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Any request of an interface that answers in JSON; a body is sent if ``content_type`` is given.

        ``headers`` are more names and values, without line breaks. Like :meth:`post`: on a kept connection that broke before an
        answer the request is sent again. Raises: as :meth:`post`.
        """
        target = Target.parse(url, "https")
        lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
        if any(not line.isascii() or not line.isprintable() for line in lines):
            raise KeyturnError("usage", "A value that is sent along holds signs that cannot stand there.")
        reply = self._request(method, target, body, content_type, lines)
        if 200 <= reply.status < 300 or reply.media_type == PROBLEM:
            return reply
        code = "service_unreachable" if reply.status >= 500 or reply.status == 429 else "answer_unexpected"
        raise target.fault(code, "answer", f"it answered {reply.status} without a problem document", reply.retry_after)

    def _request(
        self, method: str, target: Target, body: bytes, content_type: str | None, more: Sequence[str] = ()
    ) -> Reply:
        lines = [f"{method} {target.path} HTTP/1.1", f"Host: {target.authority}", f"User-Agent: {USER_AGENT}"]
        lines += [f"Accept: application/json, {PROBLEM}", "Accept-Encoding: identity"]
        if content_type is not None:
            lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
        request = "\r\n".join([*lines, *more, "", ""]).encode("latin-1") + body

        kept, self._kept = self._kept, None
        if kept is not None and kept.place == target.place and not kept.stale():
            try:
                return self._exchange(kept, target, method, request)
            except KeyturnError as error:
                if kept.received or not isinstance(error.__cause__, (ConnectionError, ssl.SSLError)):
                    raise
        elif kept is not None:
            kept.close()
        return self._exchange(self._connect(target), target, method, request)

    def _exchange(self, connection: Connection, target: Target, method: str, request: bytes) -> Reply:
        connection.begin(time.monotonic() + self._read_timeout)
        try:
            status, headers, body, reusable = connection.whole(method, request)
        except FAULTS as error:
            connection.close()
            raise target.answer_fault(error) from error
        finally:
            self._record(f"{method} {target.url}", bytes(connection.sent), bytes(connection.received))
        if reusable:
            self._kept = connection
        else:
            connection.close()
        if 300 <= status < 400:
            raise target.fault("answer_unexpected", "answer", f"it answered {status}, and redirects are not followed")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise target.fault("answer_unexpected", "answer", "it came in an encoding that was not asked for")
        return Reply(status, headers, body)

    def _connect(self, target: Target) -> Connection:
        if self._context is None:
            judged = self._judge is not None
            self._context = _judged_store() if judged else trust_store(self._ca_pem, self._ca_bundle)
        deadline = time.monotonic() + self._connect_timeout
        proxy = self._proxies.find(target.scheme, target.host, target.port)
        sock = open_socket(target, *(proxy[:2] if proxy else (target.host, target.port)), deadline)
        try:
            if proxy is not None:
                self._tunnel(sock, target, proxy, deadline)
            sock.settimeout(remaining(deadline))
            secured = self._context.wrap_socket(sock, server_hostname=target.host)
        except KeyturnError:
            raise
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message or "the certificate does not verify"
            raise target.fault("tls_untrusted", "tls", why) from error
        except ssl.SSLError as error:
            reason = (error.reason or "the connection was closed").replace("_", " ").lower()
            raise target.fault("service_unreachable", "tls", f"no agreement on TLS 1.2 or newer ({reason})") from error
        except (OSError, ValueError) as error:
            raise target.fault("service_unreachable", "tls", words(error)) from error
        finally:
            sock.close()  # Of a success nothing is left here: wrap_socket() took the descriptor over.
        if self._judge is not None:
            try:
                self._judge(secured.getpeercert(binary_form=True) or b"")
            except BaseException:
                secured.close()
                raise
        return Connection(secured, target.place)

    def _tunnel(self, sock: socket.socket, target: Target, proxy: Proxy, deadline: float) -> None:
        head = f"CONNECT {target.place} HTTP/1.1\r\nHost: {target.place}\r\nUser-Agent: {USER_AGENT}\r\n"
        connection = Connection(sock, target.place)
        connection.begin(deadline)
        try:
            status = connection.head("CONNECT", _with_credentials(head, proxy)).status
        except FAULTS as error:
            text = f"no answer from the proxy {proxy.place}: {words(error)}"
            raise target.fault("service_unreachable", "proxy", text) from error
        finally:
            what = f"CONNECT {target.place} through {proxy.place}"
            self._record(what, _without_credentials(head, proxy), bytes(connection.received))
        if not 200 <= status < 300:
            hint = " (it wants credentials)" if status == 407 else ""
            raise target.fault("service_unreachable", "proxy", f"the proxy {proxy.place} answered {status}{hint}")

    def _record(self, what: str, sent: bytes, received: bytes) -> None:
        if self._recorder is not None:
            self._recorder(what, sent, received)


def probe(
    url: str, *, timeout: float = 5.0, proxies: Proxies | Mapping[str, str], recorder: Recorder | None = None
) -> ProbeResult:
    """Ask whether the service is there, with a plain GET that identifies nobody; never raises.

    Any status under 500 is ``go`` (redirects too: they are not followed), 500 and above is ``unready``, no answer in
    HTTP is ``silent``, with the failed step in ``detail``. ``timeout``, in seconds, covers everything. ``proxies`` may
    be an environment. ``recorder`` gets what was sent and received.
    """
    found = proxies if isinstance(proxies, Proxies) else Proxies.from_environment(proxies)
    deadline = time.monotonic() + timeout
    try:
        target = Target.parse(url, "http")
        proxy = found.find(target.scheme, target.host, target.port)
        sock = open_socket(target, *(proxy[:2] if proxy else (target.host, target.port)), deadline)
    except KeyturnError as error:
        return ProbeResult("silent", None, error.detail)
    place = target.url if proxy else target.path  # RFC 9112, section 3.2.2: a proxy is told the whole address.
    head = f"GET {place} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n"
    connection = Connection(sock, target.place)
    connection.begin(deadline)
    try:
        status = connection.head("GET", _with_credentials(head, proxy)).status
    except FAULTS as error:
        return ProbeResult("silent", None, target.answer_fault(error).detail)
    finally:
        connection.close()
        if recorder is not None:
            recorder(f"GET {target.url}", _without_credentials(head, proxy), bytes(connection.received))
    through = f" through the proxy {proxy.place}" if proxy else ""
    return ProbeResult("go" if status < 500 else "unready", status, f"{target.place} answered {status}{through}")


def _judged_store() -> ssl.SSLContext:
    """TLS whose certificate is judged by the caller, and by nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def trust_store(ca_pem: str | None, ca_bundle: str | None) -> ssl.SSLContext:
    """Return what certificates are verified against. Raises: KeyturnError ``file_malformed``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_bundle is not None and os.path.isdir(ca_bundle):
            context.load_verify_locations(capath=ca_bundle)
        elif ca_bundle is not None:
            context.load_verify_locations(cafile=ca_bundle)
        else:
            context.load_default_certs()
            if ca_pem is not None:
                context.load_verify_locations(cadata=ca_pem)
    except (OSError, ValueError) as error:
        what = f"The CA bundle {ca_bundle}" if ca_bundle is not None else "The product file's TLS authority"
        raise KeyturnError("file_malformed", f"{what} holds no readable certificates ({words(error)}).") from error
    return context


def _with_credentials(head: str, proxy: Proxy | None) -> bytes:
    secret = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy and proxy.authorization else ""
    return f"{head}{secret}\r\n".encode("latin-1")


def _without_credentials(head: str, proxy: Proxy | None) -> bytes:
    secret = "Proxy-Authorization: (hidden)\r\n" if proxy and proxy.authorization else ""
    return f"{head}{secret}\r\n".encode("latin-1")


def _http_date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a JSON key is repeated")
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _line(value: object, limit: int) -> str | None:
    """Text of a peer, fit for a terminal: one line, no control characters, bounded."""
    if not isinstance(value, str):
        return None
    return "".join(sign if sign.isprintable() else " " for sign in value[:limit]).strip() or None
