"""The verbs of the publisher's root: make keys, draft the next trust bundle, read it, sign it, put it into force.

``init``, ``restore``, ``inspect`` and ``sign`` need no service and no network: they run on a computer that has nothing but this
program. ``draft`` and ``adopt`` work in the service's home. docs/root-ceremony.md is the page for the people who do it.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.model import check_slug, rfc3339
from keyturn.core.trust import Chain
from keyturn.edge import clock, files, paper
from keyturn.edge.terminal import Call, pass_call
from keyturn.service import ceremony, confirming, home, rootkey, rotation
from keyturn.service.ceremony import Checked, Draft
from keyturn.service.context import ServiceVerbs, changed_home, home_path
from keyturn.service.home import ServiceHome
from keyturn.service.rootkey import Card
from keyturn.service.transcript import changes, day, digest_lines, groups, plain, spoken, told, transcript

_MAX_WORDS = 4096  # Bytes of what 24 words are typed or scanned as.
output_folder = click.option("-o", "--output", required=True, metavar="DIR", help="The folder of this root; made if needed.")


@click.group(cls=ServiceVerbs)
def root() -> None:
    """The publisher's root keys: who decides which keys sign. They stay offline."""


@root.command("init")
@output_folder
@click.option("--name", default="root", show_default=True, metavar="TEXT", help="What its holder calls it: a-z, 0-9, -.")
@pass_call
def root_init(call: Call, output: str, name: str) -> None:
    """Make one root key: the key, its public card, and a sheet of paper with 24 words and a QR code."""
    _here(call)
    made = rootkey.make(Path(output), check_slug(name), secrets.token_bytes(32), now=clock.now())
    text = [
        f"Made the root {name}: {spoken(made.card.kid)}",
        f"  {made.key_file}     the key: whoever has it signs as this root",
        f"  {made.card_file}  its card: give it to whoever drafts the next trust bundle",
        f"  {made.paper_file}    print it, seal it, and destroy the file: its 24 words ARE the key",
    ]
    call.emit(_files(made), "\n".join(text))


@root.command("restore")
@output_folder
@click.option("--words-file", metavar="F", help="The words, or the text of the QR code; - reads stdin.")
@click.option("--card", "card_file", metavar="F.ktroot", help="The root's card: it must be that key, and a wrong word is named.")
@click.option("--name", metavar="TEXT", help="What its holder calls it (default: as on the card, else root).")
@pass_call
def root_restore(call: Call, output: str, words_file: str | None, card_file: str | None, name: str | None) -> None:
    """Make the same key again of the 24 words on its sheet. Four letters of a word are enough."""
    _here(call)
    card = None if card_file is None else rootkey.read_card(_data(card_file, rootkey.MAX_CARD))
    typed = _typed(call) if words_file is None else paper.spelled(_words_of(words_file))
    named = name or (card.name if card is not None else "root")
    made = rootkey.restore(Path(output), typed, name=check_slug(named), card=card, now=clock.now())
    same = "It is the key of the card." if card is not None else "Compare this with the sheet, or with the card."
    call.emit(_files(made), f"Restored the root {named} into {made.key_file}: {spoken(made.card.kid)}\n{same}")


@root.command("draft")
@click.option("-o", "--output", required=True, metavar="F.ktdraft", help="The file to write.")
@click.option("--root", "cards", multiple=True, metavar="F.ktroot", help="The card of a root of the next bundle.")
@click.option("--keep-root", "kept", multiple=True, metavar="KEY",
              help="A root of now that stays beside those given: its thumbprint, its first groups, or all.")  # fmt: skip
@click.option("--threshold", type=click.IntRange(1, trust.MAX_ROOTS), metavar="K", help="How many roots must sign from then on.")
@click.option("--add-keys", type=click.IntRange(1, rotation.MAX_ADDED // 2), metavar="N",
              help="Make issuing keys for N more periods; their private halves go into root/issuing.")  # fmt: skip
@click.option("--issuing-keys", metavar="F.json", help="Authorise these public keys instead, made elsewhere (an HSM).")
@click.option("--confirmation-keys", "phone", is_flag=True,
              help="Make the next keys that confirm by telephone; other new keys bring them when they are due.")  # fmt: skip
@pass_call
def root_draft(
    call: Call, output: str, cards: tuple[str, ...], kept: tuple[str, ...], threshold: int | None, add_keys: int | None,
    issuing_keys: str | None, phone: bool,
) -> None:  # fmt: skip
    """Draft the next trust bundle in the service's home: other roots, more issuing keys. Nothing is in force by it."""
    if not (cards or kept or threshold or add_keys or issuing_keys or phone):
        raise KeyturnError("usage", "nothing to change was given")
    if add_keys and issuing_keys:
        raise KeyturnError("usage", "--add-keys and --issuing-keys do not go together")
    if cards and threshold is None:
        raise KeyturnError("usage", "other roots need a --threshold: how many of them must sign")
    with changed_home(call) as path:
        chain, now = ServiceHome(path, call.environ).chain, clock.now()
        roots = _chosen(chain, cards, kept)
        # Judged before a key is made, so that a slip leaves nothing behind.
        ceremony.draft(chain, now=now, roots=roots, threshold=threshold)
        keys = []
        if add_keys:
            keys = rotation.make_keys(path, chain, add_keys, now)
        elif issuing_keys:
            keys = rotation.read_publics(_json(issuing_keys), chain, now)
        roles = list(confirming.ROLES) if phone else confirming.due(chain, now, confirming.EARLY) if keys else []
        confirm = confirming.make(path, chain, now, roles)
        drafted = ceremony.draft(chain, now=now, roots=roots, threshold=threshold, add_keys=keys, add_phone=confirm)
    ceremony.write(Path(output), drafted)
    found = _state(drafted, ceremony.check(drafted), None)
    call.emit({"file": output, **found}, f"{found['transcript']}\n\nWrote {output}. Nothing is in force by it yet.")
    call.next(f"carry it to each root: keyturn service root sign {output} --root DIR")


@root.command("inspect")
@click.argument("file")
@pass_call
def root_inspect(call: Call, file: str) -> None:
    """Say in words what a draft, a root's card, a file of trust bundles or a service's bundles.json is."""
    _here(call)
    data = _data(file, ceremony.MAX_DRAFT)
    value = _json_of(data, file)
    kind = value.get("keyturn")
    if kind == "draft":
        drafted = ceremony.parse(data)
        found = {"kind": "draft", **_state(drafted, ceremony.check(drafted), None)}
        text = str(found["transcript"])
    elif kind == "root":
        card = rootkey.read_card(data)
        found = {"kind": "root", "name": card.name, "thumbprint": card.kid, "spoken": spoken(card.kid),
                 "made_at": rfc3339(card.made_at)}  # fmt: skip
        text = f"The root {card.name}, made on {day(card.made_at)}\n  {spoken(card.kid)}\n  {card.kid}"
    else:
        found, text = _chain_told(home.chain_of(value))
    call.emit(found, text)


@root.command("sign")
@click.argument("file")
@click.option("--root", "place", required=True, metavar="DIR_OR_PEM", help="The root that signs: its file, or its folder.")
@click.option("--instead", is_flag=True, help="This root signed another draft of the same bundle, and that one was destroyed.")
@pass_call
def root_sign(call: Call, file: str, place: str, instead: bool) -> None:
    """Show what a draft means, ask, and add this root's signature to it. Needs no network and no service.

    \b
    1. The draft holds, and this root is one whose signature counts.
    2. This root has not signed a later bundle, nor another one of this number.
    3. The transcript is read, and the last group of the digest typed.
    4. What is about to be signed is remembered; then it is signed, and the file replaced.
    """  # noqa: D301 (Click's sign for lines that stay as they are)
    _here(call)
    # 1.
    drafted, signer = ceremony.read(Path(file)), rootkey.opened(Path(place))
    checked = ceremony.check(drafted)
    kid = signer.signer.kid
    if kid not in checked.roots:
        ceremony.sign(drafted, signer.signer.public, signer.signer.sign)  # Raises: it says why.
    # 2.
    _check_memory(signer, checked, instead=instead)
    # 3.
    if kid in checked.signed:
        call.emit(_state(drafted, checked, kid), "This root has signed it already; nothing was changed.")
        return
    shown = transcript(checked, ceremony.missing(drafted), mine=kid)
    if not call.json:
        call.emit(None, shown)
    _agree(call, checked)
    # 4.
    rootkey.remember(signer, checked.chain.thumbprint, checked.floor)
    signed = ceremony.sign(drafted, signer.signer.public, signer.signer.sign)
    ceremony.write(Path(file), signed)
    found = _state(signed, ceremony.check(signed), kid)
    call.emit(
        {"file": file, "signed_by": kid, **found}, f"\nSigned by {spoken(kid)}. Still missing: {found['missing_told']}."
    )
    call.next("carry it to the next root" if found["missing"] else f"carry it back: keyturn service root adopt {file}")


@root.command("adopt")
@click.argument("drafts", nargs=-1, required=True, metavar="F.ktdraft…")
@pass_call
def root_adopt(call: Call, drafts: tuple[str, ...]) -> None:
    """Put a draft that enough roots have signed into force. Copies that were signed apart may be given together."""
    drafted = ceremony.merged([ceremony.read(Path(file)) for file in drafts])
    with changed_home(call) as path:
        service = ServiceHome(path, call.environ)
        checked = ceremony.check(drafted)
        if checked.chain.thumbprint != service.chain.thumbprint:
            raise KeyturnError("publisher_mismatch", "the draft is of another publisher than this service")
        before, stolen = service.chain.newest.number, service.chain.revoked
        chain = home.adopt(path, ceremony.finished(drafted))
        service.chain = chain
        todo = list(_todo(service, clock.now(), stolen=bool(chain.revoked - stolen)))
    found = {"bundle": chain.newest.number, "digest": chain.newest.digest, "changed": chain.newest.number > before, "next": todo}
    head = f"Trust bundle {chain.newest.number} is in force." if found["changed"] else "It was in force already."
    call.emit(found, "\n".join([head, *(f"  {step}" for step in todo)]))


# --- what the verbs are made of ---------------------------------------------------------------------------------------


def _here(call: Call) -> None:
    """Raises: KeyturnError ``usage`` with ``--at``: a root is nothing that a service elsewhere could use."""
    home_path(call)


def _data(file: str, limit: int) -> bytes:
    data = files.read(Path(file), limit)
    if data is None:
        raise KeyturnError("file_malformed", f"{file} does not exist", remedy="Name a file that is there.")
    return data


def _json(file: str) -> dict[str, Any]:
    return _json_of(_data(file, ceremony.MAX_DRAFT), file)


def _json_of(data: bytes, file: str) -> dict[str, Any]:
    try:
        return jws.loads(data)
    except KeyturnError as error:
        raise KeyturnError("file_malformed", f"{file}: {error.detail}") from error


def _files(made: rootkey.Made) -> dict[str, Any]:
    return {
        "name": made.card.name, "thumbprint": made.card.kid, "spoken": spoken(made.card.kid), "key": str(made.key_file),
        "card": str(made.card_file), "paper": None if made.paper_file is None else str(made.paper_file),
    }  # fmt: skip


def _chosen(chain: Chain, cards: Sequence[str], kept: Sequence[str]) -> list[bytes] | None:
    """The roots of the next bundle; None: those of now. Raises: KeyturnError ``not_found`` for a root that is not there."""
    if not cards and not kept:
        return None
    given: list[Card] = [rootkey.read_card(_data(file, rootkey.MAX_CARD)) for file in cards]
    stay = [public for name in kept for public in _named(chain, name)]
    return list(dict.fromkeys([*stay, *(card.public for card in given)]))


def _named(chain: Chain, name: str) -> list[bytes]:
    roots = chain.newest.roots
    if name == "all":
        return list(roots.values())
    plain_name = name.replace(" ", "").upper()
    found = [
        public for kid, public in roots.items()
        if kid.startswith(name) or (len(plain_name) >= 4 and "".join(groups(kid)).startswith(plain_name))
    ]  # fmt: skip
    if len(found) != 1:
        raise KeyturnError(
            "not_found", f"{name[:60]!r} names {len(found)} of the roots of now",
            remedy="See them with `keyturn service root inspect bundles.json` in the service's home.",
        )  # fmt: skip
    return found


def _state(drafted: Draft, checked: Checked, mine: str | None) -> dict[str, Any]:
    missing = ceremony.missing(drafted)
    return {
        "publisher": checked.bundle.publisher, "thumbprint": checked.chain.thumbprint, "bundle": checked.bundle.number,
        "digest": checked.bundle.digest, "digest_groups": groups(checked.bundle.digest), "signed": list(checked.signed),
        "missing": missing._asdict() if missing else None, "missing_told": told(missing, checked.before.number),
        "transcript": transcript(checked, missing, mine=mine),
    }  # fmt: skip


def _check_memory(signer: rootkey.Root, checked: Checked, *, instead: bool) -> None:
    last = rootkey.newest_signed(signer, checked.chain.thumbprint)
    if last is None or last == checked.floor or last.number < checked.bundle.number:
        return
    if last.number > checked.bundle.number:
        raise KeyturnError(
            "trust_invalid", f"this root signed bundle {last.number} before: a bundle {checked.bundle.number} would be a fork",
            remedy="Draft it anew in the service's home, which knows the newest bundle.",
        )  # fmt: skip
    if not instead:
        raise KeyturnError(
            "trust_invalid",
            f"this root signed another draft of bundle {last.number} before; its digest begins {spoken(last.digest)}",
            remedy="Two bundles of one number would part the customers. Destroy every copy of the other one, then repeat it"
            " with --instead.",
        )  # fmt: skip


def _agree(call: Call, checked: Checked) -> None:
    """Ask for the digest's last group: whoever types it has read to the end. Raises: ``confirmation_required``."""
    if call.yes:
        return
    if not call.interactive or call.json:
        raise KeyturnError("confirmation_required", "A root signs only what somebody has read. Nothing was signed.")
    call.say("\nType the last group of the digest to sign, anything else to leave it.")
    if str(click.prompt("Last group", err=True)).strip().upper() != groups(checked.bundle.digest)[-1]:
        raise KeyturnError("confirmation_required", "That is not the last group. Nothing was signed.",
                           remedy="Read the transcript again; if it is right, repeat the command.")  # fmt: skip


def _typed(call: Call) -> list[str]:
    """Ask for the words one by one, unseen; each is looked up at once, so that a slip is mended where it happened."""
    if not call.interactive or call.json:
        raise KeyturnError("usage", "the words are typed on a terminal", remedy="Or give them with --words-file F.")
    call.say(f"Type the {paper.COUNT} words; at least four letters of each. They are not shown. A line may hold several.")
    found: list[str] = []
    while len(found) < paper.COUNT:
        line = click.prompt(f"Word {len(found) + 1} of {paper.COUNT}", hide_input=True, err=True)
        try:
            for item in paper.spelled(line):
                found.append(paper.word(item, len(found) + 1))
        except KeyturnError as error:
            call.say(f"  {error.detail}. Go on from that word.")
    return found


def _words_of(file: str) -> str:
    data = sys.stdin.buffer.read(_MAX_WORDS + 1) if file == "-" else _data(file, _MAX_WORDS)
    return data.decode("utf-8", "replace")


def _chain_told(chain: Chain) -> tuple[dict[str, Any], str]:
    newest = chain.newest
    found = {
        "kind": "trust", "publisher": newest.publisher, "thumbprint": chain.thumbprint, "bundle": newest.number,
        "digest": newest.digest, "floor": f"{newest.number}:{newest.digest}", "threshold": newest.threshold,
        "roots": [{"thumbprint": kid, "spoken": spoken(kid)} for kid in newest.roots], "revoked": sorted(chain.revoked),
    }  # fmt: skip
    lines = [f"Publisher    {plain(newest.publisher)}", f"Thumbprint   {spoken(chain.thumbprint)}"]
    for bundle in chain.bundles:
        lines += ["", f"BUNDLE {bundle.number}, {rfc3339(bundle.issued_at)}", "", *changes(chain, bundle)]
    lines += ["", f"DIGEST OF BUNDLE {newest.number}", *digest_lines(newest.digest), f"  as a floor  {found['floor']}"]
    return found, "\n".join(lines)


def _todo(service: ServiceHome, now: int, *, stolen: bool) -> Iterator[str]:
    """What an adoption leaves to do, in order."""
    for role in ceremony.ROLES:
        try:
            service.signer(role, now)
        except KeyturnError:
            yield f"No key of role {role} is in force here: `keyturn service issuing-key rotate`."
    yield home.TAKES_IT_AT_ONCE
    if stolen:
        yield "Sign the rights of every computer anew: `keyturn service issuing-key reissue`."
    yield "Export product files anew and ship them: a retired root can then deceive nobody who comes new."
    yield "Make a backup; it holds every bundle."
