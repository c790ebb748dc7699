"""A product's line to its service as a client uses it: within the policy, with every byte kept and every step told.

Keeps: what surrounds an exchange (``flows.exchange``) for the command, the agent and an application alike: the
organization's hours, the record of what was sent (``disclose --sent``), and the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keyturn.client import accepting, actions, hosts
from keyturn.client.loading import Loaded, load
from keyturn.client.machine import Machine
from keyturn.client.policies import minute_of_day, policy_of
from keyturn.client.telling import Teller
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import Channel, rfc3339
from keyturn.edge.vault import Shelf

if TYPE_CHECKING:
    from keyturn.flows.exchange import Line
    from keyturn.flows.hosting import HostLine

Connect = Callable[..., "Line"]


class Talk:
    """One conversation about one product. The network is imported when it begins."""

    def __init__(
        self,
        shelf: Shelf,
        loaded: Loaded,
        machine: Machine,
        *,
        ca_bundle: str | None = None,
        say: Callable[[str], None] = lambda _text: None,
        program: str = "keyturn",
        connect: Connect | None = None,
        host: str | None = None,
    ) -> None:
        """A ``client`` key talks to an activation host: ``host`` (NAME[:PORT]), or one that is found.

        Raises: KeyturnError ``policy_malformed``.
        """

        def keep(what: str, sent: bytes, received: bytes) -> None:
            shelf.keep_sent(what, sent, received, loaded.now)

        self._shelf, self._loaded, self._machine = shelf, loaded, machine
        self._teller = Teller(shelf.vault, machine, program)
        self._policy = policy_of(shelf.vault.home, machine)
        self._way = "host" if host is not None or asks_a_host(loaded) else "online"
        product = loaded.opened.product
        if self._way == "host":
            from keyturn.flows.hosting import HostLine

            self._line: Line | HostLine = HostLine(
                product, loaded.opened.chain,
                lambda: hosts.places(shelf, machine.chance, say, host, self._policy.domains), machine.environ,
                now=lambda: machine.now(product), say=say, recorder=keep, policy=self._policy,
                chosen=lambda place: shelf.keep_host(str(place)), serial=None if loaded.key is None else loaded.key.serial,
                held=lambda: held_lease(shelf),
            )  # fmt: skip
            return
        if connect is None:
            from keyturn.flows.exchange import Line

            connect = Line
        self._line = connect(product, machine.environ, ca_bundle=ca_bundle, say=say, recorder=keep, policy=self._policy)

    def __enter__(self) -> Talk:
        self._line.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self._line.__exit__(*args)

    def reach(self) -> None:
        """As ``Line.reach``. Raises: KeyturnError as :meth:`send`."""
        with self._told(self._teller.correlation()):
            self._line.reach()

    def send(self, document: str, *, ask: bool = False) -> dict[str, Any] | Refused:
        """Send one document. Raises: KeyturnError as ``Line.send`` does, and ``policy_forbids``."""
        correlation = self._teller.correlation()
        product = self._loaded.name
        with self._told(correlation):
            service = self._loaded.opened.product.service_url if self._way == "online" else "an activation host"
            self._teller.tell("request_sent", product=product, correlation=correlation, to=service)
            outcome = self._line.send(document, ask=ask)
        if isinstance(outcome, Refused):
            self._teller.tell_error("request_refused", outcome.as_error(), product=product, correlation=correlation)
        else:
            self._teller.tell("answer_received", product=product, correlation=correlation)
        return outcome

    def activate(self, token: str) -> Loaded | Refused:
        """Activate with the request ``token`` (``actions.activate``), and tell what came of it. Raises as that does."""
        outcome = actions.activate(self._shelf, self._machine, token, self.send)
        if not isinstance(outcome, Refused) and outcome.certificate is not None:
            held = None if self._loaded.certificate is None else self._loaded.certificate.activation
            name = "renewed" if held == outcome.certificate.activation else "activated"
            self._teller.tell(
                name, product=outcome.name, activation=outcome.certificate.activation,
                valid_until=rfc3339(outcome.standing.valid_until),
            )  # fmt: skip
        return outcome

    def validate(self) -> Loaded:
        """Fetch the product's revocation list and judge the copy by it. Raises: KeyturnError as :meth:`send`, and
        ``answer_unexpected``, ``document_expired``, ``signature_invalid``, ``trust_invalid`` for a list that does not hold.
        """
        product, correlation = self._loaded.name, self._teller.correlation()
        with self._told(correlation):
            service = self._loaded.opened.product.service_url
            self._teller.tell("request_sent", product=product, correlation=correlation, to=service)
            answer = self._line.revocations()
            token, bundles = answer.get("revocations"), answer.get("bundles")
            if not isinstance(token, str) or not isinstance(bundles, list) or not all(isinstance(b, str) for b in bundles):
                raise KeyturnError("answer_unexpected", "the answer holds no revocation list")
            self._teller.tell("answer_received", product=product, correlation=correlation)
            outcome = accepting.accept_revocations(self._shelf, self._machine, token, bundles)
        if outcome.withdrawn is None:
            number = None if outcome.revocations is None else outcome.revocations.number
            self._teller.tell("validated", product=product, number=number)
        return outcome

    def give_back(self) -> Refused | None:
        """Reach the service, sign the release, send it, and delete the certificate (``actions``); the result is its "no".

        A service that cannot be reached changes nothing. If the answer is lost after sending, the release stays and the
        same again sends it once more. An installation that a fleet manager let continue an activation asks the
        service first: it has not
        heard of it yet. Raises: KeyturnError as :meth:`send`, ``release_unknown``, ``permission_denied``.
        """
        self.reach()
        held = self._shelf.held()
        if held is not None and held.rebind is not None and self._shelf.release() is None:
            told = self.activate(actions.make_request(self._shelf, self._machine)[0])
            if isinstance(told, Refused):
                return told
        outcome = self.send(actions.make_release(self._shelf, self._machine))
        refused = actions.finish_release(self._shelf, outcome)
        if refused is None:
            self._teller.tell("released", product=self._loaded.name)
            self._teller.tell_state(load(self._shelf, self._machine))
        return refused

    @contextmanager
    def _told(self, correlation: str) -> Iterator[None]:
        """Hold to the policy's hours, and tell what went wrong."""
        product = self._loaded.name
        try:
            self._policy.demand(self._way)
            self._policy.demand_hours(minute_of_day(self._machine.clock()))
            yield
        except KeyturnError as error:
            name = _EVENTS.get(error.code, "request_failed")
            self._teller.tell_error(name, error, product=product, correlation=correlation)
            raise


_EVENTS = {"policy_forbids": "policy_forbade", "link_down": "link_waiting", "link_metered": "link_waiting"}


def held_lease(shelf: Shelf) -> tuple[str, str] | None:
    """The lease that is stored, and the certificate of the host that gave it."""
    held = shelf.held()
    return None if held is None or held.host is None else (held.certificate, held.host)


def asks_a_host(loaded: Loaded) -> bool:
    """Whether a product is activated by an activation host: its key is of the channel ``client``."""
    return loaded.key is not None and loaded.key.channel == Channel.CLIENT.value
