"""One exchange with the publisher's service: probe, send once, and read the answer.

Keeps: the order in which a computer talks, for activation, return and relay alike.
Leaves to others: what is sent and whether somebody agreed to it (``client``), sockets and TLS (``edge.transport``).

- The probe carries nothing. 500 and above: nothing is sent. Silence: HTTPS is tried, and the silence is explained.
- A problem document is the service's own "no" and becomes :class:`Refused`; anything else unexpected raises.
- The organization's policy is asked before each step: whether this way is open, which names may be contacted, through which
  proxy, and what the probe is for.
- A link that is paid by use, or would have to be dialled, is asked for first, of the system and instead of the probe: nothing
  is sent and nothing is opened unless the policy allows it.
- The same bytes may be sent again: the service answers the same request with the same answer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keyturn.core import schedule
from keyturn.core.documents import ProductFile
from keyturn.core.errors import EXIT_FORBIDDEN, EXIT_REFUSED, KeyturnError, Refused
from keyturn.core.policy import Policy
from keyturn.edge.transport import Recorder, Reply, Transport, probe
from keyturn.edge.wire import Target

CONTENT_TYPE = "application/jose"
BATCH = 250  # Documents that one answer holds within the bounds of the transport.
Say = Callable[[str], None]
ANYTHING = Policy()


class Batch(NamedTuple):
    """What came back for many documents: an answer or a "no" for each, and once for all of them what travels beside.

    ``products`` are product files by name.
    """

    outcomes: list[dict[str, Any] | Refused]
    bundles: list[str]
    products: dict[str, str]


class Line:
    """A line to the service of one product, opened when first needed and kept for several documents."""

    def __init__(
        self,
        product: ProductFile,
        environ: Mapping[str, str],
        *,
        ca_bundle: str | None = None,
        say: Say = lambda _text: None,
        recorder: Recorder | None = None,
        policy: Policy = ANYTHING,
    ) -> None:
        self.product = product
        self._say = say
        self._policy = policy
        self._environ = environ = proxied(environ, policy)
        self._recorder = recorder
        self._transport = Transport(ca_pem=product.ca, ca_bundle=ca_bundle, environ=environ, recorder=recorder)
        self._probed = False
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()
        self._opened.close()

    def probe(self) -> None:
        """Ask once, over plain HTTP and without saying who asks, whether the service is there.

        Raises: KeyturnError ``service_unready`` if it says it is not ready, ``policy_forbids``, ``link_down``, ``link_metered``,
        and ``service_unreachable`` for silence where the policy wants an answer.
        """
        self._policy.demand("online")
        self._demand_name(self.product.service_url, "https")
        if self._probed or not self._link():
            return
        if self.product.probe_url is None or self._policy.probe == "none":
            return
        self._demand_name(self.product.probe_url, "http")
        self._say(f"Probing {self.product.probe_url} (carries nothing)")
        result = probe(self.product.probe_url, proxies=self._environ, recorder=self._recorder)
        if result.outcome == "unready":
            raise KeyturnError("service_unready", f"{result.detail}; nothing was sent")
        if result.outcome == "silent":
            if self._policy.probe == "required":
                why = f"the probe was not answered ({result.detail}), and the organization's policy wants an answer"
                raise KeyturnError(
                    "service_unreachable", f"{why} ({self._policy.line('probe')})", data={"step": "probe"}
                )
            self._say(f"The probe was not answered ({result.detail}); trying HTTPS all the same")
        self._probed = True

    def reach(self) -> None:
        """Make sure that the service answers, before something is signed that cannot be taken back.

        Raises: KeyturnError as :meth:`send`.
        """
        self.probe()
        self._transport.get_json(f"{self.product.service_url}/.well-known/keyturn")

    def revocations(self) -> dict[str, object]:
        """Ask for the product's revocation list; nothing about this computer is said. Raises: KeyturnError as :meth:`send`."""
        self.probe()
        return self._transport.get_json(f"{self.product.service_url}/v1/products/{self.product.name.slug}/revocations")

    def send(self, document: str, *, ask: bool = False, by_file: bool = False) -> dict[str, Any] | Refused:
        """Send one signed document and return the service's answer or its "no". ``by_file``: it was carried here.

        Raises: KeyturnError ``service_unready``, ``service_unreachable``, ``tls_untrusted``, ``answer_unexpected``,
        or the error the service reports about the document.
        """
        self.probe()
        self._say(f"Sending to {self.product.service_url} over TLS")
        address = f"{self.product.service_url}/v1/{'ask' if ask else 'exchange'}{'?by=file' if by_file else ''}"
        return outcome_of(
            self._transport.post(address, document.encode("ascii"), CONTENT_TYPE), self.product.service_url
        )

    def send_all(self, documents: Sequence[str], *, by_file: bool = False) -> Batch:
        """Send up to ``BATCH`` signed documents at once. Raises: KeyturnError as :meth:`send`."""
        self.probe()
        self._say(f"Sending {len(documents)} requests to {self.product.service_url} over TLS")
        address = f"{self.product.service_url}/v1/batch{'?by=file' if by_file else ''}"
        body = json.dumps({"documents": list(documents)}).encode("ascii")
        said = outcome_of(self._transport.post(address, body, "application/json"), self.product.service_url)
        if isinstance(said, Refused):
            raise said.as_error()
        answers = said.get("answers")
        if (
            not isinstance(answers, list)
            or len(answers) != len(documents)
            or not all(isinstance(one, dict) for one in answers)
        ):
            raise KeyturnError("answer_unexpected", f"{self.product.service_url} did not answer each request")
        bundles, products = said.get("bundles"), said.get("products")
        return Batch(
            [_one_of_many(one) for one in answers],
            [text for text in bundles if isinstance(text, str)] if isinstance(bundles, list) else [],
            {str(name): str(text) for name, text in products.items()} if isinstance(products, dict) else {},
        )

    def inquire(self, document: str) -> dict[str, Any] | Refused:
        """Ask how a product key stands (``core.inquiry``). Raises: KeyturnError as :meth:`send`."""
        self.probe()
        address = f"{self.product.service_url}/v1/inquire"
        return outcome_of(
            self._transport.post(address, document.encode("ascii"), CONTENT_TYPE), self.product.service_url
        )

    def _link(self) -> bool:
        """Whether the link is one on which the probe is asked: not one that costs, on which the system was asked instead.

        What the policy allows to be dialled is dialled, once, until the line is closed. Raises: KeyturnError ``link_down``,
        ``link_metered``.
        """
        if Target.parse(self.product.service_url, "https").host in _LOOPBACK:
            return True
        from keyturn.edge import links

        kind, words = links.look(self._environ)
        code = schedule.link_refusal(kind, metered=self._policy.metered, dial=self._policy.dial)
        if code is not None:
            line = self._policy.line("metered" if code == "link_metered" else "dial")
            raise KeyturnError(code, f"{words}{f' ({line})' if line else ''}; nothing was opened and nothing was sent")
        self._probed = kind in ("metered", "on_demand")
        if kind == "on_demand":
            self._say("Opening a connection, as the organization's policy allows")
            self._opened.enter_context(links.dial(self._environ))
        return not self._probed

    def _demand_name(self, url: str, scheme: str) -> None:
        target = Target.parse(url, scheme)
        self._policy.demand_name(target.host, target.port)


def outcome_of(reply: Reply, where: str) -> dict[str, Any] | Refused:
    """What an answer to a document says: the answer itself, or a "no".

    Raises: KeyturnError ``service_unready``, ``answer_unexpected``, or the error that is reported about the document.
    """
    problem = reply.problem()
    if problem is not None:
        if problem.exit in (EXIT_REFUSED, EXIT_FORBIDDEN):
            return Refused(problem.code, problem.detail, problem.retry_after, problem.reference)
        if reply.status == 429 or reply.status >= 500:
            why = f"{where} answers {problem.code}: {problem.detail}"
            raise KeyturnError("service_unready", why, retry_after=problem.retry_after)
        raise problem
    if reply.status != 200 or reply.media_type != "application/json":
        raise KeyturnError("answer_unexpected", f"{where} answered {reply.status} {reply.media_type}")
    return reply.json()


def _one_of_many(answer: dict[str, Any]) -> dict[str, Any] | Refused:
    refused = answer.get("refused")
    if not isinstance(refused, dict):
        return answer
    code, why, retry, reference = (refused.get(name) for name in ("code", "detail", "retry_after", "reference"))
    return Refused(
        str(code)[:60],
        str(why)[:500],
        retry if type(retry) is int else None,
        reference if isinstance(reference, str) else None,
    )


def proxied(environ: Mapping[str, str], policy: Policy) -> Mapping[str, str]:
    """The environment with the proxy that the policy names; nothing passes it by then."""
    if policy.proxy is None:
        return environ
    kept = {name: value for name, value in environ.items() if name.lower() not in _PROXY_NAMES}
    return {**kept, "http_proxy": policy.proxy, "https_proxy": policy.proxy}


_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
