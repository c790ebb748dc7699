"""Ceremonies for tests: roots made from their names, chains of bundles, drafts, and what a thief of a root would make.

``python tests/ceremonies.py --update`` writes the transcript in docs/root-ceremony.md anew, as the program makes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keyturn.core import jws, trust
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, ProductName
from keyturn.core.trust import Chain, IssuingKey
from keyturn.edge.keystore import Signer
from keyturn.service import ceremony, rotation
from keyturn.service import home as homes
from keyturn.service.ceremony import Draft
from keyturn.service.transcript import transcript
from make_vectors import Key, key
from programs import Publisher, Result, run

T0 = 1_800_000_000  # 2027-01-15
PAGE = Path(__file__).parents[1] / "docs" / "root-ceremony.md"
MARK = "<!-- transcript: python tests/ceremonies.py --update -->\n```text\n"


def roots(names: str) -> list[Key]:
    """A root for each letter."""
    return [key(f"ceremony root {name}") for name in names]


def issuing(name: str, role: str, begin: int, life: int = homes.PERIOD) -> IssuingKey:
    made = key(f"ceremony {role} {name}")
    return IssuingKey(made.kid, made.public, role, begin, begin + life)


def keys(count: int = 10, begin: int = T0 - DAY) -> list[IssuingKey]:
    """Issuing keys of both roles, as ``init`` dates them."""
    return [issuing(str(place), role, begin + place * homes.STEP) for role in ceremony.ROLES for place in range(count)]


def bundle(
    chain: Chain | None, held: Sequence[Key], threshold: int, named: Sequence[IssuingKey], *, signers: Sequence[Key],
    at: int = T0, **changes: Any,
) -> str:  # fmt: skip
    """A bundle of any content, truly signed by whomever."""
    newest = None if chain is None else chain.newest
    claims = trust.bundle_claims(
        publisher="Example Software", number=1 if newest is None else newest.number + 1,
        previous=None if newest is None else newest.digest, issued_at=at, threshold=threshold,
        roots=[root.public for root in held], keys=named,
    )  # fmt: skip
    return trust.sign_bundle({**claims, **changes}, [root.pair for root in signers])


def begun(count: int = 10) -> Chain:
    """Bundle 1: the one root ``a``."""
    text = bundle(None, roots("a"), 1, keys(count), signers=roots("a"))
    return trust.verify_chain([text], trust.pin_of(text))


def signed(draft: Draft, names: str) -> Draft:
    for root in roots(names):
        draft = ceremony.sign(draft, root.public, root.sign)
    return draft


def next_of(chain: Chain, names: str, threshold: int, signers: str, *, now: int = T0, **more: Any) -> Chain:
    """The chain after a ceremony: roots ``names`` from then on, signed by ``signers``."""
    publics = [root.public for root in roots(names)]
    draft = ceremony.draft(chain, now=now, roots=publics, threshold=threshold, **more)
    text = ceremony.finished(signed(draft, signers))
    return trust.verify_chain([*chain.texts, text], chain.thumbprint)


def hand_over() -> Draft:
    """The draft on the page: from the root ``a`` to three of five, with issuing keys for two more periods."""
    chain, now = begun(), T0 + 90 * DAY
    made = [
        found for role in ceremony.ROLES
        for found in rotation.dated(chain, role, [key(f"page {role} {n}").public for n in range(2)], now)
    ]  # fmt: skip
    publics = [root.public for root in roots("bcdef")]
    return ceremony.draft(chain, now=now, roots=publics, threshold=3, add_keys=made)


def on_page() -> str:
    """The transcript as the second of the new roots sees it: the old root and one new one have signed."""
    draft = signed(hand_over(), "ab")
    return transcript(ceremony.check(draft), ceremony.missing(draft), mine=roots("c")[0].kid)


def forged(product: Mapping[str, Any], texts: Sequence[str], signer: Signer | Key) -> bytes:
    """A product file that says what ``product`` says, under the bundles ``texts``, signed by a key that they name."""
    claims = jws.loads(jws.payload_of(str(product["product"])))
    newest = {"number": len(texts), "digest": trust.pin_of(texts[-1])}
    claims |= {"bundle_floor": newest, "version": claims["version"] + 1, "title": "Forged"}
    document = jws.sign(Kind.PRODUCT, claims, signer.public, signer.sign)
    return json.dumps({"keyturn": "product", "v": 1, "bundles": list(texts), "product": document}).encode()


def fork(
    texts: Sequence[str], signers: Sequence[Signer | Key], *, test: bool = True, threshold: int = 1
) -> tuple[list[str], Key]:
    """Another bundle after ``texts``, by these roots: it names the thief's roots and issuing key. The chain, and that key."""
    chain = trust.verify_chain(texts, trust.pin_of(texts[0]))
    thief = key("ceremony thief")
    role = trust.role_for(test)
    now = chain.newest.issued_at
    named = [IssuingKey(thief.kid, thief.public, role, now - DAY, now + 90 * DAY)]
    claims = trust.bundle_claims(
        publisher=chain.newest.publisher, number=chain.newest.number + 1, previous=chain.newest.digest, issued_at=now,
        threshold=threshold, roots=[signer.public for signer in signers], keys=named,
    )  # fmt: skip
    text = trust.sign_bundle(claims, [(signer.public, signer.sign) for signer in signers])
    return [*texts, text], thief


class Safes:
    """Real roots, each in a folder of its own, and the real programs that use them: no service and no home in sight."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, *words: str, text: str | None = None) -> Result:
        return run(["service", "root", *words, "--json"], cwd=self.folder, input=text)

    def make(self, names: str) -> list[str]:
        """A root for each letter; the paths of their cards."""
        for name in names:
            self.run("init", "-o", name, "--name", name).ok()
        return [self.card(name) for name in names]

    def card(self, name: str) -> str:
        return str(self.folder / name / f"{name}.ktroot")

    def sign(self, draft: Path, *places: str | Path) -> Result:
        """Sign one after another; a letter is a root made here, a path is another's. The last result."""
        results = [self.run("sign", str(draft), "--root", str(place), "--yes") for place in places]
        return results[-1]

    def draft(self, publisher: Publisher, name: str, *options: str) -> Path:
        path = self.folder / f"{name}.ktdraft"
        publisher.service("root", "draft", "-o", str(path), *options).ok()
        return path

    def hand_over(self, publisher: Publisher, name: str, cards: Sequence[str], threshold: int, *signers: str | Path) -> Path:
        """Draft, sign, adopt; the draft."""
        options = [word for card in cards for word in ("--root", card)]
        path = self.draft(publisher, name, *options, "--threshold", str(threshold))
        self.sign(path, *signers).ok()
        publisher.service("root", "adopt", str(path)).ok()
        return path


def product_name(product: Mapping[str, Any]) -> ProductName:
    return ProductName.parse(jws.loads(jws.payload_of(str(product["product"])))["product"])


def update(page: str) -> str:
    """The page with the transcript as it is now."""
    begin = page.index(MARK) + len(MARK)
    return page[:begin] + on_page() + page[page.index("\n```", begin - 1) :]


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit("usage: python tests/ceremonies.py --update")
    PAGE.write_text(update(PAGE.read_text("utf-8")), "utf-8")
