"""An agent's line to its organization's fleet manager.

Keeps: what is checked before anything is said, and the two things that are said: enrollment and check-in.
Leaves to others: what they contain (``core.fleet``), what follows (``client``).

- The manager is known by its key, which the enrollment token names. That key vouches for the very TLS certificate of the
  connection; DNS and authorities prove nothing here.
- The organization's policy is asked first: the way may be forbidden, or the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keyturn.core import hosting, jws
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.policy import Policy
from keyturn.edge.pinning import Pin
from keyturn.edge.transport import Recorder, Transport
from keyturn.edge.wire import Target
from keyturn.flows.exchange import ANYTHING, CONTENT_TYPE, outcome_of, proxied

DIRECTORY = "/.well-known/keyturn-fleet"


class FleetLine:
    """A line to the manager at ``url`` whose key has the thumbprint ``key``; opened when first needed."""

    def __init__(
        self,
        url: str,
        key: str,
        environ: Mapping[str, str],
        *,
        now: Callable[[], int],
        policy: Policy = ANYTHING,
        recorder: Recorder | None = None,
    ) -> None:
        self._url, self._key, self._now, self._policy = url.rstrip("/"), key, now, policy
        self._pin = Pin(self._url)
        self._transport = Transport(environ=proxied(environ, policy), judge=self._pin.judge, recorder=recorder)
        self._believed = False

    def __enter__(self) -> FleetLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    def reach(self) -> None:
        """Connect, and check who is there.

        1. The policy allows this way and this name.
        2. The manager's key is the one of the enrollment token.
        3. It vouches for the TLS certificate of this connection.

        Raises: KeyturnError ``policy_forbids``, ``service_unreachable``, ``fleet_untrusted``, ``signature_invalid``.
        """
        if self._believed:
            return
        # 1.
        self._policy.demand("fleet")
        target = Target.parse(self._url, "https")
        self._policy.demand_name(target.host, target.port)
        # 2.
        directory = self._transport.get_json(self._url + DIRECTORY)
        try:
            public = jws.public_from_jwk(directory.get("jwk"))
            # 3.
            hosting.verify_endorsement(str(directory.get("endorsement")), public, self._pin.digest, self._now())
        except KeyturnError as error:
            raise KeyturnError("fleet_untrusted", f"{self._url}: {error.detail}") from error
        if jws.thumbprint(public) != self._key:
            raise KeyturnError("fleet_untrusted", f"{self._url} has another key than the enrollment token names")
        self._believed = True

    def enroll(self, document: str) -> dict[str, Any]:
        """Ask to join. Raises: KeyturnError as :meth:`reach`, ``token_invalid``."""
        return self._post("/v1/enroll", document)

    def check_in(self, document: str) -> dict[str, Any]:
        """Say how this computer is, and hear what is to be done. Raises: KeyturnError as :meth:`reach`, ``computer_unknown``."""
        return self._post("/v1/check-in", document)

    def _post(self, path: str, document: str) -> dict[str, Any]:
        self.reach()
        outcome = outcome_of(self._transport.post(self._url + path, document.encode("ascii"), CONTENT_TYPE), self._url)
        if isinstance(outcome, Refused):
            raise outcome.as_error()
        return outcome
