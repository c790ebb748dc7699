"""What a person reads: the status of products, in words of their language and within 80 columns."""

from __future__ import annotations

from typing import Any

from keyturn.core import errors, hardware
from keyturn.edge.language import noted, plural
from keyturn.edge.language import text as _
from keyturn.edge.voice import style

_STATES = {
    "unlicensed": (noted("not licensed"), "red"),
    "licensed": (noted("licensed"), "green"),
    "initial_grace": (noted("not activated yet"), "yellow"),
    "out_of_tolerance_grace": (noted("activate again"), "yellow"),
    "non_genuine_grace": (noted("not genuine"), "yellow"),
    "notification": (noted("not activated"), "red"),
    "extended_grace": (noted("extended grace"), "yellow"),
}
_REASONS = {
    "not_activated": noted("no activation yet"),
    "store_unwritable": noted("no grace can begin, because nothing can be noted in this store"),
    "released": noted("the seat was returned"),
    "term_ended": noted("the license's term has ended"),
    "hardware_changed": noted("the hardware is not the one that was activated"),
    "hardware_unreadable": noted("the hardware cannot be read"),
    "anchors_appeared": noted("this computer shows hardware now that it did not show at activation"),
    "key_blocked": noted("the publisher blocked the product key"),
    "activation_reclaimed": noted("the publisher's staff took the seat back"),
    "reissue_due": noted("the publisher replaced the key that signed this license"),
    "clock_behind": noted("this computer's clock is behind a time it has already seen"),
    "document_foreign": noted("the stored license belongs to another computer or installation"),
    "signature_invalid": noted("the stored license was changed"),
    "code_malformed": noted("the stored confirmation ID was changed"),
    "code_mistyped": noted("the stored confirmation ID was changed"),
    "code_foreign": noted("the stored confirmation ID was changed"),
    "extra_missing": noted("the part that verifies telephone codes is not installed"),
    "store_damaged": noted("the store is damaged"),
}
# What is left to do where the organization's policy forbids the publisher's service.
CARRY = noted("Your organization's policy does not allow contact; carry a file: `keyturn export request -o F.ktx`.")
ASK = noted("Your organization's policy does not allow it; ask whoever keeps the policy.")
# Errors that end up in a status, because a stored file does not verify or cannot be read: their remedies are translated.
SHOWN = (
    "file_malformed", "document_malformed", "document_expired", "document_foreign", "signature_invalid", "trust_invalid",
    "issuer_revoked", "publisher_mismatch", "input_too_large", "permission_denied", "storage_failed", "store_damaged",
    "product_missing", "policy_malformed",
)  # fmt: skip


def status_text(entries: list[dict[str, Any]]) -> str:
    """One paragraph per product; for none, how to begin."""
    if not entries:
        begin = _("Begin with: {command}").format(command="keyturn activate --product-file FILE")
        return f"{_('No product is added on this computer.')}\n{begin}"
    return "\n\n".join(_paragraph(entry) for entry in entries)


def _paragraph(entry: dict[str, Any]) -> str:
    word, colour = _STATES[entry["state"]]
    lines = [f"{style(title(entry), bold=True)}: {style(_(word), fg=colour, bold=True)}"]
    if entry["state"] == "licensed":
        until = _("until {date}, {left}").format(date=_day(entry["valid_until"]), left=days_left(entry["days_left"] or 0))
        lines.append(row(_("Valid"), until if entry["valid_until"] else _("for ever")))
    elif entry["grace_until"]:
        left = days_left(entry["days_left"]) if entry["days_left"] else _("over")
        use = _("full function") if entry["usable"] else _("no function")
        lines.append(row(_("Grace"), f"{_('until {date}, {left}').format(date=_day(entry['grace_until']), left=left)}; {use}"))
    if entry["reason"]:
        lines.append(row(_("Why"), why(entry["reason"], entry["changed"])))
    if entry["product_id"]:
        key = _(", key …{partial}").format(partial=entry["partial_key"]) if entry["partial_key"] else ""
        lines.append(row(_("Product ID"), entry["product_id"] + key))
    if entry["activation_id"]:
        by = _("{activation} by {issuer}").format(activation=entry["activation_id"], issuer=entry["issuer"])
        lines.append(row(_("Activation"), by))
        weak = _("weak: the installation's key alone tells this computer from others")
        lines.append(row(_("Evidence"), weak if entry["evidence"] == "weak" else _("strong")))
    if entry["possession"] == "unproven" and entry["activation_id"]:
        lines.append(row(_("Possession"), _("unproven: this account cannot read the installation's key")))
    if entry["features"]:
        lines.append(row(_("Features"), ", ".join(entry["features"])))
    if entry.get("policy"):
        lines.append(row(_("Policy"), entry["policy"]))
    if entry["remedy"]:
        lines.append(row(_("Next"), _(entry["remedy"])))
    return "\n".join(lines)


def title(entry: dict[str, Any]) -> str:
    """The product's name for people, with its edition, and said if it is a test product."""
    edition = f" {entry['edition']}" if entry["edition"] else ""
    return f"{entry['name']}{edition}{' ' + _('(test product)') if entry['test'] else ''}"


def why(reason: str, changed: list[str]) -> str:
    """A reason in words, with what changed of the hardware."""
    known = _REASONS.get(reason)
    if known is None and reason in errors.CATALOGUE:
        known = errors.CATALOGUE[reason].title
    words = _(known) if known else reason.replace("_", " ")
    return f"{words}: {hardware.describe(changed, _)}" if changed and reason == "hardware_changed" else words


def row(name: str, value: str) -> str:
    """A label and its value, wrapped to 80 columns with the value's lines under one another."""
    import textwrap

    return textwrap.fill(value, 80, initial_indent=f"  {name:<11} ", subsequent_indent=" " * 14, break_on_hyphens=False)


def days_left(count: int) -> str:
    """How many days there are left."""
    return plural("{count} day left", "{count} days left", count).format(count=count)


def _day(text: str | None) -> str:
    return (text or "")[:10]
