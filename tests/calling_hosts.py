"""A host that is activated by telephone, and whoever answers it, in one process."""

from __future__ import annotations

from typing import Any

from hosts import Organization
from keyturn.core.errors import Refused
from keyturn.core.hosting import HostCertificate
from keyturn.core.phone import installation
from keyturn.core.phone.hosted import HostConfirmation
from keyturn.core.phone.installation import InstallationID
from keyturn.edge import sodium
from keyturn.edge.words import english
from keyturn.host import enrolling, home, telephone
from keyturn.host.home import HostHome, Permit
from keyturn.host.leasing import LeasingHost
from keyturn.service import catalog
from keyturn.service import telephone as desk
from keyturn.service.telephone import Answer
from keyturn.testing.computers import synthetic
from keyturn.testing.world import Chance, DirectLine

THIEF = sodium.signer(bytes(range(32)))


class Caller:
    """A server with an installed host key, and somebody with a telephone beside it."""

    def __init__(self, organization: Organization, number: int, *, pc: int | None = None, product: bytes | None = None) -> None:
        world = organization.world
        self.organization, self.number = organization, number
        self.folder = world.folder / f"calls-{number}-{organization.name}"
        self.machine = organization.machine(synthetic(950 + (number if pc is None else pc)), Chance(f"{self.folder}"))
        home.initialise(self.folder, f"22222222-0000-4000-8000-{number:012d}", world.clock())
        home.add_product(self.folder, product or world.product)
        enrolling.install_key(self.permit, organization.host_key["key"])

    @property
    def home(self) -> HostHome:
        """As the next start of the program finds it."""
        return HostHome(self.folder, {})

    @property
    def permit(self) -> Permit:
        (permit,) = self.home.permits.values()
        return permit

    def asks(self) -> InstallationID:
        """What is read out: shown here, understood there."""
        return installation.read(telephone.make_id(self.home, self.permit, self.machine).text)

    def confirm(self, text: str) -> HostCertificate:
        found = telephone.confirm(self.home, self.permit, self.machine, text).certificate
        assert found is not None
        return found

    def activate(self, *, in_words: bool = False) -> Answer:
        found = said(self.organization, self.asks())
        self.confirm(" ".join(found.code.words(english())) if in_words else found.code.text)
        return found

    def line(self) -> DirectLine:
        return DirectLine(self.organization.world.publisher.service, self.permit.opened.product, None)

    def online(self) -> Permit:
        done = enrolling.exchange(self.home, self.permit, self.machine, self.line().send)
        assert not isinstance(done, Refused), done
        return done

    def running(self) -> LeasingHost:
        world = self.organization.world
        opened = self.home
        return LeasingHost(opened, opened.open_database(), clock=world.clock, chance=Chance(f"run {self.folder}"))


def ask(organization: Organization, given: InstallationID, **options: Any) -> Answer | Refused:
    service = organization.world.publisher.service
    return desk.answer(service, given, **{"actor": "staff", "alone": False, **options})


def said(organization: Organization, given: InstallationID, **options: Any) -> Answer:
    found = ask(organization, given, **options)
    assert isinstance(found, Answer), found
    return found


def code_of(found: Answer) -> HostConfirmation:
    assert isinstance(found.code, HostConfirmation)
    return found.code


def no(organization: Organization, given: InstallationID, **options: Any) -> str:
    found = ask(organization, given, **options)
    assert isinstance(found, Refused), found
    return found.code


def used(organization: Organization) -> int:
    serial = organization.host_key["serial"]
    return int(organization.world.publisher.database.read(lambda db: catalog.key(db, serial))["used"])


def change(organization: Organization, key: dict[str, Any], **changes: Any) -> None:
    publisher = organization.world.publisher
    publisher.database.write_now(
        lambda db: catalog.set_key(db, key["serial"], changes, publisher.service.ids, publisher.clock(), "staff")
    )
