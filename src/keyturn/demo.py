"""``keyturn demo``: the whole story in under a minute, with the real programs, on this computer's own hardware.

Every line that starts with ``$`` is a command that really ran, as a process of its own. Everything happens in a
temporary folder and on loopback; at the end it is gone, unless ``--keep`` was given.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.edge.terminal import Call, Verb, pass_call

SLUG = "paintbox"
RECORDED = "recorded second computer"


@click.command(cls=Verb)
@click.option("--keep", is_flag=True, help="Leave the service running and the folder in place.")
@pass_call
def demo(call: Call, keep: bool) -> None:
    """Show the whole story: mint, disclose, activate, check, refuse copies and false publishers, return the seat."""
    folder = Path(tempfile.mkdtemp(prefix="keyturn-demo-"))
    stage = Stage(folder, call)
    try:
        play(stage, keep=keep)
        if keep:
            stage.tell(
                f"The service goes on at {stage.url}, process {stage.service.pid if stage.service else '?'}; all is in {folder}.",
                f"Try: keyturn --home {folder}/customer status. Stop it with: kill {stage.service.pid if stage.service else '?'}",
            )
    finally:
        if not keep:
            stage.stop()
            shutil.rmtree(folder, ignore_errors=True)
    call.emit(
        {"checks": stage.checks, "seconds": round(time.monotonic() - stage.started, 1)},
        f"\nDone in {time.monotonic() - stage.started:.0f} seconds: {len(stage.checks)} checks, all as they should be."
        + ("" if keep else " Everything was removed again."),
    )


class Stage:
    """Runs commands, shows them, and stops the demo where one does not do what the story says."""

    def __init__(self, folder: Path, call: Call) -> None:
        self.folder = folder
        self.call = call
        self.started = time.monotonic()
        self.checks: list[str] = []
        self.service: subprocess.Popen[str] | None = None
        port, probe = _free_ports(2)
        self.listen, self.probe_listen = f"127.0.0.1:{port}", f"127.0.0.1:{probe}"
        self.url, self.probe_url = f"https://localhost:{port}", f"http://localhost:{probe}/probe"

    def chapter(self, title: str, *lines: str) -> None:
        self.call.say(
            f"\n\033[1m{title}\033[0m" if self.call.interactive and "NO_COLOR" not in os.environ else f"\n## {title}"
        )
        self.tell(*lines)

    def tell(self, *lines: str) -> None:
        for line in lines:
            self.call.say(textwrap.fill(line, 96))

    def run(
        self, line: str, *, home: str = "customer", exits: int = 0, stdin: str | None = None,
        env: dict[str, str] | None = None, show: str = "all",
    ) -> Any:  # fmt: skip
        """Run ``keyturn LINE`` in a home; ``show``: all its output, its errors, or nothing. The result is its JSON, if any."""
        words = [sys.executable, "-m", "keyturn", "--home", str(self.folder / home), *line.split()]
        pretended = {name: value for name, value in (env or {}).items() if name.startswith("KEYTURN_")}
        shown = (
            "".join(f"{name}=… " for name in pretended)
            + f"keyturn {line}"
            + (f"   (home: {home})" if show != "nothing" else "")
        )
        if show != "nothing":
            self.call.say(f"  $ {shown}")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KEYTURN_")}
        clean["NO_PROXY"] = clean["no_proxy"] = "localhost,127.0.0.1"
        done = subprocess.run(
            words,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env={**clean, **(env or {})},
        )
        if show == "all" and "--json" not in line:
            self._indent(done.stdout)
        if show in ("all", "errors") and done.returncode:
            self._indent(done.stderr)
        if done.returncode != exits:
            raise KeyturnError(
                "internal", f"`keyturn {line}` ended with {done.returncode} and not {exits}: {done.stdout}{done.stderr}"
            )
        return json.loads(done.stdout) if "--json" in line else done.stdout

    def check(self, truth: bool, text: str) -> None:
        if not truth:
            raise KeyturnError("internal", f"the demo expected: {text}")
        self.checks.append(text)
        self.call.say(f"  ✓ {text}")

    def _indent(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            self.call.say(f"    {line}")

    def start(self) -> None:
        """Start ``keyturn service run`` and wait until it says that it is ready."""
        words = [sys.executable, "-m", "keyturn", "service", "--home", str(self.folder / "publisher"), "run", "--json",
                 "--listen", self.listen, "--probe-listen", self.probe_listen]  # fmt: skip
        self.call.say(f"  $ keyturn service run --listen {self.listen} --probe-listen {self.probe_listen}")
        log = open(self.folder / "service.log", "w")  # noqa: SIM115  (the process keeps it)
        self.service = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        log.close()
        assert self.service.stdout is not None
        line = self.service.stdout.readline()
        if not line:
            raise KeyturnError("internal", f"the service did not start: {(self.folder / 'service.log').read_text()}")
        self.call.say(f"    ready: {json.loads(line)['url']}, database SQLite, TLS by its own authority")

    def stop(self) -> None:
        if self.service is not None and self.service.poll() is None:
            self.service.terminate()
            self.service.wait(30)


def play(stage: Stage, *, keep: bool = False) -> None:
    """The story, chapter by chapter."""
    stage.chapter(
        "1. A publisher sets up its own activation service",
        "Acme Ink publishes Paintbox. It makes its root key, its issuing keys, a database and a TLS certificate, once."
        " The product is a test product here, so that later a second computer can be pretended; customers' products refuse that.",
    )
    made = stage.run(
        f"service init --publisher Acme-Ink --url {stage.url} --probe-url {stage.probe_url} --json", home="publisher"
    )
    stage.run(
        f"service product create {SLUG} --name Paintbox --edition pro --feature layers:pro --test", home="publisher"
    )
    stage.run(f"service product export {SLUG} -o paintbox.ktproduct", home="publisher")
    stage.start()

    stage.chapter("2. It mints a retail key (one computer) and a multiple activation key (MAK, five computers)")
    retail = stage.run(f"service key mint --product {SLUG} --json", home="publisher")["keys"][0]
    stage.run("service org create artschool --title Art-School", home="publisher", show="nothing")
    mak = stage.run(
        f"service key mint --product {SLUG} --channel mak --org artschool --limit 5 --json", home="publisher"
    )["keys"][0]
    stage.tell(
        f"    retail {retail['key']}   product ID {retail['product_id']}",
        f"    MAK    {mak['key']}   product ID {mak['product_id']}",
    )
    stage.check(
        _absent(stage.folder / "publisher", retail["key"]),
        "the keys are shown once: nothing in the service's folder contains them",
    )

    stage.chapter(
        "3. A customer installs Paintbox on this computer",
        "The product file ships inside the product. From now on there are 30 days of grace with full function.",
    )
    stage.run("product add paintbox.ktproduct")
    stage.run("install-key -", stdin=retail["key"])

    stage.chapter(
        "4. Before anything is sent, it shows exactly what",
        "This is your own computer's data; the demo's service is on this computer too.",
    )
    stage.run("disclose")
    stage.run("activate", exits=5, show="errors")
    stage.check(True, "without somebody's consent nothing is sent")

    stage.chapter("5. Activation: a plain probe that carries nothing, then one signed request over TLS")
    stage.run("activate --yes --allow-ephemeral")
    status = stage.run("status --json --check licensed", show="nothing")["products"][0]
    stage.check(
        status["state"] == "licensed",
        f"licensed; hardware evidence {status['evidence']}"
        + (
            " (this computer shows nothing individual, as many virtual machines do: its license is renewed every 190 days)"
            if status["evidence"] == "weak"
            else ""
        ),
    )
    sent = stage.run("disclose --sent --json", show="nothing")["exchanges"]
    stage.check(
        len(sent) >= 2 and "GET" in sent[0]["what"],
        f"every byte that left this computer was kept: {len(sent)} exchanges (`keyturn disclose --sent`)",
    )

    stage.chapter(
        "6. Anybody can check the certificate", "Here with joserfc, a JWT library that knows nothing of Keyturn."
    )
    stage.run("export certificate -o paintbox.ktcert")
    stage.run("export trust -o acme.kttrust")
    claims = verify_independently(
        (stage.folder / "paintbox.ktcert").read_text(), json.loads((stage.folder / "acme.kttrust").read_text())
    )
    stage.check(claims["product_id"] == retail["product_id"], "the signature holds, from the trust bundle alone")

    stage.chapter(
        "7. The same key on a second computer",
        f"A {RECORDED} with full hardware identity takes the place of a friend's PC.",
    )
    other = _second_computer(stage.folder / "second")
    stage.run(
        "activate - --product-file paintbox.ktproduct --yes",
        home="friend",
        stdin=retail["key"],
        exits=1,
        env=other,
        show="errors",
    )
    stage.check(True, "refused: a retail key has one seat, and it is taken")
    stage.tell("The school's MAK has five seats, so there it works:")
    stage.run("activate - --yes", home="friend", stdin=mak["key"], env=other)

    stage.chapter("8. The store of this computer, copied to the second one")
    shutil.copytree(stage.folder / "customer", stage.folder / "copied")
    copied = stage.run("status --json", home="copied", env=other)["products"][0]
    stage.tell(f"    state {copied['state']}, reason {copied['reason']}")
    stage.check(
        copied["state"] != "licensed", "a copied store is not licensed: the certificate is bound to the hardware"
    )

    stage.chapter(
        "9. A false publisher offers a product of the same name",
        f"The application pins its publisher's thumbprint, {made['thumbprint'][:12]}…",
    )
    stage.run("service init --publisher Acme-Ink --json", home="false-publisher", show="nothing")
    stage.run(f"service product create {SLUG} --name Paintbox --test", home="false-publisher", show="nothing")
    stage.run(f"service product export {SLUG} -o false.ktproduct", home="false-publisher", show="nothing")
    stage.run(f"product add false.ktproduct --product {made['thumbprint']}/{SLUG}+test", exits=4, show="errors")
    stage.check(True, "refused: the same slug of another publisher is another product")

    stage.chapter("10. The seat goes back, and the key is free for another computer")
    stage.run("deactivate --yes")
    used = stage.run(f"service key show {retail['serial']} --json", home="publisher", show="nothing")["used"]
    stage.check(used == 0, "0 of 1 seats in use")
    stage.run("activate - --yes", home="friend", stdin=retail["key"], env=other, show="errors")
    stage.check(True, "the friend's PC activates with it now")

    if not keep:
        stage.chapter("11. The service stops; who is licensed stays licensed")
        stage.stop()
        alone = stage.run("status --json --check licensed", home="friend", env=other, show="nothing")["products"][0]
        stage.check(alone["state"] == "licensed", "licensed without any service: the proof is on the computer")


def verify_independently(certificate: str, trust: dict[str, Any]) -> dict[str, Any]:
    """Verify a certificate with joserfc from an exported trust bundle; the result are its claims."""
    import base64
    import hashlib
    import warnings

    from joserfc import jws
    from joserfc.jwk import OKPKey

    warnings.filterwarnings("ignore", "EdDSA is deprecated")  # RFC 9864 gave it a second name; both are the same bytes.

    def payload(token: str) -> bytes:
        part = token.split(".")[1]
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    def key(value: dict[str, str]) -> OKPKey:
        return OKPKey.import_key({name: value[name] for name in ("kty", "crv", "x")})

    first = trust["bundles"][0].split("~")[0]
    pinned = base64.urlsafe_b64encode(hashlib.sha256(payload(first)).digest()).rstrip(b"=").decode()
    if pinned != trust["thumbprint"]:
        raise KeyturnError("publisher_mismatch")
    bundle = json.loads(payload(first))
    jws.deserialize_compact(first, key(bundle["roots"]["keys"][0]), algorithms=["EdDSA", "Ed25519"])
    header = json.loads(base64.urlsafe_b64decode(certificate.split(".")[0] + "=="))
    issuing = {key(item["jwk"]).thumbprint(): key(item["jwk"]) for item in bundle["keys"]}
    found = jws.deserialize_compact(certificate, issuing[header["kid"]], algorithms=["EdDSA", "Ed25519"])
    claims: dict[str, Any] = json.loads(found.payload)
    return claims


def _second_computer(folder: Path) -> dict[str, str]:
    from keyturn.testing import computers

    computers.synthetic(7).write(folder)
    return {"KEYTURN_SYSROOT": str(folder)}


def _absent(folder: Path, key: str) -> bool:
    """Whether no file below ``folder`` contains the key, with or without its dashes."""
    wanted = (key.encode(), key.replace("-", "").encode())
    return not any(w in path.read_bytes() for path in folder.rglob("*") if path.is_file() for w in wanted)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports
