"""Telephone activation of activation hosts: answers, the documents that they sign, and what is neither (part of ``make_vectors``)."""

# ruff: noqa: E501 (a table: a case may be as long as its line)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyturn.core import hardware, jws, productkey
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, Channel, ProductName, b64u
from keyturn.core.phone import digits, hosted, installation
from keyturn.core.phone.hosted import Head, HostConfirmation
from keyturn.core.phone.installation import InstallationID
from keyturn.edge.words import english

if TYPE_CHECKING:
    from make_vectors import Key, World

Case = dict[str, Any]
SERIAL = 2**27  # Of the host key.


def asked(world: World, product: ProductName, *, weak: bool = False, salt: str = "one") -> tuple[InstallationID, str, bytes]:
    """A host's installation ID, C and the salt."""
    from make_vectors import READING, seed

    k = productkey.derive(productkey.make(Channel.HOST, SERIAL, seed(f"secret {SERIAL}")[:10]), product)
    pairs = {} if weak else hardware.pairs(READING.anchors, product)
    vector, salted = hardware.vector(READING, product), seed(f"salt {salt}")[:16]
    made = installation.make(product, Channel.HOST, SERIAL, k, pairs, world.installation.kid, vector, salted)
    return made, hardware.commitment(vector, salted), salted


def signed(product: ProductName, to: InstallationID, head: Head, issuer: Key, start: int) -> HostConfirmation:
    document = jws.signing_input(Kind.HOST_PHONE, issuer.kid, hosted.payload(product, to, head, start))
    return HostConfirmation(head, issuer.sign(document))


def host_confirmations(world: World) -> list[Case]:
    from make_vectors import T0

    found = []
    for story, product, issuer, start, weak, head in (
        ("a host, on the second day of the issuing key", world.product, world.issuer, T0, False, Head(0, 1, 190, 5, 123_456_789)),
        ("the same host half a year on, by the next key", world.product, world.next, T0 + 75 * DAY, False, Head(0, 90, 190, 5, 123_456_789)),
        ("every number as great as it can be", world.product, world.issuer, T0, False, Head(7, 511, 1023, 1023, 2**28 - 1)),
        ("every number zero", world.product, world.issuer, T0, False, Head(0, 0, 0, 0, 0)),
        ("weak evidence: the ID names the host's key", world.product, world.issuer, T0, True, Head(1, 30, 190, 1, 7)),
        ("the test product", world.test_product, world.tester, T0, False, Head(0, 1, 190, 5, 123_456_789)),
    ):  # fmt: skip
        to, committed, salt = asked(world, product, weak=weak)
        code = signed(product, to, head, issuer, start)
        content = hosted.payload(product, to, head, start)
        document = jws.assemble(jws.signing_input(Kind.HOST_PHONE, issuer.kid, content), code.signature)
        found.append({
            "story": story, "product": str(product), "installation_id": f"{to.number:038x}", "weak": weak, "public": issuer.public.hex(),
            "nbf": start, **head._asdict(), "payload": content.decode(), "signature": code.signature.hex(), "number": f"{code.number:0143x}",
            "digits": code.text, "words": " ".join(code.words(english())), "host": world.installation.public.hex(), "c": committed,
            "salt": salt.hex(), "certificate": hosted.shown(document, world.installation.public, committed, salt),
        })  # fmt: skip
    return found


def refused_hosts(world: World) -> list[Case]:
    """Codes that do not answer the first vector's ID, and certificates that no computer believes: with the code that says so."""
    from make_vectors import T0, key

    to, committed, salt = asked(world, world.product)
    head = Head(0, 1, 190, 5, 123_456_789)
    good = signed(world.product, to, head, world.issuer, T0)
    groups, spelled = good.text.split(), list(good.words(english()))
    document = jws.assemble(jws.signing_input(Kind.HOST_PHONE, world.issuer.kid, hosted.payload(world.product, to, head, T0)), good.signature)
    other, _, _ = asked(world, world.product, salt="two")
    near = next(word for word in english().words if word != spelled[52])
    thief = key("a thief")

    def case(story: str, typed: str, error: str, groups: list[int] | None = None, words: list[int] | None = None, form: str = "host") -> Case:
        return {"story": story, "form": form, "typed": typed, "code": error, "groups": groups, "words": words}

    def shown(story: str, error: str, *, by: str = document, **changes: Any) -> Case:
        value = {"commitment": committed, "jwk": jws.jwk(world.installation.public), "salt": b64u(salt), **changes}
        return case(story, f"{by}~{b64u(jws.dumps(value))}", error, form="certificate")

    def changed(story: str, **changes: int) -> Case:
        return case(story, HostConfirmation(head._replace(**changes), good.signature).text, "code_foreign")

    wrong = str((int(groups[19][0]) + 1) % 10) + groups[19][1:]
    typ = hosted.payload(world.product, to, head, T0)
    return [
        case("a wrong digit in group 20", " ".join([*groups[:19], wrong, *groups[20:]]), "code_mistyped", [20]),
        case("groups 34 and 35 have changed places", " ".join([*groups[:33], groups[34], groups[33]]), "code_mistyped", [34, 35]),
        case("a group too few", " ".join(groups[:34]), "code_malformed"),
        case("a wrong word, the fifty-third", " ".join([*spelled[:52], near, spelled[53]]), "code_mistyped", None, [53]),
        case("a confirmation ID's 26 words", " ".join(spelled[:26]), "code_malformed"),
        case("more than 572 bits", " ".join(digits.spell(1 << 572, 35)), "code_mistyped", list(range(1, 36))),
        changed("another edition than was signed", edition=1), changed("another day", day=2), changed("longer leases", lease_days=191),
        changed("a lower threshold", threshold=1), changed("another client key", serial=123_456_788),
        case("for another installation ID of the same host", signed(world.product, other, head, world.issuer, T0).text, "code_foreign"),
        case("for another product", signed(world.test_product, to, head, world.issuer, T0).text, "code_foreign"),
        case("by a key that is none of the publisher's", signed(world.product, to, head, thief, T0).text, "code_foreign"),
        case("by the key of the test products", signed(world.product, to, head, world.tester, T0).text, "code_foreign"),
        case("the same content, signed as a host certificate of another kind", HostConfirmation(head, world.issuer.sign(jws.signing_input(Kind.HOST, world.issuer.kid, typ))).text, "code_foreign"),
        shown("beside another key", "document_foreign", jwk=jws.jwk(thief.public)),
        shown("beside another salt", "document_foreign", salt=b64u(bytes(16))),
        shown("beside other hardware", "document_foreign", commitment="A" * 43),
        shown("with something more beside it", "document_malformed", more=1),
        case("with nothing beside it", f"{document}~", "document_malformed", form="certificate"),
        case("with spaces beside it", f"{document}~{b64u(jws.dumps({'commitment': committed, 'jwk': jws.jwk(world.installation.public), 'salt': b64u(salt)}).replace(b',', b', '))}", "document_malformed", form="certificate"),
        shown("its key signs for itself", "trust_invalid", by=jws.sign(Kind.HOST_PHONE, jws.loads(typ), thief.public, thief.sign)),
        shown("the signature is another document's", "signature_invalid", by=jws.assemble(document.rpartition(".")[0].encode(), signed(world.product, other, head, world.issuer, T0).signature)),
    ]  # fmt: skip
