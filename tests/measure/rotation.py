"""What a rotation costs: throughput while keys change, and how fast everything a key signed is signed again."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from keyturn.edge import keystore
from keyturn.service.home import ServiceHome
from measure.rows import Row
from measure.service import Bench, ceiling

PART = "Rotation"


def while_keys_change(folder: Path, count: int = 4_000) -> list[Row]:
    """The same load with and without a key replaced in its middle, by the real command, with the service running."""
    bench = Bench(folder, "rotation")
    with bench.publisher.running():
        bench.load(count)
        plain = bench.load(count)
        signer = next(iter(keystore.load_all(bench.publisher.home / "keys").values()))
        done: list[int] = []

        def replace() -> None:
            found = bench.publisher.service("issuing-key", "retire", signer.kid.lstrip("-"), "--stolen", "--yes")
            done.append(found.ok().json["bundle"])

        thread = threading.Timer(plain.seconds / 3, replace)
        thread.start()
        changed = bench.load(count)
        thread.join()
    assert done == [2], "the key was not replaced"
    what = "activations per second while an issuing key is replaced, against the same load without"
    return [Row(PART, what, changed.rate / plain.rate, f"{changed.rate:,.0f}/s and {plain.rate:,.0f}/s", least=0.8)]


def issued_again(folder: Path, count: int = 5_000) -> list[Row]:
    """Everything a stolen key signed, recorded and signed again by the next one."""
    bench = Bench(folder, "again")
    with bench.publisher.running():
        bench.load(count)
    home = bench.publisher.home
    kid = next(kid for kid in keystore.load_all(home / "keys") if _signed(bench, kid) == count)
    bench.publisher.service("issuing-key", "retire", kid.lstrip("-"), "--stolen", "--yes").ok()
    began = time.perf_counter()
    found = bench.publisher.service("issuing-key", "reissue", patience=600).ok().json["reissued"]
    seconds = time.perf_counter() - began
    assert found == count, f"{found} of {count} were issued again"
    what = "certificates issued again by `issuing-key reissue`, against one core's signatures (OpenSSL)"
    return [Row(PART, what, count / seconds / ceiling().sign, f"{count / seconds:,.0f}/s")]


def _signed(bench: Bench, kid: str) -> int:
    database = ServiceHome(bench.publisher.home, {}).open_database()
    try:
        with_it = "SELECT count(*) AS n FROM intent WHERE kid = ?"
        return int(database.read(lambda db: db.execute(with_it, (kid,)).fetchone()["n"]))
    finally:
        database.close()


def rotation(folder: Path) -> list[Row]:
    """Both."""
    for name in ("changing", "again"):
        (folder / name).mkdir()
    return while_keys_change(folder / "changing") + issued_again(folder / "again")


