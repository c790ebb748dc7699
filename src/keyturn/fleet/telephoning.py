"""What an administrator does at the manager for a telephone: looks at what is to be read out, and types the answers.

Keeps: whose a confirmation ID is, and when it is refused here already. Leaves to others: rows (``calls``), steps (``tasks``),
words (the verbs, the console).

- A slip is found here, by the checks of groups and words; that a code is right is for its computer to find, at its next check-in.
- With the extra ``phone`` the signature is tried against each ID that waits, so nobody has to say which computer a code is for,
  and one that is for another computer is not sent on its way. A pairing takes half a second, so at most ``MOST`` are tried.
- Nothing is acknowledged before it is durable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core.containers import Opened
from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName, rfc3339
from keyturn.core.phone import confirmation, installation, spelling
from keyturn.core.phone.confirmation import ConfirmationID
from keyturn.core.phone.installation import InstallationID
from keyturn.edge import bls
from keyturn.edge.words import english
from keyturn.fleet import calls, manager, selecting, tasks
from keyturn.fleet.manager import FleetManager
from keyturn.fleet.selecting import Selector

MOST = 64  # Computers whose IDs are tried for one code.
_LIST = "See what waits: `keyturn fleet telephone list`."


class Waiting(NamedTuple):
    """One installation ID that waits. ``page`` is the publisher's, ``entered`` whether an answer is on its way.

    ``code``, ``detail`` and ``remedy`` say why the computer refused the answer before, if it did.
    """

    task: str
    computer: str
    name: str
    product: ProductName
    title: str
    id: InstallationID
    page: str
    asked_at: int
    seen_at: int | None
    entered: bool
    code: str | None
    detail: str | None
    remedy: str | None

    @property
    def address(self) -> str:
        """What its QR code says."""
        return self.id.address(self.page)

    def as_json(self) -> dict[str, Any]:
        return {
            "task": self.task, "computer": self.computer, "name": self.name, "product": str(self.product),
            "slug": self.product.slug, "installation_id": self.id.text, "page": self.page, "address": self.address,
            "asked_at": rfc3339(self.asked_at), "last_seen": rfc3339(self.seen_at), "entered": self.entered,
            "code": self.code, "detail": self.detail, "remedy": self.remedy,
        }  # fmt: skip


class Entered(NamedTuple):
    """Whose a code is. ``changed``: nobody entered it before. ``verified``: it holds, as far as can be told here."""

    computer: str
    name: str
    product: ProductName
    changed: bool
    verified: bool


def waiting(fleet: FleetManager, computer: str | None = None, product: str | None = None) -> list[Waiting]:
    """What waits, in order of the computers' names; of one ``computer`` (id or name) and ``product`` (slug or name), or all.

    Raises: KeyturnError ``not_found`` for a computer that nobody knows.
    """
    rows, opened = fleet.database.read(lambda db: _rows(fleet, db, computer, product))
    return [_shown(row, opened[row["product"]]) for row in rows]


def one(fleet: FleetManager, computer: str, product: str | None = None) -> Waiting:
    """The one ID of a computer that waits. Raises: KeyturnError ``not_found``, ``product_ambiguous``."""
    found = waiting(fleet, computer, product)
    if not found:
        raise KeyturnError("not_found", f"no installation ID of {computer} waits for an answer", remedy=_LIST)
    if len(found) > 1:
        raise KeyturnError(
            "product_ambiguous", f"{computer} waits for {', '.join(each.product.slug for each in found)}",
            remedy="Say which: --product SLUG.",
        )  # fmt: skip
    return found[0]


def name_of(fleet: FleetManager, computer: str) -> str:
    """What a computer is called. Raises: KeyturnError ``not_found``."""

    def look(db: Connection) -> str:
        (found,) = selecting.choose(db, Selector(computers=(computer,)))
        return str(db.execute("SELECT name FROM computer WHERE id = ?", (found,)).fetchone()["name"])

    return fleet.database.read(look)


def able() -> bool:
    """Whether codes can be verified here: the extra ``phone`` is installed."""
    try:
        bls.is_key(b"")
    except KeyturnError:
        return False
    return True


def enter(fleet: FleetManager, text: str, who: str, computer: str | None = None, product: str | None = None) -> Entered:
    """Take a confirmation ID that somebody typed; without ``computer`` it is found whose it is.

    1. The code is whole, and its checks hold.
    2. Whose it is: the signature says it, or whoever typed it.
    3. It waits for that computer's next check-in, durable.

    Raises: KeyturnError ``code_malformed``, ``code_mistyped``, ``code_foreign``, ``not_found``, ``product_ambiguous``,
    ``extra_missing``, ``trust_invalid``, ``usage``.
    """
    # 1.
    code = confirmation.read(text, english() if spelling.in_words(text) else None)
    # 2.
    rows, opened = fleet.database.read(lambda db: _rows(fleet, db, computer, product))
    if not rows:
        whose = "" if computer is None else f" of {computer}"
        raise KeyturnError("not_found", f"no installation ID{whose} waits for an answer", remedy=_LIST)
    verified = able()
    row = _whose(fleet, code, rows, opened, computer) if verified else None
    if row is None:
        verified, row = False, _said(rows, computer)

    # 3.
    def write(db: Connection) -> bool:
        now = [each for each in calls.waiting(db, [row["computer"]]) if each["task"] == row["task"]]
        if not now or now[0]["installation_id"] != row["installation_id"]:
            raise KeyturnError("not_found", f"the installation ID of {row['name']} waits no longer", remedy=_LIST)
        return tasks.entered(db, now[0], code.text, who=who, now=fleet.clock())

    changed = fleet.database.write_now(write)
    return Entered(row["computer"], row["name"], ProductName.parse(row["product"]), changed, verified)


def _whose(
    fleet: FleetManager, code: ConfirmationID, rows: Sequence[Row], opened: dict[str, Opened], computer: str | None
) -> Row | None:
    """The row whose ID this code answers, by its signature; ``None`` if a newer key than those known here has made it.

    Raises: KeyturnError ``code_foreign``, ``usage`` where too many wait.
    """
    if len(rows) > MOST:
        raise KeyturnError(
            "usage", f"{len(rows)} installation IDs wait, and at most {MOST} are tried for one code",
            remedy="Say which computer it is for, by its name.",
        )  # fmt: skip
    found = _first(code, rows, opened)
    if found is not None:
        return found
    if not any(code.key_index == key.key_index for each in opened.values() for key in _keys(each)):
        return None  # Made with a newer key than this manager has heard of: the computer may have.
    if computer is None:
        raise KeyturnError("code_foreign", f"it answers none of the {len(rows)} installation IDs that wait here")
    others, beside = fleet.database.read(lambda db: _rows(fleet, db, None, None))
    right = _first(code, [row for row in others if row["computer"] != rows[0]["computer"]][:MOST], beside)
    if right is None:
        raise KeyturnError("code_foreign", f"it does not answer the installation ID of {rows[0]['name']}")
    raise KeyturnError(
        "code_foreign", f"it answers the installation ID of {right['name']}, not of {rows[0]['name']}",
        remedy=f"Enter it for {right['name']}.",
    )  # fmt: skip


def _said(rows: Sequence[Row], computer: str | None) -> Row:
    """The only row there is. Raises: KeyturnError ``extra_missing``, ``trust_invalid``, ``product_ambiguous``."""
    if len(rows) == 1:
        return rows[0]
    if computer is None and able():
        raise KeyturnError(
            "trust_invalid", "the code was made with a key that this manager has not heard of",
            remedy="Add the newest product file (`keyturn fleet init FILE.ktproduct`), or say which computer the code is for.",
        )  # fmt: skip
    if computer is None:
        raise KeyturnError(
            "extra_missing", "to find whose a code is, this manager needs a part: pip install 'keyturn[phone]'",
            remedy="Install it, or say which computer the code is for.",
        )  # fmt: skip
    raise KeyturnError(
        "product_ambiguous", f"{rows[0]['name']} waits for {len(rows)} products", remedy="Say which: --product SLUG."
    )


def _first(code: ConfirmationID, rows: Iterable[Row], opened: dict[str, Opened]) -> Row | None:
    """The row whose ID this code answers; those that have no answer yet are tried first."""
    for row in sorted(rows, key=lambda row: row["confirmation_id"] is not None):
        product = opened[row["product"]]
        try:
            confirmation.confirmed(
                code, product.product.name, installation.read(row["installation_id"]), _keys(product), bls.holds
            )
        except KeyturnError as error:
            if error.code != "code_foreign":
                raise
            continue
        return row
    return None


def _keys(opened: Opened) -> Any:
    return opened.chain.confirming(opened.product.name.test)


def _rows(
    fleet: FleetManager, db: Connection, computer: str | None, product: str | None
) -> tuple[list[Row], dict[str, Opened]]:
    meant = None if computer is None else selecting.choose(db, Selector(computers=(computer,)))
    name = None if product is None else manager.named_product(db, product)["name"]
    rows = [row for row in calls.waiting(db, meant) if name in (None, row["product"])]
    return rows, {each: fleet.opened(db, each) for each in {row["product"] for row in rows}}


def _shown(row: Row, opened: Opened) -> Waiting:
    return Waiting(
        row["task"], row["computer"], row["name"], opened.product.name, opened.product.title,
        installation.read(row["installation_id"]), f"{opened.product.service_url}/phone", row["asked_at"], row["seen_at"],
        row["confirmation_id"] is not None, row["code"], row["detail"], row["remedy"],
    )  # fmt: skip
