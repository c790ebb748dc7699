"""The program: ``paintbox draw``, ``paintbox activate``, ``paintbox status``. Everything about its license is here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from keyturn import Client, KeyturnError, NotLicensed, Status
from paintbox import picture

# The product file is part of the package, so it is what pins the product: no file outside can put another in its place.
PRODUCT_FILE = Path(__file__).with_name("paintbox.ktproduct")
VERSION = "1.0"


def main(arguments: list[str] | None = None, *, license: Client | None = None, ask: Callable[[str], str] = input) -> int:
    """Run the program; tests bring a ``license`` of their own and answer what it asks."""
    options = _parser().parse_args(arguments)
    try:
        license = license or Client.from_file(PRODUCT_FILE, version=VERSION)
        return int(options.run(options, license, ask))
    except NotLicensed as no:
        _say(f"{no.detail if no.code == 'feature_not_licensed' else _reason(no.reason)}.\n{_remedy(no.remedy)}")
        return no.exit
    except KeyturnError as error:
        _say(f"{error.detail} ({error.code}).\n{_remedy(error.remedy)}")
        return error.exit
    except (ValueError, OSError) as error:
        _say(str(error))
        return 2


def draw(options: argparse.Namespace, license: Client, _ask: Callable[[str], str]) -> int:
    """Draw; more than one layer is what is paid for."""
    shapes = [picture.Shape.parse(text) for text in options.shapes]
    _remind(license.require("layers" if len(picture.layers_of(shapes)) > 1 else None))
    options.output.write_text(picture.draw(shapes), encoding="utf-8")
    print(f"Drew {options.output}.")
    return 0


def activate(options: argparse.Namespace, license: Client, ask: Callable[[str], str]) -> int:
    """Ask for the key, show what would be sent, and send it if the person agrees."""
    key = None
    if license.status().details["product_id"] is None:
        key = ask("Product key (25 characters, on your receipt): ").strip()

    def consent(request: Mapping[str, Any]) -> bool:
        _say("To activate, Paintbox sends this to its publisher, once:")
        for name, value in _flat(request):
            _say(f"  {name.replace('_', ' '):<22} {value}")
        return ask("Send this? [y/N] ").strip().lower() in ("y", "yes")

    status = license.activate(key, consent=True if options.yes else consent, progress=_say)
    print(f"Thank you! Paintbox {status.edition} is licensed.")
    return 0


def show_status(_options: argparse.Namespace, license: Client, _ask: Callable[[str], str]) -> int:
    status = license.status()
    print(f"Paintbox {status.edition or ''}".rstrip() + f": {status.state.replace('_', ' ')}")
    _remind(status)
    return 0


def _flat(claims: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every field of the request with its value; a fact that is not known says why."""
    for name, value in claims.items():
        if not isinstance(value, Mapping):
            yield name, value
        elif "unavailable" in value:
            yield name, f"(not sent: {value['unavailable']})"
        elif name == "pairs":  # For each version of the scheme: hashes of two parts of the computer together.
            yield from ((f"hash of {pair}", tag) for pairs in value.values() for pair, tag in pairs.items())
        else:
            yield from ((f"hash of {line}", tag) for line, tag in value.items()) if name == "tags" else _flat(value)


def _remind(status: Status) -> None:
    """Say nothing when all is well; otherwise one sentence and one action."""
    if status.warning is not None:
        _say(_remedy(status.warning))
    elif status.state != "licensed":
        left = f"{status.days_left} day{'' if status.days_left == 1 else 's'} left" if status.days_left else "its time is over"
        _say(f"{_reason(status.reason)}, {left}. {_remedy(status.remedy)}")
    elif status.reason or status.remedy:
        _say(_remedy(status.remedy))


def _reason(code: str | None) -> str:
    known = {
        "not_activated": "Paintbox is not activated yet",
        "hardware_changed": "This is not the computer Paintbox was activated on",
        "term_ended": "The license of Paintbox has ended",
    }
    return known.get(code or "", f"Paintbox is not licensed ({(code or 'unknown').replace('_', ' ')})")


def _remedy(text: str | None) -> str:
    """A person who uses Paintbox has its commands at hand, not Keyturn's."""
    return (text or "Activate it: `keyturn activate`.").replace("`keyturn activate`", "`paintbox activate`")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paintbox", description="Draw pictures.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    verb = verbs.add_parser("draw", help="draw shapes into a file")
    verb.add_argument("shapes", nargs="+", metavar="[LAYER/]KIND:NUMBERS:COLOUR")
    verb.add_argument("-o", "--output", type=Path, required=True, metavar="F.svg")
    verb.set_defaults(run=draw)
    verb = verbs.add_parser("activate", help="enter the product key and activate")
    verb.add_argument("--yes", action="store_true", help="agree to what is sent without being shown it")
    verb.set_defaults(run=activate)
    verbs.add_parser("status", help="say whether Paintbox is licensed").set_defaults(run=show_status)
    return parser
