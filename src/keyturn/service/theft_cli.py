"""The verbs for a stolen issuing key: retire it, prove what it honestly signed, sign everything anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keyturn.core import jws, merkle, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.license import REISSUE_DAYS
from keyturn.core.model import DAY
from keyturn.core.trust import Chain, ConfirmationKey, IssuingKey, Revocation
from keyturn.edge import clock, files, keystore
from keyturn.edge.terminal import Call, pass_call
from keyturn.service import catalog, ceremony, confirming, home, rotation, theft
from keyturn.service.ceremony import Draft
from keyturn.service.context import ServiceVerb, changed_home, opened
from keyturn.service.home import ServiceHome


@click.command(cls=ServiceVerb)
@click.argument("kid")
@click.option("--stolen", is_flag=True, help="Somebody else may have it.")
@click.option("--by", "made", metavar="F.json", help="The key that takes its place, made by `issuing-key create`.")
@click.option("-o", "--output", metavar="F", help="Write a draft for the roots to sign, if they are not in this home.")
@pass_call
def retire(call: Call, kid: str, stolen: bool, made: str | None, output: str | None) -> None:
    """Replace a stolen issuing or confirmation key. KID is its name or the beginning of it, without a dash in front.

    What it honestly signed is fixed, a new key takes its place, and the next trust bundle says so. Clients that learn of it stay
    licensed, and get a new certificate at their next contact.
    """
    if not stolen:
        raise KeyturnError(
            "usage", "an issuing key ends by its date, and un-licenses nobody then",
            remedy="If somebody else may have it: `keyturn service issuing-key retire KID --stolen`.",
        )  # fmt: skip
    with changed_home(call) as path:
        found, text, follow = _replace(call, path, kid, made, output)
    call.emit(found, text)
    call.next(follow)


def _replace(call: Call, path: Path, kid: str, made: str | None, output: str | None) -> tuple[dict[str, Any], str, str]:
    confirming_keys = [key for key in ServiceHome(path, call.environ).chain.newest.phone if _named(key.kid, kid)]
    if len(confirming_keys) == 1:
        return _replace_confirming(call, path, confirming_keys[0], output)
    with opened(call) as service:
        chain, now = service.home.chain, clock.now()
        key = _find(service.home, kid)
        if made is None and service.home.settings.signer != "file":
            raise KeyturnError(
                "usage", f"the keys of this service are made by its signer ({service.home.settings.signer})",
                remedy="Make one there (`keyturn service issuing-key create`), and name its file with --by.",
            )  # fmt: skip
        count = service.database.read(
            lambda db: db.execute("SELECT count(*) AS n FROM intent WHERE kid = ?", (key.kid,)).fetchone()["n"]
        )
        call.confirm(
            f"{count} certificates of the key {key.kid[:12]}… become doubtful: their computers stay licensed for"
            f" {REISSUE_DAYS} days, and get a new certificate at their next contact."
        )
        revocation = theft.fix(service.database, key.kid)
    public = _make(path, key) if made is None else _made(made, key.role)
    added = IssuingKey(jws.thumbprint(public), public, key.role, now - DAY, now - DAY + home.PERIOD)
    draft = ceremony.draft(chain, now=now, add_keys=[added], drop_kids=[key.kid], revoked=[revocation])
    found: dict[str, Any] = {"retired": key.kid, "by": added.kid, "certificates": revocation.size}
    told = f" {revocation.size} certificates can be proven."
    return _finish(path, chain, draft, output, found, told, "keyturn service issuing-key reissue")


def _replace_confirming(call: Call, path: Path, key: ConfirmationKey, output: str | None) -> tuple[dict[str, Any], str, str]:
    """Replace a key that confirms by telephone. What it confirmed has no date and no proof, so all of it is doubtful."""
    chain, now = ServiceHome(path, call.environ).chain, clock.now()
    call.confirm(
        f"Everything that the key {key.kid[:12]}… confirmed by telephone becomes doubtful: these computers stay licensed for"
        f" {REISSUE_DAYS} days, and have to ask again, which costs nothing."
    )
    made = confirming.make(path, chain, now, [key.role])
    revocation = Revocation(key.kid, 0, merkle.EMPTY)
    draft = ceremony.draft(chain, now=now, revoked=[revocation], add_phone=made)
    found = {"retired": key.kid, "by": made[0].kid if made else None, "certificates": 0}
    return _finish(path, chain, draft, output, found, "", "keyturn service product export SLUG -o F.ktproduct")


def _finish(
    path: Path, chain: Chain, draft: Draft, output: str | None, found: dict[str, Any], told: str, follow: str
) -> tuple[dict[str, Any], str, str]:
    """Put the draft into force, if the root here may; else write it for the roots."""
    draft = rotation.sign_alone(path, chain, draft)
    found = {**found, "bundle": None, "draft": None}
    if not ceremony.missing(draft):
        home.adopt(path, ceremony.finished(draft))
        _remove(path, found["retired"])
        found["bundle"] = chain.newest.number + 1
        by = f" by {found['by'][:12]}…" if found["by"] else ""
        text = f"Replaced {found['retired'][:12]}…{by}: trust bundle {found['bundle']} says so.{told}"
    else:
        target = Path(output or f"bundle-{chain.newest.number + 1}.ktdraft")
        ceremony.write(target, draft)
        found["draft"] = str(target)
        text = f"Wrote {target}: it is in force when its roots have signed it."
        follow = f"keyturn service root sign {target}"
    return found, text, follow


@click.command(cls=ServiceVerb)
@pass_call
def reissue(call: Call) -> None:
    """Sign the rights of every standing activation of revoked keys anew, so that they are ready at the next contact."""
    with opened(call) as service:
        done = theft.reissue_all(service, lambda count: call.say(f"{count} certificates"))
    call.emit({"reissued": done}, f"Issued {done} certificates again.")


@click.command(cls=ServiceVerb)
@click.argument("kid")
@click.option("-o", "--output", required=True, metavar="F", help="The .kttrust file to write.")
@click.option("--serial", type=int, metavar="N", help="Only certificates of this product key.")
@pass_call
def proofs(call: Call, kid: str, output: str, serial: int | None) -> None:
    """Write proofs that certificates were made before KID was stolen, for computers that reach nothing.

    There: keyturn import F.
    """
    with opened(call) as service:
        chain = service.home.chain
        revoked = [name for name in chain.revoked if _named(name, kid)]
        if len(revoked) != 1:
            raise KeyturnError("not_found", f"{kid!r} names {len(revoked)} revoked issuing keys")
        found = service.database.read(lambda db: theft.proofs(db, revoked[0], serial=serial))
        slugs = [row["slug"] for row in service.database.read(catalog.products)]
        products = [service.product_file(slug)["product"] for slug in slugs]
    files.write_json(
        Path(output),
        {
            "keyturn": "trust", "v": 1, "thumbprint": chain.thumbprint, "bundles": list(chain.texts), "products": products,
            "proofs": found,
        },
    )  # fmt: skip
    call.emit({"file": output, "proofs": len(found)}, f"Wrote {len(found)} proofs to {output}.")
    call.next(f"carry it to the computers: keyturn import {output}")


def _find(service: ServiceHome, kid: str) -> IssuingKey:
    keys = [key for key in service.chain.newest.keys.values() if _named(key.kid, kid)]
    if len(keys) != 1:
        raise KeyturnError(
            "not_found", f"{kid!r} names {len(keys)} of this service's issuing keys",
            remedy="See `keyturn service issuing-key list`.",
        )  # fmt: skip
    if keys[0].role not in (trust.ROLE_ISSUE, trust.ROLE_TEST):
        raise KeyturnError("usage", f"the key {kid} does not issue")
    return keys[0]


def _named(kid: str, text: str) -> bool:
    """Whether ``text`` begins the name; a dash in front, which looks like an option, may be left out."""
    return kid.startswith(text) or kid.lstrip("-").startswith(text)


def _make(path: Path, key: IssuingKey) -> bytes:
    """A new key in the file ``keys/``, and with the root."""
    sealed = path / "root" / "issuing"
    sealed.mkdir(parents=True, exist_ok=True)
    place = sealed / f"{key.role}-{rotation.next_number(path):02d}.key"
    fresh = keystore.create(place)
    files.write(path / "keys" / place.name, files.read(place, 16_384) or b"", files.PRIVATE)
    return fresh.public


def _made(file: str, role: str) -> bytes:
    """The one key of ``role`` in a list that ``issuing-key create`` wrote."""
    value = files.read_json(Path(file)) or {}
    listed = value.get("keys")
    found = [item for item in listed if isinstance(item, dict) and item.get("role") == role] if isinstance(listed, list) else []
    if value.get("keyturn") != "issuing-keys" or len(found) != 1:
        raise KeyturnError("file_malformed", f"{file} is no list with one issuing key of role {role!r}")
    return jws.public_from_jwk(found[0].get("jwk"))


def _remove(path: Path, kid: str) -> None:
    """The stolen key signs nothing here any more; the one sealed with the root stays, as evidence."""
    for file in (path / "keys").glob("*.key"):
        signer = keystore.load(file)
        if signer is not None and signer.kid == kid:
            file.unlink()
    files.remove(path / "keys" / f"{kid}.phone")
