"""Tasks: an action on many computers, kept step by step, so that sleeping computers, crashes and lost replies cost time only.

Keeps: rows of tasks and their items, and what follows from a step's outcome. Leaves to others: what the steps are
(``core.fleet.plan``), doing them (the agents, ``proxying``), who asked (``manager``).

- An item is one computer's part of a task. ``step`` is what is to be done next, ``steps`` what follows; ``open`` until it ends.
- An outcome counts only for the step that the item is at: a repeated one changes nothing.
- What may pass by itself (nobody reached, too many at once) is tried again; everything else ends the item, with code and remedy.
- By telephone a person is in the middle: a code that a computer refuses ends nothing; what was waited for leaves with the item.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from sqlite3 import Connection, Row
from typing import Any

from keyturn.core import documents, fleet, jws
from keyturn.core.documents import Release
from keyturn.core.errors import EXIT_UNREACHABLE, KeyturnError, Refused, entry
from keyturn.core.fleet import Outcome
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName, rfc3339
from keyturn.core.phone import installation
from keyturn.fleet import binding, calls, store

RETRY = 300  # Seconds, unless whoever refused says another time.


def create(
    db: Connection, task: str, action: str, product: str, computers: Sequence[str], *, who: str, now: int,
    way: str | None = None, serial: int | None = None, host: str | None = None,
) -> None:  # fmt: skip
    """Write a task down, with an item for each computer that has none open for this product; older ones are superseded.

    Raises: KeyturnError ``usage`` without computers.
    """
    if not computers:
        raise KeyturnError("usage", "no computer is meant", remedy="See which there are: `keyturn fleet list`.")
    db.execute(
        "INSERT INTO task (id, action, way, product, serial, host, made_by, made_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (task, action, way, product, serial, host, who, now),
    )
    first, *rest = fleet.plan(action, way or "proxy", key=serial is not None)
    for computer in computers:
        calls.forget_of(db, computer, product)
        db.execute(
            "UPDATE item SET step = ?, open = 0, detail = 'superseded by a newer task', changed_at = ?"
            " WHERE computer = ? AND product = ? AND open = 1",
            (fleet.CANCELLED, now, computer, product),
        )
        db.execute(
            "INSERT INTO item (task, computer, product, step, steps, open, changed_at) VALUES (?, ?, ?, ?, ?, 1, ?)",
            (task, computer, product, first, " ".join(rest), now),
        )
    detail = {
        "task": task,
        "action": action,
        "way": way,
        "product": product,
        "serial": serial,
        "computers": len(computers),
    }
    store.audit(db, now, who, "task_created", detail)


def work(db: Connection, computer: str, now: int) -> list[Row]:
    """The items whose next step is the computer's own, and due; with their tasks' columns."""
    steps = ", ".join("?" * len(fleet.AGENT_STEPS))
    return db.execute(
        f"SELECT i.*, t.action, t.way, t.serial, t.host FROM item i JOIN task t ON t.id = i.task"  # noqa: S608 (question marks)
        f" WHERE i.computer = ? AND i.open = 1 AND i.not_before <= ? AND i.step IN ({steps}) ORDER BY t.made_at, t.id LIMIT 8",
        (computer, now, *fleet.AGENT_STEPS),
    ).fetchall()


def busy(db: Connection, computer: str) -> bool:
    """Whether anything is under way for a computer."""
    return db.execute("SELECT 1 FROM item WHERE computer = ? AND open = 1", (computer,)).fetchone() is not None


def take(db: Connection, computer: str, told: Outcome, now: int) -> None:
    """Take in how a step went on a computer.

    1. It must be the step that the item is at.
    2. What failed is tried again, or ends the item; a rebinding that the hardware refuses goes on as an activation, and a
       confirmation ID that is not the right one is asked for again.
    3. Documents are verified. Whose hardware a request shows decides whether an activation that is kept here can be used.
    4. What succeeded goes on to the next step.
    """
    # 1.
    item = db.execute(
        "SELECT i.*, t.action, t.way, t.serial FROM item i JOIN task t ON t.id = i.task"
        " WHERE i.task = ? AND i.computer = ? AND i.product = ? AND i.step = ? AND i.open = 1",
        (told.task, computer, told.product, told.step),
    ).fetchone()
    if item is None:
        return
    # 2.
    if told.code is not None:
        if told.step == "rebind" and item["action"] == "activate":
            go_on(db, item, now, steps=(fleet.CARRY if item["way"] == "file" else fleet.SEND, "accept"))
        elif told.step == "confirm" and told.code in (*fleet.ANOTHER_CODE, *fleet.ANOTHER_ID):
            _ask_again(db, item, told, now)
        else:
            failed(db, item, Refused(told.code, told.detail or told.code, told.retry_after), now, remedy=told.remedy)
        return
    # 3. and 4.
    try:
        if told.step == "request":
            _requested(db, item, told, now)
            return
        if told.step == "release":
            _given_back(db, item, told)
        if told.step == "telephone":
            _shown(db, item, told, now)
            return
    except KeyturnError as error:
        failed(db, item, Refused(error.code, error.detail), now, remedy=error.remedy)
        return
    go_on(db, item, now)


def _requested(db: Connection, item: Row, told: Outcome, now: int) -> None:
    """Keep a computer's request with its hardware baseline, and say what follows. Raises: KeyturnError ``document_foreign``."""
    token, vector, salt = (told.data.get(name) for name in ("request", "vector", "salt"))
    if not isinstance(token, str) or not isinstance(vector, dict) or not isinstance(salt, str):
        raise KeyturnError("document_malformed", "the computer gave no request")
    request, _ = documents.read_request(token)
    if str(request.product) != item["product"] or (item["serial"] is not None and request.serial != item["serial"]):
        raise KeyturnError("document_foreign", "the computer's request is for another product or key")
    baseline = json.dumps({"vector": vector, "salt": salt})
    db.execute(
        "UPDATE item SET document = ?, vector = ? WHERE task = ? AND computer = ?",
        (token, baseline, item["task"], item["computer"]),
    )
    if item["action"] != "deactivate" and binding.find(db, request) is not None:
        go_on(db, item, now, steps=("rebind",))
    elif item["action"] == "rebind":
        raise KeyturnError("rebind_unknown", f"no activation of this hardware is kept for {request.product.slug}")
    else:
        go_on(db, item, now)


def _shown(db: Connection, item: Row, told: Outcome, now: int) -> None:
    """Keep a computer's installation ID until it is answered; a licensed computer gives none, and is through.

    Why the code before it was refused stays to be read. Raises: KeyturnError ``document_malformed``, ``document_foreign``,
    ``code_malformed``, ``code_mistyped``.
    """
    text = told.data.get("installation_id")
    if text is None:
        go_on(db, item, now, steps=())
        return
    if not isinstance(text, str):
        raise KeyturnError("document_malformed", "the computer gave no installation ID")
    shown = installation.read(text)
    if item["serial"] not in (None, shown.serial):
        raise KeyturnError("document_foreign", "the computer's installation ID is for another key")
    calls.keep(db, item, shown.text, now)
    _to(db, item, (fleet.CALL, "confirm"), now)


def _ask_again(db: Connection, item: Row, told: Outcome, now: int) -> None:
    """A confirmation ID was not the right one: wait for another one, for the same installation ID or a new one."""
    steps: tuple[str, ...] = (fleet.CALL, "confirm")
    if told.code in fleet.ANOTHER_ID:
        calls.forget(db, item)
        steps = ("telephone", *steps)
    else:
        calls.answer(db, item, None)
    known = entry(str(told.code))
    db.execute(
        "UPDATE item SET code = ?, detail = ?, remedy = ? WHERE task = ? AND computer = ?",
        (told.code, told.detail or known.title, told.remedy or known.remedy, item["task"], item["computer"]),
    )
    _to(db, item, steps, now)
    store.note(db, item["computer"], now, "confirmation_refused", product=item["product"], detail=told.code)


def _to(db: Connection, item: Row, steps: Sequence[str], now: int) -> None:
    """Move an open item to other steps; what was said of it stays."""
    db.execute(
        "UPDATE item SET step = ?, steps = ?, not_before = 0, changed_at = ? WHERE task = ? AND computer = ?",
        (steps[0], " ".join(steps[1:]), now, item["task"], item["computer"]),
    )


def entered(db: Connection, item: Row, code: str, *, who: str, now: int) -> bool:
    """Give an item the confirmation ID (digits) that somebody typed, for its computer to verify; whether anything is new.

    Another one may take its place as long as the computer has not answered.
    """
    if item["step"] == "confirm" and item["confirmation_id"] == code:
        return False
    calls.answer(db, item, code)
    go_on(db, item, now, steps=("confirm",))
    store.note(db, item["computer"], now, "confirmation_entered", product=item["product"])
    store.audit(db, now, who, "confirmation_entered", {"task": item["task"], "computer": item["computer"]})
    return True


def lacking(db: Connection, computer: str) -> list[Row]:
    """The items that wait for a confirmation ID of a product that is not licensed there, by what the computer said last."""
    return db.execute(
        "SELECT i.*, t.action FROM item i JOIN task t ON t.id = i.task"
        " LEFT JOIN license l ON l.computer = i.computer AND l.product = i.product"
        " WHERE i.computer = ? AND i.open = 1 AND i.step = ? AND coalesce(l.state, '') != 'licensed'",
        (computer, fleet.CALL),
    ).fetchall()


def overtaken(db: Connection, items: Sequence[Row], now: int) -> None:
    """End those of the ``lacking`` items whose product is licensed by now: somebody typed the code at the computer itself."""
    for item in items:
        said = db.execute(
            "SELECT state FROM license WHERE computer = ? AND product = ?", (item["computer"], item["product"])
        ).fetchone()
        if said is not None and said["state"] == "licensed":
            go_on(db, item, now, steps=())


def _given_back(db: Connection, item: Row, told: Outcome) -> None:
    """Keep a computer's release. Raises: KeyturnError ``document_malformed``, ``signature_invalid``, ``document_foreign``."""
    token = str(told.data.get("release"))
    release = Release.read(jws.verify_own(token, Kind.RELEASE).claims())
    if str(release.product) != item["product"]:
        raise KeyturnError("document_foreign", "the computer's release is for another product")
    db.execute("UPDATE item SET document = ? WHERE task = ? AND computer = ?", (token, item["task"], item["computer"]))


def go_on(db: Connection, item: Row, now: int, *, steps: Sequence[str] | None = None) -> None:
    """Move an item to its next step (the first of ``steps`` if they are given), or to its end."""
    left = item["steps"].split() if steps is None else list(steps)
    step, rest = (left[0], left[1:]) if left else (fleet.DONE, [])
    if step == fleet.DONE:
        calls.forget(db, item)
    db.execute(
        "UPDATE item SET step = ?, steps = ?, open = ?, code = NULL, detail = NULL, remedy = NULL, not_before = 0, changed_at = ?"
        " WHERE task = ? AND computer = ?",
        (step, " ".join(rest), step not in fleet.ENDS, now, item["task"], item["computer"]),
    )
    if step == fleet.DONE:
        how = "rebound" if item["step"] == "rebind" else None
        store.note(db, item["computer"], now, f"{item['action']} {fleet.DONE}", product=item["product"], detail=how)


def failed(db: Connection, item: Row, refused: Refused, now: int, *, remedy: str | None = None) -> None:
    """Note what went wrong: an item is tried again later if that may help, and else has failed."""
    known = entry(refused.code)
    again = known.exit == EXIT_UNREACHABLE or refused.retry_after is not None
    step = item["step"] if again else fleet.FAILED
    db.execute(
        "UPDATE item SET step = ?, open = ?, code = ?, detail = ?, remedy = ?, not_before = ?, changed_at = ?"
        " WHERE task = ? AND computer = ?",
        (
            step, again, refused.code, refused.why[:500], remedy or known.remedy,
            now + (refused.retry_after or RETRY) if again else 0, now, item["task"], item["computer"],
        ),
    )  # fmt: skip
    if not again:
        calls.forget(db, item)
        store.note(
            db, item["computer"], now, f"{item['action']} {fleet.FAILED}", product=item["product"], detail=refused.code
        )


def cancel(db: Connection, task: str, *, who: str, now: int) -> int:
    """End what has not ended of a task; how many items that were. What was sent already is answered by the service all the same.

    Raises: KeyturnError ``not_found``.
    """
    find(db, task)
    calls.forget_all(db, task)
    count = db.execute(
        "UPDATE item SET step = ?, open = 0, changed_at = ? WHERE task = ? AND open = 1", (fleet.CANCELLED, now, task)
    ).rowcount
    store.audit(db, now, who, "task_cancelled", {"task": task, "computers": count})
    return count


def find(db: Connection, task: str) -> Row:
    """Raises: KeyturnError ``not_found``."""
    row: Row | None = db.execute("SELECT * FROM task WHERE id = ?", (task,)).fetchone()
    if row is None:
        raise KeyturnError(
            "not_found", f"there is no task {task[:40]!r}", remedy="List them: `keyturn fleet task list`."
        )
    return row


def summary(db: Connection, task: Row) -> dict[str, Any]:
    """A task with its counts: ``done``, ``failed``, ``cancelled``, and ``open`` with those that wait for a sleeping computer."""
    counts = {
        row["step"]: row["n"]
        for row in db.execute("SELECT step, count(*) AS n FROM item WHERE task = ? GROUP BY step", (task["id"],))
    }
    ended = {name: counts.pop(name, 0) for name in fleet.ENDS}
    return {
        "id": task["id"], "action": task["action"], "way": task["way"], "product": task["product"],
        "slug": ProductName.parse(task["product"]).slug, "made_by": task["made_by"], "made_at": rfc3339(task["made_at"]),
        "computers": sum(ended.values()) + sum(counts.values()), **ended, "open": sum(counts.values()), "steps": counts,
    }  # fmt: skip


def items(db: Connection, task: str, outcome: str | None = None, *, limit: int = -1, offset: int = 0) -> list[dict[str, Any]]:
    """The outcome of each computer, in order of their names: all, or those that ended (or are open) so; ``limit`` of them."""
    rows = db.execute(
        "SELECT i.*, c.name FROM item i JOIN computer c ON c.id = i.computer WHERE i.task = ?1"
        " AND (?2 IS NULL OR i.step = ?2 OR (i.open = 1 AND ?2 = 'open')) ORDER BY c.name, c.id LIMIT ?3 OFFSET ?4",
        (task, outcome, limit, offset),
    )
    return [
        {
            "computer": row["computer"], "name": row["name"], "outcome": row["step"], "code": row["code"],
            "detail": row["detail"], "remedy": row["remedy"], "changed_at": rfc3339(row["changed_at"]),
        }
        for row in rows
    ]  # fmt: skip
