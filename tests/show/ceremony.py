"""Years of rotations and three hand-overs of the root: nobody who slept is locked out, and nobody who stole decides."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import ceremonies
import in_time
from ceremonies import Safes
from keyturn.core import jws, trust
from keyturn.core.jws import Kind
from keyturn.core.trust import Chain
from keyturn.edge import keystore
from keyturn.edge.keystore import Signer
from keyturn.testing.computers import synthetic
from programs import PATIENCE, Home, Publisher, computer, environment, run
from show.stage import Stage, item

# Days of rotations: as often as the first alarm asks for one, and once more before the third bundle is due anyway.
ROTATIONS = (*range(75, 751, 75), 790)
LAST = 800  # The day on which everybody wakes up; the TLS certificate of init ends on day 825.


class Sleepers(NamedTuple):
    """Computers that knew bundle 1 and heard of nothing since, by what they had done before."""

    licensed: list[Home]
    returning: list[Home]
    asked: list[Home]
    added: list[Home]
    key: str

    @property
    def every(self) -> list[Home]:
        return [*self.licensed, *self.returning, *self.asked, *self.added]


def asleep(publisher: Publisher, folder: Path, count: int) -> Sleepers:
    """``count`` of each kind, with the service running: licensed, licensed, with a request in a file, with the product only."""
    publisher.service("org", "create", "globex").ok()
    product = publisher.product("paintest", "--test")
    (minted,) = publisher.mint("paintest", "--channel", "mak", "--org", "globex", "--limit", "99")
    key = str(minted["key"])
    homes = [
        Home(folder / f"pc-{n}" / "home", sysroot=computer(folder / f"sys-{n}", synthetic(700 + n))) for n in range(4 * count)
    ]
    found = Sleepers(homes[0::4], homes[1::4], homes[2::4], homes[3::4], key)
    for home in (*found.licensed, *found.returning):
        home.activate(product, key).ok()
    for home in (*found.asked, *found.added):
        home("product", "add", str(product)).ok()
    for home in found.asked:
        home("install-key", "-", input=key).ok()
        home("export", "request", "-o", str(home.path.parent / "asked.ktx")).ok()
    return found


def woken(found: Sleepers, product: Path) -> None:
    """Each by the way that is left to it; afterwards all are licensed. Raises: AssertionError for one that is not."""
    for home in found.licensed:
        assert home.status()["state"] == "licensed", "who was licensed is not any more"
    for home in found.returning:
        home("deactivate", "--yes").ok()
        home("activate", "--yes").ok()
    for home in found.asked:
        file = str(home.path.parent / "asked.ktx")
        run(["relay", file], cwd=home.path.parent).ok()
        home("import", file).ok()
    for home in found.added:
        home.activate(product, found.key).ok()
    assert all(home.status()["state"] == "licensed" for home in found.every)


def bundles_of(publisher: Publisher) -> list[str]:
    return list(json.loads((publisher.home / "bundles.json").read_text())["bundles"])


def known_to(home: Home) -> list[str]:
    return list(json.loads((home.shelf / "product.json").read_text())["bundles"])


@contextmanager
def on_day(day: int, library: Path) -> Iterator[None]:
    """Every program that is started inside runs on another day."""
    before = {name: os.environ.get(name) for name in ("LD_PRELOAD", "CLOCK_SHIFT")}
    # The suite itself may run on another day already.
    os.environ |= {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(int(before["CLOCK_SHIFT"] or 0) + day * 86_400)}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@item("Rotation: two years and a quarter of real rotations, three trust bundles slept through, nobody locked out")
def rotations(stage: Stage) -> str:
    folder = stage.place("rotations")
    library = in_time.build(stage.place("shift"))
    publisher = Publisher(folder / "publisher", probe=False)
    with publisher.running():
        found = asleep(publisher, folder, 2)
    first, added, alarmed = bundles_of(publisher), 0, []
    for day in ROTATIONS:
        with on_day(day - 1, library):
            alarmed.append(bool(publisher.service("status").ok().json["alarms"]))
        with on_day(day, library):
            done = publisher.service("issuing-key", "rotate").ok().json
            added += done["authorised"]
            status = publisher.service("status").ok().json
            assert status["alarms"] == [], f"on day {day} after the rotation: {status['alarms']}"
            assert status["authorised_days"] >= 730
    assert alarmed == [True] * 10 + [False], f"an alarm before each of the first ten: {alarmed}"
    bundles = bundles_of(publisher)
    assert len(bundles) == 4, f"{len(bundles)} bundles"
    with on_day(LAST, library), publisher.running():
        asked = found.returning[0]
        before = _kid(asked)
        woken(found, publisher.folder / "paintest.ktproduct")
        after = _kid(asked)
        status = publisher.service("status").ok().json
    assert (status["alarms"][0]["alarm"], len(status["alarms"])) == ("tls_certificate_ends", 1)
    lines = [json.loads(line) for line in publisher.log().splitlines() if '"alarm"' in line]
    assert [line["alarm"] for line in lines] == ["tls_certificate_ends"], lines
    chain = trust.verify_chain(bundles, trust.pin_of(first[0]))
    assert before in chain.bundles[0].keys
    assert after in chain.newest.keys
    assert before not in chain.newest.keys
    for home in (*found.returning, *found.asked, *found.added):
        assert known_to(home) == bundles
    return (
        f"{len(alarmed)} rotations, {added} keys authorised by {len(bundles) - 1} bundles, an alarm before each that was due and"
        f" none after; on day {LAST} {len(found.every)} sleepers are licensed, by keys that did not exist when they fell asleep"
    )


def _kid(home: Home) -> str:
    value = json.loads((home.shelf / "license.json").read_text())
    return jws.read_header(value["certificate"], Kind.CERTIFICATE).kid


class Handed(NamedTuple):
    """What three ceremonies left: the chain, the drafts, and the stolen copy of the first root."""

    chain: Chain
    drafts: list[Path]
    stolen: Path


def hand_overs(publisher: Publisher, safes: Safes, folder: Path) -> Handed:
    """1 of 1, to 3 of 5, to 3 of 5 with more keys, to 2 of 3. The service goes on."""
    root = publisher.home / "root"
    drafts = [safes.hand_over(publisher, "two", safes.make("abcde"), 3, root, "a", "b", "c")]
    stolen = folder / "stolen.key"
    shutil.copy(root / "root-1.key", stolen)
    more = safes.draft(publisher, "three", "--add-keys", "5")
    safes.sign(more, "c", "d", "e").ok()
    publisher.service("root", "adopt", str(more)).ok()
    drafts += [more, safes.hand_over(publisher, "four", safes.make("fgh"), 2, "a", "b", "e", "f", "h")]
    texts = bundles_of(publisher)
    chain = trust.verify_chain(texts, trust.pin_of(texts[0]))
    assert [(b.threshold, len(b.roots)) for b in chain.bundles] == [(1, 1), (3, 5), (3, 5), (2, 3)]
    return Handed(chain, drafts, stolen)


def refused(publisher: Publisher, safes: Safes, handed: Handed, clients: list[Home], folder: Path) -> int:
    """Everything that a thief of a retired root, or k-1 of today's, could try; the result is how often it was refused."""
    chain, tried = handed.chain, 0
    before = bundles_of(publisher)
    # A retired root signs nothing here any more, neither the first nor one of the five.
    draft = safes.draft(publisher, "five", "--add-keys", "1")
    for retired in (handed.stolen, "a"):
        result = safes.run("sign", str(draft), "--root", str(retired), "--yes")
        assert (result.code, "signs nothing here" in result.out) == ("trust_invalid", True), result.out
        tried += 1
    # Nor do bundles count that were signed elsewhere.
    document = json.loads((publisher.folder / "paintest.ktproduct").read_text())
    forked, thief = ceremonies.fork(chain.texts[:1], [_signer(handed.stolen)])
    few, _ = ceremonies.fork(chain.texts, [_signer(safes.folder / "f" / "f.key")])
    for name, texts in {"fork": forked, "few": few}.items():
        path = folder / f"{name}.ktproduct"
        path.write_bytes(ceremonies.forged(document, texts, thief))
        for home in clients:
            assert home("product", "add", str(path)).code == "trust_invalid", name
            tried += 1
        claims = jws.loads(jws.payload_of(texts[-1].partition("~")[0]))
        file = {"keyturn": "draft", "v": 1, "claims": claims, "bundles": texts[:-1], "signatures": texts[-1].split("~")}
        (folder / f"{name}.ktdraft").write_text(json.dumps(file))
        assert publisher.service("root", "adopt", str(folder / f"{name}.ktdraft")).code == "trust_invalid", name
        tried += 1
    for older in handed.drafts[:2]:
        assert publisher.service("root", "adopt", str(older)).code == "trust_invalid"
        tried += 1
    for home in clients:  # An older product file is no error, and takes nothing away.
        home("product", "add", str(publisher.folder / "paintest.ktproduct")).ok()
        assert known_to(home) == before
    assert bundles_of(publisher) == before
    return tried


def first_contact(publisher: Publisher, chain: Chain, folder: Path) -> tuple[str, str]:
    """A new computer gets the thief's file first: what an application says that pins no floor, and one that does."""
    shipped = publisher.service("product", "export", "paintest", "-o", str(folder / "now.ktproduct")).ok().json
    assert shipped["floor"] == f"{chain.newest.number}:{chain.newest.digest}"
    deceived = Home(folder / "new" / "home")
    deceived("product", "add", str(folder / "fork.ktproduct")).ok()
    program = (
        "import sys, keyturn\n"
        "c = keyturn.Client(sys.argv[1], test=True, home=sys.argv[2], floor=sys.argv[3] or None)\n"
        "try: print(c.require().details['name'])\n"
        "except keyturn.NotLicensed as no: print(no.reason)\n"
    )

    def says(floor: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, shipped["product"], str(deceived.path), floor], cwd=folder,
            env=environment(folder), capture_output=True, text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    return says(""), says(shipped["floor"])


def _signer(path: Path) -> Signer:
    found = keystore.load(path)
    assert found is not None
    return found


@item("Root: from 1 of 1 to 3 of 5 to 2 of 3 while customers sleep; old, forked and k-1-signed bundles are refused")
def roots(stage: Stage) -> str:
    folder = stage.place("roots")
    publisher, safes = Publisher(folder / "publisher", probe=False), Safes(folder / "safes")
    with publisher.running():
        found = asleep(publisher, folder, 3)
        handed = hand_overs(publisher, safes, folder)
        woken(found, publisher.folder / "paintest.ktproduct")
        for home in (*found.returning, *found.asked, *found.added):
            assert known_to(home) == list(handed.chain.texts)
        tried = refused(publisher, safes, handed, [found.asked[0], found.returning[0]], folder)
        without, pinned = first_contact(publisher, handed.chain, folder)
    assert (without, pinned) == ("Forged", "trust_invalid")
    assert publisher.service("verify").ok().json["ok"]
    return (
        f"three ceremonies without a restart; {len(found.every)} computers slept through three bundles, all are licensed; {tried}"
        f" of {tried} bundles and signatures of retired roots, forks and one root too few refused; a fork offered to a new"
        f" computer is believed by an application without a floor, and refused with `{pinned}` by one that pins it"
    )
