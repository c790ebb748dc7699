"""What a trust bundle says, in words that people read aloud to each other.

Keeps: the transcript of a ceremony, and the same words for bundles that are in force. Leaves to others: whether a draft holds
(``ceremony.check``), verbs (``root_cli``).

- A transcript is plain ASCII of at most 80 columns: it is printed, read aloud, and compared on several screens.
- Keys and digests are spoken in groups of four hexadecimal digits: six groups for a key (96 bits, more than anybody can
  search for), all sixteen for a digest.
- Nothing in it comes from outside the signed bytes, but for the count of signatures.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence

from keyturn.core import trust
from keyturn.core.model import rfc3339
from keyturn.core.trust import Bundle, Chain, ConfirmationKey, IssuingKey, Revocation
from keyturn.service.ceremony import Checked, Missing

KEY_GROUPS = 6
DIGEST_GROUPS = 16
_ROLES = {trust.ROLE_ISSUE: "products", trust.ROLE_TEST: "test products"}
_PHONE_ROLES = {trust.ROLE_PHONE: "products", trust.ROLE_PHONE_TEST: "test products"}
_ODD = re.compile(r"[^ -~]")


def groups(name: str) -> list[str]:
    """A digest or thumbprint (base64url SHA-256) as sixteen groups of four hexadecimal digits."""
    digits = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).hex().upper()
    return [digits[place : place + 4] for place in range(0, len(digits), 4)]


def spoken(kid: str) -> str:
    """A key's name as it is read aloud: the first six groups of its thumbprint."""
    return " ".join(groups(kid)[:KEY_GROUPS])


def plain(text: str, limit: int = 60) -> str:
    """Foreign text in one line of ASCII; what is not is written as its number, so that nothing looks like something else."""
    return _ODD.sub(lambda found: f"\\u{ord(found[0]):04x}", text)[:limit]


def transcript(checked: Checked, missing: Missing, *, mine: str | None = None) -> str:
    """All that signing a draft means. ``mine`` is the ``kid`` of the root that reads, to be marked.

    The order is the order of reading: who and what, what changes, who has signed, the digest.
    """
    before, bundle = checked.before, checked.bundle
    lines = [
        "KEYTURN ROOT CEREMONY",
        "One reads aloud, everybody else compares with their own screen or paper.",
        "",
        f"Publisher    {plain(bundle.publisher)}",
        f"Thumbprint   {spoken(checked.chain.thumbprint)}",
        f"Bundle       {bundle.number}, after bundle {before.number} of {day(before.issued_at)}",
        f"Drafted      {rfc3339(bundle.issued_at)}",
        "",
        *changes(checked.chain, bundle),
        "",
        "SIGNATURES",
        *_signatures(f"Roots of bundle {before.number}", before, checked.signed, mine),
        *_signatures(f"Roots of bundle {bundle.number}", bundle, checked.signed, mine),
        f"  Missing  {told(missing, before.number)}",
        "",
        f"DIGEST OF BUNDLE {bundle.number}",
        *digest_lines(bundle.digest),
    ]
    return "\n".join(lines)


def changes(chain: Chain, bundle: Bundle) -> list[str]:
    """What a bundle changes against the newest of ``chain``; against nothing (bundle 1), everything is new."""
    before = chain.bundles[bundle.number - 2] if bundle.number > 1 else None
    return [*_roots(before, bundle), "", *_keys(before, bundle), *_phone(before, bundle), *_revoked(before, bundle)]


def told(missing: Missing, before: int) -> str:
    """What is still missing, as a sentence's end."""
    if not missing:
        return "nothing; this bundle can be adopted"
    parts = [(missing.old, before), (missing.new, before + 1)]
    return " and ".join(f"{count} of the roots of bundle {number}" for count, number in parts if count)


def digest_lines(digest: str) -> Iterator[str]:
    """Sixteen groups in four lines."""
    found = groups(digest)
    return ("  " + "  ".join(found[place : place + 4]) for place in range(0, len(found), 4))


def day(seconds: int) -> str:
    return str(rfc3339(seconds))[:10]


def _roots(before: Bundle | None, bundle: Bundle) -> Iterator[str]:
    yield "WHO DECIDES"
    if before is not None:
        yield f"  Until now    {before.threshold} of {len(before.roots)} roots must sign"
    yield f"  From now on  {bundle.threshold} of {len(bundle.roots)} roots must sign"
    if bundle.threshold == 1:
        yield "  One root alone decides everything: whoever has it is the publisher."
    if len(bundle.roots) == bundle.threshold and bundle.threshold > 1:
        yield "  No root can be spared: if one is lost, no bundle follows, ever."
    old = before.roots if before is not None else {}
    for word, kids in (
        ("in  ", [kid for kid in bundle.roots if kid not in old]),
        ("stay", [kid for kid in bundle.roots if kid in old]),
        ("out ", [kid for kid in old if kid not in bundle.roots]),
    ):
        for kid in kids:
            yield f"  root {word}    {spoken(kid)}"


def _keys(before: Bundle | None, bundle: Bundle) -> Iterator[str]:
    yield "ISSUING KEYS"
    old = before.keys if before is not None else {}
    for word, keys in (
        ("in  ", [key for kid, key in bundle.keys.items() if kid not in old]),
        ("stay", [key for kid, key in bundle.keys.items() if kid in old]),
        ("out ", [key for kid, key in old.items() if kid not in bundle.keys]),
    ):
        if word == "stay" and keys:
            yield f"  key  stay    {len(keys)}, of {_roles(keys)}"
            continue
        for key in keys:
            why = _why_out(key, bundle) if word == "out " else f"for {_ROLES.get(key.role, key.role)}"
            yield f"  key  {word}    {day(key.not_before)} to {day(key.not_after)}  {why}"
            yield f"               {spoken(key.kid)}"
    for role, name in _ROLES.items():
        ends = [key.not_after for key in bundle.keys.values() if key.role == role]
        yield f"  Certificates for {name} can be signed {'until ' + day(max(ends)) if ends else 'by nobody'}."


def _roles(keys: Sequence[IssuingKey]) -> str:
    counted = {role: sum(key.role == role for key in keys) for role in _ROLES}
    return ", ".join(f"{count} for {_ROLES[role]}" for role, count in counted.items() if count)


def _phone(before: Bundle | None, bundle: Bundle) -> Iterator[str]:
    old = {key.kid: key for key in before.phone} if before is not None else {}
    now = {key.kid: key for key in bundle.phone}
    if not old and not now:
        return
    yield ""
    yield "CONFIRMATION KEYS, OF TELEPHONE ACTIVATION"
    for word, keys in (
        ("in  ", [key for kid, key in now.items() if kid not in old]),
        ("stay", [key for kid, key in now.items() if kid in old]),
        ("out ", [key for kid, key in old.items() if kid not in now]),
    ):
        for key in keys:
            why = (
                _why_out(key, bundle)
                if word == "out "
                else f"number {key.key_index} for {_PHONE_ROLES.get(key.role, key.role)}"
            )
            yield f"  key  {word}    {day(key.not_before)} to {day(key.not_after)}  {why}"
            yield f"               {spoken(key.kid)}"


def _why_out(key: IssuingKey | ConfirmationKey, bundle: Bundle) -> str:
    if key.kid in bundle.revoked:
        return "STOLEN"
    return "its time is over" if key.not_after <= bundle.issued_at else "is not used any more"


def _revoked(before: Bundle | None, bundle: Bundle) -> Iterator[str]:
    known = before.revoked if before is not None else {}
    new: Sequence[Revocation] = [item for kid, item in bundle.revoked.items() if kid not in known]
    if not new:
        return
    yield ""
    yield "STOLEN KEYS"
    for item in new:
        yield f"  stolen       {spoken(item.kid)}"
        yield f"               {item.size} certificates of it are honest; every other one is doubtful"


def _signatures(title: str, bundle: Bundle, signed: Sequence[str], mine: str | None) -> Iterator[str]:
    yield f"  {title}: {bundle.threshold} of {len(bundle.roots)} must sign"
    for kid in bundle.roots:
        yield f"    [{'x' if kid in signed else ' '}] {spoken(kid)}{'  (this root)' if kid == mine else ''}"
