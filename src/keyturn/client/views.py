"""What a person reads: the status of products, in words and within 80 columns."""

from __future__ import annotations

from typing import Any

from keyturn.core import hardware
from keyturn.edge.voice import style

_STATES = {
    "unlicensed": ("not licensed", "red"),
    "licensed": ("licensed", "green"),
    "initial_grace": ("not activated yet", "yellow"),
    "out_of_tolerance_grace": ("activate again", "yellow"),
    "non_genuine_grace": ("not genuine", "yellow"),
    "notification": ("not activated", "red"),
    "extended_grace": ("extended grace", "yellow"),
}
_REASONS = {
    "not_activated": "no activation yet",
    "store_unwritable": "no grace can begin, because nothing can be noted in this store",
    "released": "the seat was returned",
    "term_ended": "the license's term has ended",
    "hardware_changed": "the hardware is not the one that was activated",
    "hardware_unreadable": "the hardware cannot be read",
    "anchors_appeared": "this computer shows hardware now that it did not show at activation",
    "reissue_due": "the publisher replaced the key that signed this license",
    "clock_behind": "this computer's clock is behind a time it has already seen",
    "document_foreign": "the stored license belongs to another computer or installation",
    "signature_invalid": "the stored license was changed",
    "store_damaged": "the store is damaged",
}


def status_text(entries: list[dict[str, Any]]) -> str:
    """One paragraph per product; for none, how to begin."""
    if not entries:
        return "No product is added on this computer.\nBegin with: keyturn activate --product-file FILE"
    return "\n\n".join(_paragraph(entry) for entry in entries)


def _paragraph(entry: dict[str, Any]) -> str:
    word, colour = _STATES[entry["state"]]
    title = (
        entry["name"]
        + (f" {entry['edition']}" if entry["edition"] else "")
        + (" (test product)" if entry["test"] else "")
    )
    lines = [f"{style(title, bold=True)}: {style(word, fg=colour, bold=True)}"]
    if entry["state"] == "licensed":
        lines.append(
            row(
                "Valid",
                f"until {_day(entry['valid_until'])}, {_days(entry['days_left'])}"
                if entry["valid_until"]
                else "for ever",
            )
        )
    elif entry["grace_until"]:
        use = "full function" if entry["usable"] else "no function"
        left = _days(entry["days_left"]) if entry["days_left"] else "over"
        lines.append(row("Grace", f"until {_day(entry['grace_until'])}, {left}; {use}"))
    if entry["reason"]:
        why = _REASONS.get(entry["reason"], entry["reason"].replace("_", " "))
        if entry["changed"] and entry["reason"] == "hardware_changed":
            why += f": {hardware.describe(entry['changed'])}"
        lines.append(row("Why", why))
    if entry["product_id"]:
        lines.append(
            row("Product ID", entry["product_id"] + (f", key …{entry['partial_key']}" if entry["partial_key"] else ""))
        )
    if entry["activation_id"]:
        lines.append(row("Activation", f"{entry['activation_id']} by {entry['issuer']}"))
        weak = (
            "weak: the installation's key alone tells this computer from others"
            if entry["evidence"] == "weak"
            else "strong"
        )
        lines.append(row("Evidence", weak))
    if entry["possession"] == "unproven" and entry["activation_id"]:
        lines.append(row("Possession", "unproven: this account cannot read the installation's key"))
    if entry["features"]:
        lines.append(row("Features", ", ".join(entry["features"])))
    if entry["remedy"]:
        lines.append(row("Next", entry["remedy"]))
    return "\n".join(lines)


def row(name: str, value: str) -> str:
    """A label and its value, wrapped to 80 columns with the value's lines under one another."""
    import textwrap

    return textwrap.fill(value, 80, initial_indent=f"  {name:<11} ", subsequent_indent=" " * 14, break_on_hyphens=False)


def _day(text: str) -> str:
    return text[:10]


def _days(count: int) -> str:
    return f"{count} day left" if count == 1 else f"{count} days left"
