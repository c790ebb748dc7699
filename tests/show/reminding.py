"""Reminders that nobody can switch off, where people see them; links that cost; roll-out by file; programs that ask the agent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import make_deb
from keyturn.testing.computers import synthetic
from measure import agent as measured
from programs import Home, environment, run
from show.stage import Stage, item
from test_deb import on_a_throw_away_computer

FORBIDDEN = '[policy]\nonline = "never"\nhost = "never"\nfleet = "never"\nfile = "never"\ntelephone = "never"\n'
LOGONS = """
set -eu
export DEBIAN_FRONTEND=noninteractive HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
dpkg --install /keyturn.deb > /dev/null 2>&1 < /dev/null
cp /policy.toml /etc/keyturn/policy.toml
export KEYTURN_NOW=2027-02-01T10:00:00Z
keyturn product add /product.ktproduct > /dev/null
! pgrep -f 'keyturn agent' > /dev/null
later() { runuser --login $1 --shell /bin/sh --command "$2"; }
useradd --create-home --shell /bin/bash anna
useradd --create-home --shell /bin/dash bert
for day in 02 20; do
    for who in anna bert; do
        for shell in bash dash; do
            echo "== $day $who login $shell"
            later $who "KEYTURN_NOW=2027-02-${day}T10:00:00Z $shell -l -i -c true" 2> /dev/null
        done
        echo "== $day $who terminal"
        later $who "rm -rf .local; KEYTURN_NOW=2027-02-${day}T10:00:00Z keyturn remind"
    done
done
echo "== over anna login bash"
later anna "KEYTURN_NOW=2027-03-20T10:00:00Z bash -l -i -c true" 2> /dev/null
echo "== status"
KEYTURN_NOW=2027-02-20T10:00:00Z keyturn status
"""


@item("Every channel forbidden, no agent: count-down and reminders at logon go on, two users, terminal and login shells")
def logons(stage: Stage) -> str:
    folder = stage.place("logons")
    package = make_deb.build(folder)
    policy = folder / "policy.toml"
    policy.write_text(FORBIDDEN)
    said = on_a_throw_away_computer(
        folder, LOGONS, {package: "keyturn.deb", stage.test: "product.ktproduct", policy: "policy.toml"}
    )
    told = {name: " ".join(text.split()) for name, text in re.findall(r"^== (.*)\n((?:(?!== ).*\n)*)", said, re.MULTILINE)}
    for day, left in (("02", 29), ("20", 11)):
        for who in ("anna", "bert"):
            for where in ("login bash", "login dash", "terminal"):
                text = told[f"{day} {who} {where}"]
                assert text.count("Reminder:") == 1, (day, who, where, text)
                assert f"{left} days left" in text, (day, who, where, text)
    assert "grace period is over" in told["over anna login bash"], told
    assert 'telephone = "never"' not in told["status"]
    assert 'online = "never"' in told["status"], told["status"]
    return "12 logons and terminals on two days, one reminder each, 29 and 11 days left; after the end too; status names the line"


@item("Screenshots of the reminder's page and of a terminal: wide and narrow, light and dark")
def screenshots(stage: Stage) -> str:
    folder = stage.place("pictures")
    home = Home(folder / "home", sysroot=stage.pc(synthetic(330)))
    home("product", "add", str(stage.test)).ok()
    pages = {"page": folder / "page.html", "terminal": folder / "terminal.html"}
    run(["--home", str(home.path), "remind", "--page", str(pages["page"])], cwd=folder, env=home.env).ok()
    terminal = run(["--home", str(home.path), "remind", "--logon"], cwd=folder, env=home.env).ok().out
    assert max(map(len, terminal.splitlines())) <= 80
    text = terminal.replace("&", "&amp;").replace("<", "&lt;")
    pages["terminal"].write_text(
        f'<!doctype html><meta charset="utf-8"><body style="background:#111;color:#eee;padding:1em"><pre>{text}</pre>'
    )
    made = []
    kept = Path(os.environ.get("KEYTURN_PICTURES") or folder)
    for name, page in pages.items():
        for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
            picture = kept / f"{name}-{width}{'-dark' if dark else ''}.png"
            picture_of(page, picture, width, dark=dark)
            made.append(picture)
    sizes = [picture.stat().st_size for picture in made]
    assert min(sizes) > 2_000, "an empty picture"
    assert made[0].read_bytes() != made[1].read_bytes(), "dark is light"
    return f"{len(made)} pictures; the reminder has {len(terminal.splitlines())} lines in a terminal"


def picture_of(page: Path, picture: Path, width: int, *, dark: bool) -> None:
    """What a browser of that width shows. Chromium has a least width of its own, so the page stands in a frame."""
    frame = page.with_suffix(".frame.html")
    frame.write_text(f'<!doctype html><iframe src="{page}" style="border:0;width:{width}px;height:900px"></iframe>')
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", scheme,
            f"--window-size={max(width, 500)},920", "--allow-file-access-from-files", f"--screenshot={picture}", frame.as_uri(),
        ],
        env=environment(page.parent), check=True, capture_output=True, timeout=60,
    )  # fmt: skip


def tests_pass(*paths: str) -> str:
    """Run these tests; the result is pytest's last line. A skip is a failure here."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    env = {**os.environ, "CI": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=make_deb.ROOT, env=env, capture_output=True, text=True, timeout=600, check=False)
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, done.stdout[-2000:]
    return last


@item("Through python-dbusmock: a modem that can connect, one that cannot, a metered link")
def links(_stage: Stage) -> str:
    return tests_pass("tests/test_links.py")


@item("The same provisioning file applied twice: changed, then unchanged")
def provisioned(stage: Stage) -> str:
    folder = stage.place("provision")
    (folder / "key").write_text(stage.key()["key"])
    (folder / "key").chmod(0o600)
    (folder / "writer.toml").write_text(f'product_file = "{stage.test}"\nkey_file = "key"\nconsent = "organization"\n')
    home = stage.home(stage.pc(synthetic(331)))
    foretold = home("apply", "--dry-run", str(folder / "writer.toml")).ok().json
    first, second = (home("apply", str(folder / "writer.toml")).ok().json for _ in range(2))
    assert (foretold["changed"], first["changed"], second["changed"]) == (True, True, False)
    assert home.status()["state"] == "licensed"
    return f"{', '.join(first['products'][0]['actions'])}; then nothing; the dry run had foretold it"


@item("The C++ example: licensed through the socket, refused for a foreign user's store, and for every forged answer")
def in_another_language(_stage: Stage) -> str:
    return tests_pass("tests/test_cpp_example.py")


@item("The agent idles at under 40 MB and 0.1 % of a processor")
def idle_agent(stage: Stage) -> str:
    found = measured.idle(stage.place("idle"))
    for row in found:
        assert row.most is None or row.ratio <= row.most, row
    return "; ".join(f"{row.what}: {row.absolute}" for row in found)
