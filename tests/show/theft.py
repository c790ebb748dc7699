"""A theft drill: an issuing key is stolen, replaced within minutes, its forgeries refused, and nobody honest un-licensed."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from keyturn.core import jws
from keyturn.core.documents import Certificate
from keyturn.core.jws import Kind
from keyturn.edge import keystore
from keyturn.testing.computers import synthetic
from programs import Home, Publisher
from show.stage import Stage, item

CLIENTS = 12


@item("Theft drill: a stolen issuing key is replaced, its forgeries end, every honest certificate is proven or issued again")
def drill(stage: Stage) -> str:
    folder = stage.place("theft")
    publisher = Publisher(folder / "publisher")
    publisher.service("org", "create", "globex").ok()
    product = publisher.product("paintest", "--test", "--feature", "layers")
    (key,) = publisher.mint("paintest", "--channel", "mak", "--org", "globex", "--limit", "50")
    said: list[str] = []

    publisher.start()
    clients = [stage.home(stage.pc(synthetic(900 + number))) for number in range(CLIENTS)]
    for client in clients:
        assert client.activate(product, key["key"]).ok().product["state"] == "licensed"
    said.append(f"{CLIENTS} computers are licensed")

    # The thief copies the folder of keys, and forges: with features nobody sold, of any date.
    thief = folder / "thief"
    shutil.copytree(publisher.home / "keys", thief)
    forged = [_forge(clients[number], thief, days) for number, days in ((9, 0), (10, 20), (11, 60))]
    assert all(client.status()["state"] == "licensed" for client in clients), "a forgery is not found out beforehand"
    said.append(f"{len(forged)} forgeries of three dates pass before anybody knows")

    # The publisher replaces the key while the service runs. Nobody restarts it.
    began = time.monotonic()
    kid = forged[0]
    done = publisher.service("issuing-key", "retire", kid.lstrip("-"), "--stolen", "--yes").ok().json
    seconds = time.monotonic() - began
    assert done["bundle"] == 2
    assert done["certificates"] == CLIENTS
    said.append(f"replaced in {seconds:.1f} s: trust bundle 2, a tree over {done['certificates']} honest certificates")

    # New ones are signed by the new key at once, by the service that never stopped.
    late = stage.home(stage.pc(synthetic(950)))
    assert late.activate(publisher.export("paintest"), key["key"]).ok().product["reason"] is None
    assert _kid(late) == done["by"], "the running service still signs with the stolen key"

    # They hear of it by the product file of the next release; all are licensed, and say what to do.
    newer = publisher.export("paintest")
    for client in clients[:4]:
        client("product", "add", str(newer)).ok()
        status = client.status()
        assert (status["state"], status["reason"], status["days_left"]) == ("licensed", "reissue_due", 190), status
        assert client("activate", "--yes").ok().product["reason"] is None
        assert _kid(client) == done["by"]
    said.append("4 by contact: issued again, the same seat")

    # Or by a file, for computers that reach nothing: the proof of their very certificate.
    proofs = folder / "proofs.kttrust"
    publisher.service("issuing-key", "proofs", kid.lstrip("-"), "-o", str(proofs)).ok()
    for client in clients[4:9]:
        status = client("import", str(proofs)).ok().product
        assert (status["state"], status["reason"]) == ("licensed", None), status
    said.append("5 by file: proven, without contact")

    # A forgery has no proof. It is doubtful from then on, ends on a signed date, and no contact makes it good.
    for client in clients[9:]:
        assert client("import", str(proofs)).ok().product["reason"] == "reissue_due"
        client.env["KEYTURN_NOW"] = f"+{191 * 86_400}"
        assert client.status()["state"] == "out_of_tolerance_grace"
        client.env["KEYTURN_NOW"] = f"+{230 * 86_400}"
        assert client.status()["state"] == "notification"
        del client.env["KEYTURN_NOW"]
        after = client("activate", "--yes").ok().product
        assert (after["state"], after["reason"], after["features"]) == ("licensed", None, ["layers"])
    said.append("3 forgeries: doubtful at once, ended after 190 days; a contact gives what the key is worth, no more")

    # Everything that stands, signed anew in one go.
    done = publisher.service("issuing-key", "reissue").ok().json
    said.append(f"the rest issued again in bulk: {done['reissued']}")
    assert publisher.seats(key["serial"]) == CLIENTS + 1
    assert publisher.stop() == 0
    checks = publisher.service("verify").ok().json
    assert checks["ok"]
    return "; ".join(said) + f"; {CLIENTS + 1} seats, nobody un-licensed"


def _kid(home: Home) -> str:
    value = json.loads((home.shelf / "license.json").read_text())
    return jws.read_header(value["certificate"], Kind.CERTIFICATE).kid


def _forge(home: Home, keys: Path, days: int) -> str:
    """Put a certificate of the thief's into a store; the result is the name of the key it is signed with."""
    path = home.shelf / "license.json"
    value = json.loads(path.read_text())
    kid = jws.read_header(value["certificate"], Kind.CERTIFICATE).kid
    signer = keystore.load_all(keys)[kid]
    honest = Certificate.read(jws.loads(jws.payload_of(value["certificate"])))
    forged = honest._replace(features=("layers", "everything"), issued_at=honest.issued_at + days * 86_400)
    value["certificate"] = jws.sign(Kind.CERTIFICATE, forged.claims(), signer.public, signer.sign)
    path.write_text(json.dumps(value))
    return kid
