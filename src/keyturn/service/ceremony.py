"""The next trust bundle, from a draft to k signatures: what a ceremony of the publisher's roots does.

Keeps: drafts, what may be in one, signing, and when it is finished. Leaves to others: the words that people compare
(``transcript``), root keys (``rootkey``), where the result goes (``home.adopt``), verbs (``root_cli``).

- A draft carries the whole chain so far, so that a computer that was never connected can judge it.
- Whatever is signed is shown: a draft holds exactly what ``trust.bundle_claims`` writes, and nothing beside it.
- No bundle takes back what one before it said: a key keeps its role and time, a revocation stays.
- Old roots and new roots both sign: k of those of the bundle before, k of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, sha256_b64u
from keyturn.core.trust import (
    MAX_BUNDLES,
    MAX_REVOKED,
    MAX_ROOTS,
    Bundle,
    Chain,
    ConfirmationKey,
    Floor,
    IssuingKey,
    Revocation,
)
from keyturn.edge import files, sodium

MAX_DRAFT = 8 * 1024 * 1024  # Bytes: half of what a client reads as a product file with the same chain.
MAX_LIFE = 180 * DAY  # Twice what an issuing key usually lives: no slip of a digit makes one for ever.
# A confirmation key's terms count from its start, for 15 quarters: two years leave room for terms of more than a year.
MAX_PHONE_LIFE = 2 * 366 * DAY
ROLES = (trust.ROLE_ISSUE, trust.ROLE_TEST)
PHONE_ROLES = (trust.ROLE_PHONE, trust.ROLE_PHONE_TEST)
_ENVELOPE = 256  # Characters of a token beside its payload: header, signature, dots.
_DISCARD = "Do not sign it. Ask whoever made it, and draft it anew in the service's home."


class Draft(NamedTuple):
    """A bundle that is not in force: its claims, the chain so far (travelling forms), and the signatures there are."""

    claims: Mapping[str, Any]
    texts: tuple[str, ...]
    signatures: tuple[str, ...] = ()

    @property
    def payload(self) -> bytes:
        """The bytes that every root signs."""
        return jws.dumps(self.claims)

    @property
    def digest(self) -> str:
        """What everybody compares, and what a bundle floor will say."""
        return sha256_b64u(self.payload)


class Checked(NamedTuple):
    """What a draft that holds says: the chain so far, the bundle it would become, and which roots have signed."""

    chain: Chain
    bundle: Bundle
    signed: tuple[str, ...]

    @property
    def before(self) -> Bundle:
        return self.chain.newest

    @property
    def roots(self) -> Mapping[str, bytes]:
        """Every root whose signature counts: those of the bundle before and its own."""
        return {**self.before.roots, **self.bundle.roots}

    @property
    def floor(self) -> Floor:
        return Floor(self.bundle.number, self.bundle.digest)


class Missing(NamedTuple):
    """How many signatures are still needed, of the roots of the bundle before and of its own. False: none."""

    old: int
    new: int

    def __bool__(self) -> bool:
        return self != (0, 0)


def draft(
    chain: Chain, *, now: int, roots: Sequence[bytes] | None = None, threshold: int | None = None,
    add_keys: Sequence[IssuingKey] = (), drop_kids: Collection[str] = (), revoked: Sequence[Revocation] = (),
    add_phone: Sequence[ConfirmationKey] = (),
) -> Draft:  # fmt: skip
    """Draft the bundle after ``chain``, unsigned: its roots unless others are given, and its issuing and confirmation keys.

    The keys are those of the newest bundle whose time is not over, without ``drop_kids`` and what is revoked, and
    ``add_keys``; a confirmation key of ``add_phone`` takes the place of one with its role and index. Revocations of the newest
    bundle stay; ``revoked`` may name them again. Raises as :func:`check`.
    """
    newest = chain.newest
    stolen = {item.kid: item for item in [*newest.revoked.values(), *revoked][::-1]}
    gone = {*drop_kids, *stolen, *chain.revoked}
    kept = [key for key in newest.keys.values() if key.not_after > now and key.kid not in gone]
    taken = {(key.role, key.key_index) for key in add_phone}
    phone = [key for key in newest.phone if key.not_after > now and key.kid not in gone]
    phone = [*(key for key in phone if (key.role, key.key_index) not in taken), *add_phone]
    claims = trust.bundle_claims(
        publisher=newest.publisher, number=newest.number + 1, previous=newest.digest, issued_at=now,
        threshold=newest.threshold if threshold is None else threshold,
        roots=list(newest.roots.values()) if roots is None else roots,
        keys=sorted([*kept, *add_keys], key=lambda key: (key.role, key.not_before, key.kid)),
        revoked=sorted(stolen.values(), key=lambda item: item.kid),
        phone=sorted(phone, key=lambda key: (key.role, key.key_index)),
    )  # fmt: skip
    made = Draft(claims, chain.texts)
    check(made)
    return made


def check(draft: Draft) -> Checked:
    """Judge a draft by itself. Who reads must still compare publisher and digest with what others see.

    1. The chain it carries verifies, from the bundle 1 that it names.
    2. It says what a bundle says and nothing else, and is small enough to be verified as one.
    3. It is the next bundle: number, digest of the one before, same publisher, not made before it. One can follow it.
    4. Its roots are keys that somebody can have, no two the same, at least as many as must sign.
    5. Its issuing and confirmation keys: known roles, times that a key can have, no root among them, none that is revoked; one
       that is known keeps what is known of it.
    6. Every revocation of the bundle before stays; a new one is of a key that was authorised.
    7. Each signature is by a root of the one before or of its own, one of each, over these very bytes.

    Raises: KeyturnError ``trust_invalid``, ``signature_invalid`` (7), ``publisher_mismatch``, ``document_malformed``.
    """
    # 1.
    chain = trust.verify_chain(draft.texts, trust.pin_of(draft.texts[0]) if draft.texts else "")
    # 2.
    bundle = _read(draft)
    # 3.
    _check_place(bundle, draft.claims.get("previous"), chain.newest)
    # 4.
    if not 1 <= bundle.threshold <= len(bundle.roots) <= MAX_ROOTS:
        raise _wrong(f"{bundle.threshold} of {len(bundle.roots)} roots would have to sign: no bundle could follow it")
    for public in bundle.roots.values():
        if not sodium.is_key(public):
            raise _wrong(f"the root {jws.thumbprint(public)[:12]}… is no key that somebody can have")
    # 5.
    for key in bundle.keys.values():
        _check_key(key, bundle, chain)
    for confirming in bundle.phone:
        _check_confirming(confirming, bundle, chain)
    # 6.
    _check_revoked(bundle, chain)
    # 7.
    return Checked(chain, bundle, _signers(draft, {**chain.newest.roots, **bundle.roots}))


def sign(draft: Draft, public: bytes, signer: Callable[[bytes], bytes]) -> Draft:
    """Add one root's signature; a root that has signed adds nothing.

    1. The draft holds. 2. The root is one of the bundle before or of its own: one that was retired signs nothing any more.

    Raises: KeyturnError ``trust_invalid``, and as :func:`check`.
    """
    # 1.
    checked, kid = check(draft), jws.thumbprint(public)
    if kid in checked.signed:
        return draft
    # 2.
    if kid not in checked.roots:
        raise KeyturnError(
            "trust_invalid", f"this root is neither of bundle {checked.before.number} nor of bundle {checked.bundle.number}:"
            " it signs nothing here", remedy="Take the root that the transcript names, or leave it as it is.",
        )  # fmt: skip
    return draft._replace(signatures=(*draft.signatures, jws.sign(Kind.BUNDLE, draft.claims, public, signer)))


def merged(drafts: Sequence[Draft]) -> Draft:
    """Copies of one draft that were signed in several places, as one. Raises: KeyturnError ``trust_invalid`` if they differ."""
    first = drafts[0]
    if any((other.payload, other.texts) != (first.payload, first.texts) for other in drafts):
        raise _wrong("these are not copies of one draft")
    by_kid = {jws.read_header(token, Kind.BUNDLE).kid: token for other in drafts for token in other.signatures}
    return first._replace(signatures=tuple(by_kid.values()))


def missing(draft: Draft) -> Missing:
    """How many signatures are still needed. Raises as :func:`check`."""
    checked = check(draft)
    old, new = (len(set(checked.signed) & set(bundle.roots)) for bundle in (checked.before, checked.bundle))
    return Missing(max(0, checked.before.threshold - old), max(0, checked.bundle.threshold - new))


def finished(draft: Draft) -> str:
    """The bundle in its travelling form, verified as every client will verify it.

    No more signatures travel than are needed, because each repeats the contents.
    Raises: KeyturnError ``trust_invalid`` while any is missing, and as :func:`check`.
    """
    checked = check(draft)
    sides = (checked.before.roots, checked.bundle.roots)
    needed = [checked.before.threshold, checked.bundle.threshold]
    kept = []
    # Those first that count for both.
    for kid, token in sorted(
        zip(checked.signed, draft.signatures, strict=True), key=lambda item: -_counts(item[0], sides)
    ):
        serves = [side for side in (0, 1) if kid in sides[side] and needed[side]]
        for side in serves:
            needed[side] -= 1
        if serves:
            kept.append(token)
    if not kept:
        raise KeyturnError("trust_invalid", "no root has signed this draft yet")
    text = "~".join(kept)
    trust.verify_chain([*draft.texts, text], checked.chain.thumbprint)
    return text


def read(path: Path) -> Draft:
    """Read a draft's file; what it says is not judged yet. Raises: KeyturnError ``file_malformed``, ``input_too_large``."""
    data = files.read(path, MAX_DRAFT)
    if data is None:
        raise KeyturnError("file_malformed", f"{path} does not exist", remedy="Name the draft's file.")
    return parse(data)


def parse(data: bytes) -> Draft:
    """The draft in the bytes of its file. Raises: KeyturnError ``file_malformed``."""
    try:
        value = jws.loads(data)
    except KeyturnError as error:
        raise KeyturnError("file_malformed", f"this is no draft: {error.detail}") from error
    claims = value.get("claims")
    if value.get("keyturn") != "draft" or value.get("v") != 1 or not isinstance(claims, dict):
        raise KeyturnError(
            "file_malformed", "this is no draft of a trust bundle, or of a version that is not known here"
        )
    return Draft(claims, _texts(value.get("bundles"), MAX_BUNDLES), _texts(value.get("signatures"), 2 * MAX_ROOTS))


def write(path: Path, draft: Draft) -> None:
    """Raises: KeyturnError ``storage_failed``, ``permission_denied``."""
    value = {
        "keyturn": "draft", "v": 1, "claims": dict(draft.claims), "bundles": list(draft.texts),
        "signatures": list(draft.signatures),
    }  # fmt: skip
    files.write_json(path, value)


def _texts(value: object, most: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > most or not all(isinstance(item, str) for item in value):
        raise KeyturnError("file_malformed", "the draft lacks its chain or its signatures, or has too many")
    return tuple(value)


def _read(draft: Draft) -> Bundle:
    """Step 2 of :func:`check`: the claims as a value that, written again, is the same bytes."""
    claims, payload = draft.claims, draft.payload
    if len(payload) * 4 // 3 + _ENVELOPE > jws.MAX_TOKEN:
        raise _wrong("it is larger than any client would read")
    try:
        roots = [jws.public_from_jwk(value) for value in claims["roots"]["keys"]]
        keys = [_issuing_key(value) for value in claims["keys"]]
        issued_at = int(claims["iat"])
        revoked = [
            Revocation(str(item["kid"]), int(item["size"]), jws.decoded(item["root"], 32), issued_at)
            for item in claims.get("revoked", [])
        ]
        phone = trust.confirmation_keys(claims)
        number, threshold, publisher = (
            int(claims["number"]),
            int(claims["roots"]["threshold"]),
            str(claims["publisher"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _wrong("a part of the bundle is missing or is of another kind") from error
    bundle = Bundle(
        number, sha256_b64u(payload), publisher, issued_at, threshold, _by_kid(roots), {key.kid: key for key in keys},
        {item.kid: item for item in revoked}, phone,
    )  # fmt: skip
    again = trust.bundle_claims(
        publisher=publisher, number=number, previous=claims.get("previous"), issued_at=issued_at, threshold=threshold,
        roots=list(bundle.roots.values()), keys=list(bundle.keys.values()), revoked=list(bundle.revoked.values()),
        phone=bundle.phone,
    )  # fmt: skip
    if jws.dumps(again) != payload:
        raise _wrong("it says something twice, or something that is no part of a trust bundle")
    return bundle


def _issuing_key(value: Mapping[str, Any]) -> IssuingKey:
    public = jws.public_from_jwk(value["jwk"])
    return IssuingKey(jws.thumbprint(public), public, str(value["role"]), int(value["nbf"]), int(value["exp"]))


def _counts(kid: str, sides: Iterable[Mapping[str, bytes]]) -> int:
    return sum(kid in side for side in sides)


def _by_kid(publics: Iterable[bytes]) -> dict[str, bytes]:
    return {jws.thumbprint(public): public for public in publics}


def _check_place(bundle: Bundle, previous: object, before: Bundle) -> None:
    """Step 3 of :func:`check`."""
    if bundle.number != before.number + 1:
        raise _wrong(f"it is numbered {bundle.number}, and {before.number + 1} comes next: numbers go up by one")
    if bundle.number >= MAX_BUNDLES:
        raise _wrong(f"no bundle could follow number {bundle.number}")
    if previous != before.digest:
        raise _wrong(f"it follows another bundle {before.number} than the one it carries")
    if bundle.publisher != before.publisher:
        raise _wrong(f"it is of {bundle.publisher[:60]!r}, the chain of {before.publisher[:60]!r}")
    if bundle.issued_at < before.issued_at:
        raise _wrong("it was made before the bundle that it follows")


def _check_key(key: IssuingKey, bundle: Bundle, chain: Chain) -> None:
    """Step 5 of :func:`check`."""
    told = f"the issuing key {key.kid[:12]}…"
    if key.role not in ROLES:
        raise _wrong(f"{told} has a role that is not known here")
    if not 0 <= key.not_before < key.not_after <= key.not_before + MAX_LIFE:
        raise _wrong(f"{told} would live for no time, or for more than {MAX_LIFE // DAY} days")
    if not sodium.is_key(key.public) or key.kid in bundle.roots or any(key.kid in past.roots for past in chain.bundles):
        raise _wrong(f"{told} is a root, or no key that somebody can have")
    if key.kid in chain.revoked or key.kid in bundle.revoked:
        raise _wrong(f"{told} is revoked")
    known = {kid: found for past in chain.bundles for kid, found in past.keys.items()}.get(key.kid)
    if known not in (None, key):
        raise _wrong(f"{told} had another role or another time before")


def _check_confirming(key: ConfirmationKey, bundle: Bundle, chain: Chain) -> None:
    """Step 5 of :func:`check`. Whether its bytes are a key is for those who verify with it: a false one confirms nothing."""
    told = f"the confirmation key {key.kid[:12]}…"
    if key.role not in PHONE_ROLES:
        raise _wrong(f"{told} has a role that is not known here")
    if not 0 <= key.not_before < key.not_after <= key.not_before + MAX_PHONE_LIFE:
        raise _wrong(f"{told} would live for no time, or for more than {MAX_PHONE_LIFE // DAY} days")
    if key.kid in chain.revoked or key.kid in bundle.revoked:
        raise _wrong(f"{told} is revoked")
    known = {found.kid: found for past in chain.bundles for found in past.phone}.get(key.kid)
    if known not in (None, key):
        raise _wrong(f"{told} had another role, index or time before")


def _check_revoked(bundle: Bundle, chain: Chain) -> None:
    """Step 6 of :func:`check`. A revocation's time is that of the bundle that says it, so it is left out here."""
    if len(bundle.revoked) > MAX_REVOKED:
        raise _wrong(f"it revokes more than {MAX_REVOKED} keys")
    for kid, item in chain.newest.revoked.items():
        now = bundle.revoked.get(kid)
        if now is None or (now.size, now.root) != (item.size, item.root):
            raise _wrong(f"it takes the revocation of {kid[:12]}… back, or changes it")
    for kid, item in bundle.revoked.items():
        first = chain.revocation(kid)
        named = any(kid in past.keys or any(key.kid == kid for key in past.phone) for past in chain.bundles)
        if item.size < 0 or not named:
            raise _wrong(f"it revokes {kid[:12]}…, which was never authorised")
        if first is not None and (first.size, first.root) != (item.size, item.root):
            raise _wrong(f"{kid[:12]}… was revoked before, in other words")


def _signers(draft: Draft, roots: Mapping[str, bytes]) -> tuple[str, ...]:
    """Step 7 of :func:`check`."""
    found: list[str] = []
    for token in draft.signatures:
        if jws.read_header(token, Kind.BUNDLE).kid not in roots:
            raise _wrong("somebody signed it who is no root of it or of the bundle before")
        verified = jws.verify(token, Kind.BUNDLE, roots.get)
        if verified.payload != draft.payload:
            raise _wrong("a signature is over something else")
        if verified.kid in found:
            raise _wrong("the same root signed twice")
        found.append(verified.kid)
    return tuple(found)


def _wrong(why: str) -> KeyturnError:
    return KeyturnError("trust_invalid", f"the draft does not hold: {why}", remedy=_DISCARD)
