"""Another host of the organization: found, believed, and told what this one saw.

Keeps: the check of who is there before anything is said. Leaves to others: what is said and how it is taken (``sightings``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence

from keyturn.core import hosting, leasing, srv, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.hosting import HostCertificate
from keyturn.core.srv import Place
from keyturn.edge import discovery
from keyturn.edge.pinning import Pin
from keyturn.edge.transport import Transport
from keyturn.edge.web import JSON
from keyturn.host import sightings
from keyturn.host.home import HostHome, Permit, Settings
from keyturn.host.sightings import Sighting

_NAMED = re.compile(r"(\[[^\]]+\]|[^:\s]+)(?::(\d{1,5}))?")


def places(settings: Settings, own: Place) -> list[Place]:
    """The other hosts: those that the settings name, and those that DNS names in the settings' domains."""
    found = [named(text) for text in settings.hosts]
    with contextlib.suppress(KeyturnError):  # Without a resolver there are still those that are named.
        found += [place for answer in discovery.look_up(settings.domains) for place in answer.places]
    mine = (own.target.lower(), own.port)
    return list({(p.target.lower(), p.port): p for p in found if (p.target.lower(), p.port) != mine}.values())


def named(text: str) -> Place:
    """NAME[:PORT] as a place. Raises: KeyturnError ``usage``."""
    found = _NAMED.fullmatch(text)
    if found is None:
        raise KeyturnError("usage", f"{text!r} is not NAME[:PORT]")
    return Place(found[1].strip("[]"), int(found[2] or srv.PORT))


def tell(
    home: HostHome, permit: Permit, place: Place, found: Sequence[Sighting], *, own: Place, environ: Mapping[str, str],
    clock: Callable[[], int],
) -> None:  # fmt: skip
    """Tell a host what this one saw.

    1. Its directory has a certificate for the same product and organization, in force now.
    2. Its key vouches for the TLS certificate of this very connection.
    3. Only then is anything said.

    Raises: KeyturnError ``host_untrusted``, ``service_unreachable``, ``answer_unexpected``, or what it answers.
    """
    pin = Pin(str(place))
    now = clock()
    with Transport(environ=environ, judge=pin.judge, connect_timeout=5, read_timeout=10) as transport:
        directory = transport.get_json(f"https://{place}/.well-known/keyturn-host")
        # 1.
        other = _certified(directory, permit, now)
        # 2.
        hosting.verify_endorsement(str(directory.get("endorsement")), other.public, pin.digest, now)
        # 3.
        for body in sightings.documents(home, permit, str(own), found, now):
            problem = transport.post(f"https://{place}/v1/sightings", body, JSON).problem()
            if problem is not None:
                raise problem


def _certified(directory: Mapping[str, object], permit: Permit, now: int) -> HostCertificate:
    offered, tokens = directory.get("bundles"), directory.get("hosts")
    texts = offered.get(permit.name.thumbprint) if isinstance(offered, dict) else None
    if permit.certificate is None or not isinstance(tokens, list) or not isinstance(texts, list):
        raise KeyturnError("host_untrusted", "it has no certificate of this publisher")
    chain = trust.longer(permit.opened.chain.texts, [str(text) for text in texts], permit.name.thumbprint)
    for token in tokens:
        try:
            other = hosting.read_host(str(token), permit.opened.product, chain)
        except KeyturnError:
            continue  # Another product's, or one that does not verify: as if it were not there.
        if leasing.same_organization(other, permit.certificate) and now <= other.expires_at:
            return other
    raise KeyturnError("host_untrusted", "it has no certificate for this product and organization")
