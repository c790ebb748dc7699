"""Canaries: a computer, an account and a key full of words that must not leave, and everywhere they could have come out.

The real programs work for that computer, through a listener of ours that writes down every byte; then the wire, the
service's folder, its backup with and without secrets, all logs and the reports of provoked crashes are searched, also inside
of what is base64url.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import programs
from keyturn.testing.computers import RecordedComputer, synthetic
from programs import KEYTURN, Home, Publisher, computer, files_below, free_port
from show import wire
from show.wire import Ear, Event
from solid.storm import HERE, Outcome

PERSON = {
    "host name": "canaryhost77", "user name": "canaryuser88", "full name": "Canary McFinch", "mail": "canary.mcfinch@example.org",
}  # fmt: skip
_RUN = re.compile(rb"[A-Za-z0-9_-]{16,}")


def canary_computer() -> tuple[RecordedComputer, dict[str, str]]:
    """A recorded computer with a person on it, and its raw serials and addresses by what they are."""
    pc = synthetic(77).variant(
        "canary",
        files={
            "etc/hostname": PERSON["host name"] + "\n",
            "etc/passwd": f"{PERSON['user name']}:x:1000:1000:{PERSON['full name']},,,{PERSON['mail']}:/home/x:/bin/sh\n",
            "proc/sys/kernel/hostname": PERSON["host name"] + "\n",
        },
    )
    raw = {}
    for path, text in pc.files.items():
        name = path.rpartition("/")[2]
        value = text[4:] if name == "vpd_pg80" else text.strip()
        if name in ("product_uuid", "product_serial", "board_serial", "vpd_pg80", "machine-id"):
            raw[f"raw {name}"] = value
        elif name == "address" and set(value) - set("0:"):
            raw["raw MAC"] = value
    return pc, raw


def needles(words: Mapping[str, str]) -> dict[str, set[bytes]]:
    """Each word as it could come out: as it is, in either case, without what groups it, as bytes."""
    found: dict[str, set[bytes]] = {}
    for what, word in words.items():
        bare = re.sub(r"[-:/ ]", "", word)
        forms = {word, word.lower(), word.upper(), bare, bare.lower(), bare.upper()}
        raw = {form.encode() for form in forms if len(form) >= 6}
        if re.fullmatch(r"[0-9a-fA-F]{12,}", bare) and len(bare) % 2 == 0:
            raw.add(bytes.fromhex(bare))
        found[what] = raw
    return found


def opened(data: bytes) -> bytes:
    """The bytes, and everything in them that is base64url, decoded; twice over."""
    layers = [data]
    for _ in range(2):
        runs = (run.group()[: len(run.group()) // 4 * 4] for run in _RUN.finditer(layers[-1]))
        layers.append(b"\n".join(base64.urlsafe_b64decode(run) for run in runs))
    return b"\n".join(layers)


def search(hay: Mapping[str, bytes], words: Mapping[str, str]) -> list[str]:
    """Where which word was found."""
    sought = needles(words)
    return [
        f"{what} in {place}"
        for place, data in hay.items()
        for what, forms in sought.items()
        if any(form in data for form in forms)
    ]


def crashing(folder: Path, bug: str) -> Path:
    """A ``keyturn`` with a planted bug."""
    script = folder / bug
    words = (sys.executable, HERE / "planted.py", bug, KEYTURN)
    script.write_text("#!/bin/sh\nexec " + " ".join(shlex.quote(str(word)) for word in words) + ' "$@"\n')
    script.chmod(0o755)
    return script


def crashes(publisher: Publisher, home: Home, key: str, env: Mapping[str, str]) -> tuple[bytes, str]:
    """What the programs say when they crash with everything in the exception's text, as they are and with KEYTURN_DEBUG.

    The second value is the key that was being minted.
    """
    said, told = [], publisher.folder / "told"
    for debug in ({}, {"KEYTURN_DEBUG": "1"}):
        mint = programs.run(
            ["service", "--home", str(publisher.home), "key", "mint", "--product", "paintest"],
            cwd=publisher.folder, env={"PLANTED": str(told), **debug}, keyturn=crashing(publisher.folder, "crash-mint"),
        )  # fmt: skip
        home.keyturn = crashing(publisher.folder, "crash-client")
        install = home("install-key", "-", input=key + "\n", env={**env, **debug})
        home.keyturn = KEYTURN
        assert (mint.exit, install.exit, install.code) == (6, 6, "internal"), mint.err + install.err
        assert "RuntimeError in keyturn.service.catalog" in mint.err
        said += [mint.out, mint.err, install.out, install.err]
    assert "in insert_keys" in mint.err and "in install_key" in install.err, "KEYTURN_DEBUG shows no places"
    return "".join(said).encode(), told.read_text()


def run(folder: Path) -> Outcome:
    """Live with the canaries, then search.

    1. A service behind our listener; a client whose account, environment and hardware are canaries.
    2. Activate, ask, mistype, be refused, return, activate again; a damaged store, and programs that crash.
    3. Back up, with the secrets in a file of their own.
    4. Search wire, folder, backup, logs and reports; the search itself is tried on what must be found.
    """
    pc, raw = canary_computer()
    publisher = Publisher(folder / "publisher", probe=False)
    product = publisher.product("paintest", "--test")
    key, other = (str(found["key"]) for found in publisher.mint("paintest", "--count", "2"))
    words = {**PERSON, **raw, "product key": key, "second key": other}
    public, publisher.port = publisher.port, free_port()
    account = folder / PERSON["user name"]
    env = {
        "HOME": str(account), "USER": PERSON["user name"], "LOGNAME": PERSON["user name"], "HOSTNAME": PERSON["host name"],
        "NAME": PERSON["full name"], "EMAIL": PERSON["mail"],
    }  # fmt: skip
    home = Home(account / "store", sysroot=computer(folder / "pc", pc))
    events: list[Event] = []
    said: list[str] = []

    def do(*arguments: str, text: str = "", more: Mapping[str, str] | None = None) -> int:
        result = home(*arguments, input=text, env={**env, **(more or {})})
        said.append(result.err)
        return result.exit

    # 1.
    publisher.start("--probe-listen", "none")
    with wire.ears(Ear("service", public, events, wire.forwarding(publisher.port), wire.tls(publisher.home))):
        # 2.
        assert do("activate", "-", "--product-file", str(product), "--yes", text=key + "\n") == 0
        assert do("deactivate", "--yes") == 0
        assert do("activate", "--yes") == 0
        do("activate", "-", "--yes", text=other[:-1] + ("2" if other[-1] != "2" else "3") + "\n")
        do("activate", "-", "--yes", text=other + "\n")
        second = Home(account / "second", sysroot=computer(folder / "pc2", synthetic(78)))
        refused = second("activate", "-", "--product-file", str(product), "--yes", input=key + "\n", env=env)
        said.append(refused.err)
        assert refused.code == "limit_reached", refused.out
        publisher.stop()
        publisher.start("--probe-listen", "none", wrapper=(sys.executable, str(HERE / "planted.py"), "crash"))
        crashed = second("activate", "-", "--yes", input=key + "\n", env=env)
        said.append(crashed.err)
        assert crashed.exit != 0
        publisher.stop()
    (home.shelf / "license.json").write_text("damaged")
    do("status")
    reports, minting = crashes(publisher, home, key, env)
    words["key being minted"] = minting
    # 3.
    files = [folder / "b.ktbackup", folder / "b.ktsecrets"]
    done = publisher.service("backup", "-o", str(files[0]), "--secrets-to", str(files[1])).ok()
    backup, secrets = (path.read_bytes() for path in files)
    looked = publisher.service("verify", str(files[0]), "--secrets", str(files[1])).ok()
    # 4.
    report = "\n".join(line for line in publisher.log().splitlines() if "request_failed" in line)
    assert "RuntimeError" in report, "the planted crash left no report"
    copy = files_below(publisher.home)
    hay = {
        "the wire": b"".join(opened(event.data) for event in events),
        "the database": opened(b"".join(data for name, data in copy.items() if "service.db" in name)),
        "the service's folder": b"".join(copy.values()), "the log": opened(publisher.log().encode()),
        "a crash report": opened(report.encode()), "what the client said on stderr": "".join(said).encode(),
        "a backup": opened(backup), "its secrets": opened(secrets), "what programs said as they crashed": reports,
        "what backup and verify said": (done.out + done.err + looked.out + looked.err).encode(),
    }  # fmt: skip
    problems = search(hay, words)
    kept = {
        name: data
        for name, data in copy.items()
        if name.split("/")[0] in ("root", "keys", "pepper") or name.endswith(".key")
    }
    assert len(kept) > 20, "the secrets were not looked for"
    problems += [f"{name} in a backup" for name, data in kept.items() if data in backup]
    problems += [
        f"{name} in its secrets" for name, data in kept.items() if name.startswith("root/root-") and data in secrets
    ]
    # A search that finds nothing anywhere would be no search.
    own = b"".join(data for data in files_below(folder / "pc").values()) + os.fsencode(key)
    known = {**raw, "product key": key, **{what: PERSON[what] for what in ("host name", "mail")}}
    assert len(search({"the computer": own}, known)) == len(known), "the search does not find what is there"
    assert b"computer_model" in hay["the wire"] and b'"pairs"' in hay["the wire"], "the wire could not be read"
    assert b"activation.new" in hay["the database"], "the database could not be read"
    assert b"activation.new" in hay["a backup"] and b"PRIVATE KEY" in hay["its secrets"], "the backup could not be read"
    return Outcome(
        {"canaries": len(words), "places": len(hay), "bytes_searched": sum(map(len, hay.values())), "hits": len(problems)},
        problems
    )  # fmt: skip
