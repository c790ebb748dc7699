"""The verbs that talk: ``activate`` and ``deactivate``."""

from __future__ import annotations

from typing import Any

import click

from keyturn.client import actions, loading
from keyturn.client.cli import add_file, key_file_option, key_text, scope_option
from keyturn.client.context import choose, homes_of, machine_of
from keyturn.client.disclosing import disclosure, disclosure_text
from keyturn.client.lines import Talk, asks_a_host
from keyturn.client.loading import Loaded, load, status_of
from keyturn.client.machine import Machine
from keyturn.client.policies import policy_of
from keyturn.client.telling import Teller
from keyturn.client.views import row, status_text
from keyturn.core import hardware
from keyturn.core.errors import EXIT_REFUSED, KeyturnError, Refused
from keyturn.core.terms import Terms
from keyturn.edge.terminal import Call, Verb, pass_call, refuse
from keyturn.edge.vault import Shelf

ca_option = click.option(
    "--ca-bundle", metavar="FILE", help="Trust these certificate authorities instead of the system's."
)


@click.command(cls=Verb)
@click.argument("key", required=False)
@click.option("--product-file", metavar="F", help="Add the product from this file first.")
@key_file_option
@scope_option
@click.option(
    "--via", type=click.Choice(["auto", "online", "host", "file", "telephone"]), default="auto",
    help="How to activate; auto: by the key.",
)  # fmt: skip
@click.option("--host", metavar="NAME[:PORT]", help="The activation host to ask (default: the last good one, then DNS).")
@click.option("--dry-run", is_flag=True, help="Send nothing; say what this computer knows.")
@click.option("--ask", is_flag=True, help="With --dry-run: ask the service, take no seat.")
@click.option("--allow-ephemeral", is_flag=True, help="Activate although this computer keeps nothing.")
@ca_option
@pass_call
def activate(
    call: Call, key: str | None, product_file: str | None, key_file: str | None, scope: str | None, via: str,
    host: str | None, dry_run: bool, ask: bool, allow_ephemeral: bool, ca_bundle: str | None,
) -> None:  # fmt: skip
    """Add the product, install the key, activate. What is done already is skipped.

    KEY is - to read it from stdin. Before the first activation you see what would be sent.
    """
    machine = machine_of(call)
    shelf = add_file(call, product_file, scope) if product_file else choose(call, homes_of(call, scope))
    given = key is not None or key_file is not None or "KEYTURN_KEY_FILE" in call.environ
    if given or load(shelf, machine).key is None:
        actions.install_key(shelf, key_text(call, key, key_file), machine)
    loaded = load(shelf, machine)
    if dry_run:
        _dry_run(call, shelf, machine, loaded, ask=ask, allow_ephemeral=allow_ephemeral, ca_bundle=ca_bundle)
        return
    if (via == "host" or host is not None) and not asks_a_host(loaded):
        raise KeyturnError("usage", "this product key is not one for activation hosts", remedy="Leave --via and --host out.")
    # What was confirmed by telephone becomes a certificate if somebody asks for it; the seat is the same.
    if not loading.needs_activation(loaded) and not (via == "online" and loaded.via == "telephone"):
        call.emit({"products": [status_of(loaded)]}, status_text([status_of(loaded)]))
        call.say("Nothing to do: this product is licensed already.")
        return
    if via == "telephone":
        from keyturn.client.telephone_cli import show_id

        show_id(call, shelf, machine)
        return
    teller = Teller(shelf.vault, machine)
    with teller.faults(loaded.name):
        token, loaded = actions.make_request(shelf, machine, allow_ephemeral=allow_ephemeral)
    if via == "file":
        raise KeyturnError(
            "usage", "a file is made and read in two steps",
            remedy="`keyturn export request -o F.ktx`; on a connected computer `keyturn relay F.ktx`;"
            " then `keyturn import F.ktx`.",
        )  # fmt: skip
    with teller.faults(loaded.name):
        _consent(call, shelf, machine, token, loaded)
    with Talk(shelf, loaded, machine, ca_bundle=ca_bundle, say=call.say, host=host) as talk:
        outcome = talk.activate(token)
    if isinstance(outcome, Refused):
        refuse(outcome)
    entry = status_of(outcome)
    call.emit({"products": [entry]}, status_text([entry]))
    call.next("keyturn status")


@click.command(cls=Verb)
@click.option("--via", type=click.Choice(["auto", "online", "file"]), default="auto", help="How to reach the service.")
@ca_option
@pass_call
def deactivate(call: Call, via: str, ca_bundle: str | None) -> None:
    """Return this computer's seat, so that another computer can use the key.

    With --via file the return is signed here and carried: `keyturn export request -o F.ktx`.
    """
    machine = machine_of(call)
    shelf = choose(call, homes_of(call))
    loaded = load(shelf, machine)
    if loaded.certificate is None and shelf.release() is None:
        raise KeyturnError("release_unknown", f"{loaded.opened.product.title} holds no seat on this computer")
    call.confirm(
        f"1 seat of {loaded.key.product_id if loaded.key else 'this key'} is returned: {loaded.opened.product.title} is no longer"
        " licensed on this computer, for any of its users."
    )
    if via == "file":
        actions.make_release(shelf, machine)
        entry = status_of(load(shelf, machine))
        call.emit({"products": [entry]}, f"The return is signed, and waits to be carried.\n{status_text([entry])}")
        call.next("keyturn export request -o F.ktx")
        return
    return_seat(call, shelf, machine, ca_bundle)
    entry = status_of(load(shelf, machine))
    call.emit({"products": [entry]}, f"The seat is returned.\n{status_text([entry])}")


@click.command(cls=Verb)
@scope_option
@pass_call
def rearm(call: Call, scope: str | None) -> None:
    """Begin the grace period anew. A product allows it a few times (3 unless its terms say otherwise); nothing is sent."""
    machine = machine_of(call)
    shelf = choose(call, homes_of(call, scope))
    outcome = actions.rearm(shelf, machine)
    if isinstance(outcome, Refused):
        refuse(outcome)
    entry = status_of(outcome)
    allowed = Terms.read(outcome.opened.product.terms).rearms
    used = 0 if outcome.record is None else outcome.record.rearms
    text = f"{status_text([entry])}\n{row('Rearms', f'{used} of {allowed} used')}"
    call.emit({"products": [entry], "rearms_left": allowed - used}, text)
    call.next("keyturn activate")


@click.command(cls=Verb)
@click.argument("code", nargs=-1, metavar="[CODE|-]")
@click.option(
    "--via", type=click.Choice(["online", "telephone"]), default="online", help="How to ask; by telephone two short codes."
)
@click.option("--words", is_flag=True, help="By telephone: in 12 words instead of 42 digits.")
@scope_option
@ca_option
@pass_call
def validate(
    call: Call, code: tuple[str, ...], via: str, words: bool, scope: str | None, ca_bundle: str | None
) -> int:
    """Check that this copy is still genuine: the publisher's signed list may have withdrawn its right.

    Asks the service for the list; nothing about this computer is sent. With --via telephone a validation ID is shown instead,
    to be said to the publisher, and CODE is the verdict code that comes back. Exits 1 if the copy is not licensed,
    or not genuine.
    """
    machine = machine_of(call)
    shelf = choose(call, homes_of(call, scope))
    if code or via == "telephone":
        from keyturn.client.validating_cli import hear_code, show_id

        return hear_code(call, shelf, machine, code) if code else show_id(call, shelf, machine, words=words)
    with Talk(shelf, load(shelf, machine), machine, ca_bundle=ca_bundle, say=call.say) as talk:
        loaded = talk.validate()
    genuine = loaded.certificate is not None and loaded.withdrawn is None
    number = 0 if loaded.revocations is None else loaded.revocations.number
    said = f"Genuine, by list {number} of the publisher." if genuine else f"Not genuine, or not activated (list {number})."
    entry = status_of(loaded)
    call.emit({"genuine": genuine, "list": number, "products": [entry]}, f"{status_text([entry])}\n{row('Validated', said)}")
    return 0 if genuine else EXIT_REFUSED


def return_seat(call: Call, shelf: Shelf, machine: Machine, ca_bundle: str | None) -> None:
    """Give the seat back (``Talk.give_back``), or end with the service's "no"."""
    with Talk(shelf, load(shelf, machine), machine, ca_bundle=ca_bundle, say=call.say) as talk:
        refused = talk.give_back()
    if refused is not None:
        refuse(refused)


def _consent(call: Call, shelf: Shelf, machine: Machine, token: str, loaded: Loaded) -> None:
    """Show what is sent and ask, once per product. Raises: KeyturnError ``consent_required``."""
    if shelf.consented():
        return
    if policy_of(shelf.vault.home, machine).consent == "organization":
        shelf.keep_consent(loaded.now, "organization")
        return
    if call.yes:
        shelf.keep_consent(loaded.now, "--yes")
        return
    if not call.interactive or call.json:
        raise KeyturnError("consent_required")
    call.say(disclosure_text(disclosure(token, loaded)))
    answer = click.prompt(
        "Send this? [send/telephone/file/later]", type=click.Choice(["send", "telephone", "file", "later"]),
        show_choices=False, err=True,
    )  # fmt: skip
    if answer == "telephone":
        raise KeyturnError(
            "consent_required", "Nothing was sent.", remedy="Activate by telephone instead: `keyturn installation-id`."
        )
    if answer == "file":
        raise KeyturnError(
            "consent_required", "Nothing was sent.", remedy="Make a file instead: `keyturn export request -o F.ktx`."
        )
    if answer != "send":
        raise KeyturnError(
            "consent_required", "Nothing was sent.", remedy="Run `keyturn activate` again when you like."
        )
    shelf.keep_consent(loaded.now, "person")


def _dry_run(
    call: Call,
    shelf: Shelf,
    machine: Machine,
    loaded: Loaded,
    *,
    ask: bool,
    allow_ephemeral: bool,
    ca_bundle: str | None,
) -> None:
    computer = machine.computer(loaded.opened.product, facts=True)
    pairs = hardware.pairs(computer.reading.anchors, loaded.name)
    known: dict[str, Any] = {
        "product": str(loaded.name),
        "product_id": loaded.key.product_id if loaded.key else None,
        "state": loaded.standing.state.word,
        "known_slots": sorted(computer.reading.anchors),
        "unknown_slots": {
            slot: computer.unreadable.get(slot, "not known")
            for slot in hardware.SLOTS
            if slot not in computer.reading.anchors
        },
        "pairs": len(pairs),
        "evidence": hardware.evidence(pairs),
        "vm": computer.vm_kind,
        "container": computer.container,
        "sent": False,
        "answer": None,
    }
    if ask:
        token, loaded = actions.make_request(shelf, machine, allow_ephemeral=allow_ephemeral)
        _consent(call, shelf, machine, token, loaded)
        with Talk(shelf, loaded, machine, ca_bundle=ca_bundle, say=call.say) as talk:
            outcome = talk.send(token, ask=True)
        if isinstance(outcome, Refused):
            refuse(outcome)
        known.update(sent=True, answer=outcome)
    lines = [
        row("Known", ", ".join(known["known_slots"]) or "nothing that tells this computer from others"),
        *(row("Unknown", f"{slot}: {why}") for slot, why in known["unknown_slots"].items()),
        row("Evidence", known["evidence"]),
    ]
    costs = {"same": "no seat: this computer is known", "new": "one seat", "moved": "one of this year's moves"}
    if known["answer"]:
        answer = known["answer"]
        lines.append(
            row(
                "Would cost",
                f"{costs.get(answer['how'], answer['how'])} ({answer['seats_used']} of {answer['seats_limit']} in use)",
            )
        )
    else:
        lines.append("Nothing was sent. Ask the service what it would cost: keyturn activate --dry-run --ask")
    call.emit(known, "\n".join(lines))
