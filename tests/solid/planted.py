"""The service with a bug planted in it, to show that a check can fail. Never part of the product.

    python tests/solid/planted.py BUG /path/to/keyturn service run …

Bugs: ``no-guard`` (nothing holds the limit of a key), ``early-answer`` (answers first, commits later), and three that raise
something unexpected: ``crash`` (every exchange), ``crash-mint`` (minting), ``crash-client`` (installing a key).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType


def changed(name: str, *changes: tuple[str, str]) -> ModuleType:
    """Load the module ``name`` from its source with ``changes`` made; each must fit exactly once."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        source = file.read()
    for old, new in changes:
        assert source.count(old) == 1, f"the bug does not fit into {name} any more: {old!r}"
        source = source.replace(old, new)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(source, spec.origin, "exec"), module.__dict__)
    package, _, leaf = name.rpartition(".")
    setattr(importlib.import_module(package), leaf, module)
    return module


def no_guard() -> None:
    """The counter is no longer compared with the limit: not in the decision, not in the update, not by the CHECK."""
    last = '("wal_autocheckpoint", "0", 0)'
    changed("keyturn.edge.database", (last, f'{last}, ("ignore_check_constraints", "ON", 1)'))
    changed("keyturn.service.seats", ("and around.used >= around.limit", "and False"))
    changed("keyturn.service.recording", (" AND seats_used + :count <= seat_limit RETURNING", " RETURNING"))


def early_answer() -> None:
    """A future is done before the commit, which comes a quarter of a second later."""
    answering = (
        "        for waiting, value, failure in done.answers:\n"
        "            if failure is None:\n"
        "                waiting.set_result(value)\n"
        "            else:\n"
        "                waiting.set_exception(failure)\n"
    )
    committing = '        try:\n            connection.execute("COMMIT")\n'
    changed(
        "keyturn.edge.writer",
        (answering, ""),
        (committing, f"{answering}        time.sleep(0.25)\n{committing}"),
    )


def crash() -> None:
    """Every exchange ends in an exception that nobody expected, whose message holds all that a careless one could."""
    changed(
        "keyturn.service.recording",
        ("    rows = _Rows()\n    while", '    raise RuntimeError(f"{asked}")\n    while'),
    )


def crash_mint() -> None:
    """Minting ends so too, and the message holds the new key; ``PLANTED`` names a file that is told which it was."""
    line = '    seats.write_audit(db, ids, planned.now, actor, "key.minted"'
    told = '    open(__import__("os").environ["PLANTED"], "w").write(kept[0].text)\n'
    changed(
        "keyturn.service.catalog",
        (line, f'{told}    raise RuntimeError(f"{{kept[0].text}} {{made}} {{planned}}")\n{line}'),
    )


def crash_client() -> None:
    """Installing a key ends so: the message holds the key, the environment and what was read of the computer."""
    said = 'f"{text} {dict(machine.environ)} {machine.computer(loaded.opened.product).reading}"'
    changed("keyturn.client.actions", ("    name = loaded.name\n", f"    raise RuntimeError({said})\n"))


BUGS = {
    "crash": crash,
    "crash-mint": crash_mint,
    "crash-client": crash_client,
    "no-guard": no_guard,
    "early-answer": early_answer,
}


def main() -> object:
    BUGS[sys.argv[1]]()
    sys.argv = sys.argv[2:]
    from keyturn.cli import main as keyturn

    return keyturn()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[arg-type]
