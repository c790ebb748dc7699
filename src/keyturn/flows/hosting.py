"""One exchange with an activation host: find one that may be believed, send once, read the answer.

Keeps: the order in which hosts are asked, and everything that is checked before a request leaves this computer.
Leaves to others: where names come from (``edge.discovery``), what becomes of an answer (``client.actions``).

- DNS proves nothing. A host counts if the publisher certified its key for this product, and that key vouches for the very
  TLS certificate of the connection.
- A host that does not answer, is no host, or is without permission is passed over, and said; the next one is asked.
- A host whose clock is more than a day from this one is refused, with both times.
- A host that takes a computer for new is shown the lease that it holds: hosts can be lost, and their ledgers with them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from keyturn.core import hosting, trust
from keyturn.core.documents import ProductFile
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.hosting import HostCertificate
from keyturn.core.model import DAY, rfc3339
from keyturn.core.policy import Policy
from keyturn.core.srv import Place
from keyturn.core.trust import Chain
from keyturn.edge.pinning import Pin
from keyturn.edge.transport import Recorder, Transport
from keyturn.flows.exchange import ANYTHING, CONTENT_TYPE, Say, outcome_of, proxied

DIRECTORY = "/.well-known/keyturn-host"
MAX_BODY = 16_384  # Bytes that a host reads (design: commands).
# What another host may answer otherwise: this one has trouble, or no room, or an older certificate.
_ELSEWHERE = ("service_unreachable", "service_unready", "answer_unexpected", "product_unknown", "key_unknown", "host_full")


class HostLine:
    """A line to the first of several activation hosts that may be believed, opened when first needed."""

    def __init__(
        self,
        product: ProductFile,
        chain: Chain,
        places: Callable[[], Sequence[Place]],
        environ: Mapping[str, str],
        *,
        now: Callable[[], int],
        say: Say = lambda _text: None,
        recorder: Recorder | None = None,
        policy: Policy = ANYTHING,
        chosen: Callable[[Place], None] = lambda _place: None,
        serial: int | None = None,
        held: Callable[[], tuple[str, str] | None] = lambda: None,
    ) -> None:
        """``places`` are asked in their order; ``chosen`` hears which one answered. Raises nothing yet.

        ``serial`` is the ``client`` key that it must serve; ``held`` gives the lease that is held, with its host's certificate.
        """
        self.product, self._chain, self._places = product, chain, places
        self._say, self._policy, self._recorder, self._now = say, policy, recorder, now
        self._environ = proxied(environ, policy)
        self._chosen, self._serial, self._held = chosen, serial, held
        self._open = contextlib.ExitStack()
        self._at: tuple[Place, Transport] | None = None
        self._left: Iterator[Place] | None = None  # Places that were not asked yet.
        self._failed: list[str] = []
        self._beside: dict[str, Any] = {}

    def __enter__(self) -> HostLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def reach(self) -> None:
        """Find a host. Raises: KeyturnError ``policy_forbids``, ``host_not_found`` with what each one said."""
        self._policy.demand("host")
        if self._at is not None:
            return
        if self._left is None:
            self._left = iter(self._places())
        for place in self._left:
            try:
                self._policy.demand_name(place.target, place.port)
                self._at = place, self._believed(place)
            except KeyturnError as error:
                self._pass_over(place, error)
                continue
            self._chosen(place)
            return
        failed, self._failed, self._left = self._failed, [], None  # Whoever asks again asks all of them again.
        raise KeyturnError("host_not_found", "; ".join(failed) or "neither a name nor DNS tells of one", data={"asked": failed})

    def send(self, document: str, *, ask: bool = False) -> dict[str, Any] | Refused:
        """Send one signed document to the host, and if that one cannot serve it now, to the next.

        Raises: KeyturnError as :meth:`reach` and ``Line.send``; ``usage`` to ask.
        """
        if ask:
            raise KeyturnError("usage", "an activation host is not asked what it would cost: it costs nothing")
        before: KeyturnError | Refused | None = None  # What the one before said, if that is the last word.
        while True:
            try:
                self.reach()
            except KeyturnError as error:
                if before is None or error.code != "host_not_found":
                    raise
                if isinstance(before, KeyturnError):
                    raise before from error
                return before
            assert self._at is not None
            place = self._at[0]
            self._say(f"Sending to the activation host {place} over TLS")
            outcome: dict[str, Any] | Refused | KeyturnError
            try:
                outcome = insisting(self._post, document, self._held())
            except KeyturnError as error:
                outcome = error
            if isinstance(outcome, dict):
                # An answer need not repeat what the directory said: the signer's certificate, and the bundles for that.
                return {**self._beside, **outcome}
            if outcome.code not in _ELSEWHERE:
                if isinstance(outcome, KeyturnError):
                    raise outcome
                return outcome
            before, self._at = outcome, None
            self._pass_over(place, outcome.as_error() if isinstance(outcome, Refused) else outcome)

    def _post(self, body: str) -> dict[str, Any] | Refused:
        assert self._at is not None
        place, transport = self._at
        return outcome_of(transport.post(f"https://{place}/v1/lease", body.encode("ascii"), CONTENT_TYPE), str(place))

    def _pass_over(self, place: Place, error: KeyturnError) -> None:
        self._failed.append(f"{place}: {error.detail} ({error.code})")
        self._say(f"Passed over {place}: {error.detail}")

    def revocations(self) -> dict[str, object]:
        """Raises: KeyturnError ``usage``: the list is the publisher's, and a lease ends by itself."""
        raise KeyturnError("usage", "a lease is renewed or ends by itself: there is nothing to validate")

    def _believed(self, place: Place) -> Transport:
        """Connect, and check who is there before anything is sent.

        1. The TLS certificate is noted, and is the same on every connection.
        2. The host's directory: trust bundles that continue the known chain, and a certificate for this product.
        3. The host's key vouches for the TLS certificate.
        4. Its clock and this one are within a day.

        Raises: KeyturnError ``service_unreachable``, ``host_untrusted``, or why its certificate does not verify.
        """
        # 1.
        pin = Pin(str(place))
        transport = self._open.enter_context(Transport(environ=self._environ, recorder=self._recorder, judge=pin.judge))
        directory = transport.get_json(f"https://{place}{DIRECTORY}")
        # 2.
        host = self._certified(directory)
        # 3.
        hosting.verify_endorsement(str(directory.get("endorsement")), host.public, pin.digest, self._now())
        # 4.
        there = directory.get("server_time")
        if type(there) is not int or abs(there - self._now()) > DAY:
            said = rfc3339(there) if type(there) is int else "nothing that is a time"
            raise KeyturnError("host_untrusted", f"its clock says {said}, this one {rfc3339(self._now())}")
        return transport

    def _certified(self, directory: Mapping[str, object]) -> HostCertificate:
        offered, tokens = directory.get("bundles"), directory.get("hosts")
        texts = offered.get(self._chain.thumbprint) if isinstance(offered, dict) else None
        if not isinstance(tokens, list) or not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise KeyturnError("host_untrusted", "it has no certificate of this publisher")
        chain = trust.longer(self._chain.texts, texts, self._chain.thumbprint)
        why = KeyturnError("host_untrusted", "it has no certificate for this product")
        for token in tokens:
            try:
                host = hosting.read_host(str(token), self.product, chain)
            except KeyturnError as error:
                if error.code != "document_foreign":
                    why = error
                continue
            if not host.issued_at - DAY <= self._now() <= host.expires_at:
                why = KeyturnError("host_untrusted", f"its certificate was in force until {rfc3339(host.expires_at)}")
            elif self._serial is not None and self._serial not in host.serves:
                why = KeyturnError("host_untrusted", "it is another organization's, or does not serve this product key yet")
            else:
                self._beside = {"host": str(token), "bundles": list(texts)}
                return host
        raise why


def insisting(
    post: Callable[[str], dict[str, Any] | Refused], document: str, held: tuple[str, str] | None
) -> dict[str, Any] | Refused:
    """Send a request; if the host waits for more computers, once more with the lease that is ``held`` and its host's certificate.

    They are sent only then: to a host that knows this computer they say nothing new. Raises: as ``post`` at first; a host that
    does not take them has said its word already.
    """
    outcome = post(document)
    if held is None or not isinstance(outcome, Refused) or outcome.code != "threshold_not_met":
        return outcome
    body = "\n".join((document, *held))
    if len(body) > MAX_BODY or not body.isascii():
        return outcome
    try:
        return post(body)
    except KeyturnError:
        return outcome
