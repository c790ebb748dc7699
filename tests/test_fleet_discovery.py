"""Computers that are not enrolled yet: by name, by file, in an address range of a network of its own, in a real directory."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleets import Site
from keyturn.edge import ldap
from keyturn.edge.ldap import Directory
from keyturn.fleet import discovering
from keyturn.testing import World
from peers import Authority, refused
from programs import Result, free_port, run
from rooms import Room

BASE = "dc=example,dc=test"
ADMIN, PASSWORD = f"cn=reader,{BASE}", "correct horse"
MANY = 1_200  # More than the directory gives in one answer.


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


def discover(site: Site, *arguments: str) -> Result:
    return run(["fleet", "discover", *arguments, "--home", str(site.home.path), "--json"], cwd=site.folder)


def names(site: Site) -> list[str]:
    return [one["name"] for one in discover(site, "list").ok().json["found"]]


@pytest.mark.system
def test_names_and_files_are_kept_until_their_computers_enroll(site: Site, tmp_path: Path) -> None:
    """Twice changes nothing; who enrolled under the short name is gone, and is not found again."""
    site.join("here")
    assert discover(site, "--name", "PC-1.Example.test", "--name", "pc-2").ok().json["new"] == 2
    listing = tmp_path / "computers.csv"
    listing.write_text("name,address\npc-3.example.test,192.0.2.3\n\npc-2\nhere.example.test\n")
    found = discover(site, "--names", str(listing)).ok().json
    assert (found["new"], found["enrolled"], len(found["found"])) == (1, 1, 3)
    assert discover(site, "--names", str(listing), "--dry-run").ok().json["dry_run"] is True
    assert names(site) == ["pc-1.example.test", "pc-2", "pc-3.example.test"]
    site.join("pc-1")
    site.join("pc-2")
    assert [(one["name"], one["address"], one["source"]) for one in discover(site, "list").ok().json["found"]] == [
        ("pc-3.example.test", "192.0.2.3", "file")
    ]
    assert discover(site, "remove", "pc-3.example.test", "nobody").code == "not_found"
    assert names(site) == ["pc-3.example.test"]
    discover(site, "remove", "PC-3.example.test").ok()
    assert names(site) == []


@pytest.mark.parametrize(
    ("arguments", "exit_", "code"),
    [
        ((), 2, "usage"),
        (("--name", "a", "--range", "192.0.2.0/30"), 2, "usage"),
        (("--name", "pc 1; rm"), 2, "usage"),
        (("--range", "10.0.0.0/8"), 4, "input_too_large"),
        (("--range", "everywhere"), 2, "usage"),
        (("--ldap", "ldaps://localhost"), 2, "usage"),
        (("--ldap", "http://localhost", "--base", BASE), 2, "usage"),
        (("--ldap", "ldap://localhost", "--base", BASE, "--bind-dn", ADMIN, "--password-file", "open"), 5, "permission_denied"),
    ],
)  # fmt: skip
@pytest.mark.system
def test_what_cannot_be_meant_is_refused(site: Site, arguments: tuple[str, ...], exit_: int, code: str) -> None:
    (site.folder / "open").write_text(PASSWORD)
    (site.folder / "open").chmod(0o644)
    found = discover(site, *arguments)
    assert (found.exit, found.code) == (exit_, code)


def test_a_damaged_file_is_refused_with_its_line() -> None:
    assert "line 3" in refused(lambda: discovering.read("name,address\npc-1,192.0.2.1\npc-2,nowhere\n")).detail
    assert "line 1" in refused(lambda: discovering.read("not a name\n")).detail


@pytest.mark.system
@pytest.mark.needs("root", "unshare", "ip")
def test_a_range_is_asked_in_a_network_of_its_own(site: Site, tmp_path: Path) -> None:
    """Who takes a connection or refuses it is there, who says nothing is not; a dry run asks nobody and says how many."""
    home = ["--home", str(site.home.path), "--json"]
    with Room(tmp_path / "room", network=True) as room:
        room.sh("ip link add lab0 type veth peer name lab1; ip link set lab0 up; ip link set lab1 up")
        for number in (1, 2):
            room.sh(f"ip address add 10.9.8.{number}/24 dev lab0")

        def keyturn(*arguments: str) -> Any:
            return run(["fleet", "discover", *arguments, *home], cwd=tmp_path, keyturn=room.keyturn).ok().json

        assert keyturn("--range", "10.9.8.0/28", "--dry-run")["addresses"] == 14
        assert keyturn("list")["found"] == []
        found = keyturn("--range", "10.9.8.0/28")["found"]
        assert [(one["name"], one["address"]) for one in found] == [("10.9.8.1", "10.9.8.1"), ("10.9.8.2", "10.9.8.2")]


def test_connections_begin_in_even_steps() -> None:
    """Twenty addresses cannot be asked faster than at the pace that was promised, and progress is told of each."""
    told: list[tuple[int, int]] = []

    async def walked() -> tuple[int, float]:
        began = asyncio.get_running_loop().time()
        asked = discovering.addresses("127.0.1.0/27")[:20]
        found = await discovering.walk(asked, lambda _what, done, total: told.append((done, total)), ports=[free_port()])
        return len(found), asyncio.get_running_loop().time() - began

    count, took = asyncio.run(walked())
    assert count == 20 and took >= 20 / discovering.PER_SECOND  # A pause is never shorter than it was asked for.
    assert told == [(number, 20) for number in range(1, 21)]


# --- a directory ---


class Slapd:
    """OpenLDAP's server with a directory of computers; it gives 100 entries at most at once, and more page by page only."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        folder.mkdir()
        plain, secure = free_port(), free_port()
        self.url, self.secure = f"ldap://127.0.0.1:{plain}", f"ldaps://127.0.0.1:{secure}"
        issued = authority.ca.issue_cert("127.0.0.1")
        (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
        self.ca = folder / "ca.pem"
        self.ca.write_text(authority.pem)
        (folder / "db").mkdir()
        conf, entries = folder / "slapd.conf", folder / "entries.ldif"
        conf.write_text(CONFIG.format(folder=folder))
        entries.write_text(ENTRIES + "".join(map(_entry, range(MANY))) + SECRET)
        subprocess.run([_program("slapadd"), "-q", "-f", str(conf), "-l", str(entries)], check=True, capture_output=True)
        self._process = subprocess.Popen(
            [_program("slapd"), "-h", f"{self.url} {self.secure}", "-f", str(conf), "-d", "stats"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "slapd starting" in line:
                break
        else:
            raise AssertionError("".join(said))
        self._said = threading.Thread(target=self._process.stderr.read)  # Or it would wait for a reader one day.
        self._said.start()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._said.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


def _program(name: str) -> str:
    return f"/usr/sbin/{name}" if os.path.exists(f"/usr/sbin/{name}") else name


def _entry(number: int) -> str:
    return f"\ndn: cn=PC{number},ou=open,{BASE}\nobjectClass: computer\ncn: PC{number}\ndNSHostName: pc{number}.example.test\n"


CONFIG = """\
include /etc/ldap/schema/core.schema
attributetype ( 1.2.840.113556.1.4.619 NAME 'dNSHostName' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.3.30 NAME 'computer' SUP top STRUCTURAL MUST cn MAY dNSHostName )
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile {folder}/cert.pem
TLSCertificateKeyFile {folder}/key.pem
sizelimit size.soft=100 size.hard=100 size.pr=500 size.prtotal=unlimited
database mdb
maxsize 104857600
suffix "dc=example,dc=test"
rootdn "cn=reader,dc=example,dc=test"
rootpw "correct horse"
directory {folder}/db
access to dn.subtree="ou=open,dc=example,dc=test" by * read
access to dn.base="dc=example,dc=test" by * search
access to * by users read by anonymous auth
"""
ENTRIES = f"""\
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: ou=open,{BASE}
objectClass: organizationalUnit
ou: open

dn: ou=closed,{BASE}
objectClass: organizationalUnit
ou: closed
"""
SECRET = f"\ndn: cn=NAMED,ou=closed,{BASE}\nobjectClass: computer\ncn: NAMED\n"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Slapd]:
    made = Slapd(tmp_path_factory.mktemp("ldap") / "slapd", authority)
    yield made
    made.close()


@pytest.mark.system
@pytest.mark.needs("slapd")
def test_a_directory_is_asked_page_by_page(site: Site, directory: Slapd) -> None:
    """All 1,200 computers, although one answer holds 100 at most; again they are no news; a filter asks for fewer."""
    asked = ("--ldap", directory.url, "--base", f"ou=open,{BASE}")
    assert discover(site, *asked).ok().json["new"] == MANY
    again = discover(site, *asked).ok().json
    assert (again["new"], len(again["found"])) == (0, MANY)
    few = discover(site, *asked, "--filter", "(cn=PC77)").ok().json["found"]
    assert few == [{"name": "pc77.example.test", "address": None, "source": "directory"}]
    assert len(names(site)) == MANY


@pytest.mark.system
@pytest.mark.needs("slapd")
def test_a_password_goes_over_verified_tls_alone(site: Site, directory: Slapd) -> None:
    """With it the closed part is read, by its name for want of another; in the clear, to a stranger, or wrong: refused."""
    (site.folder / "password").write_text(f"{PASSWORD}\n")
    (site.folder / "wrong").write_text("battery staple\n")
    for name in ("password", "wrong"):
        (site.folder / name).chmod(0o600)
    closed = ("--base", f"ou=closed,{BASE}", "--bind-dn", ADMIN)
    known = ("--ca-file", str(directory.ca))
    found = discover(site, "--ldap", directory.secure, *closed, *known, "--password-file", "password").ok().json
    assert [one["name"] for one in found["found"]] == ["named"]
    cases = (
        (directory.url, known, "password", "usage"),
        (directory.secure, (), "password", "directory_unreachable"),
        (directory.secure, known, "wrong", "directory_refused"),
    )
    for url, more, password, code in cases:
        assert discover(site, "--ldap", url, *closed, *more, "--password-file", password).code == code


@pytest.mark.needs("slapd")
@pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Of ldap3, which reads older names of pyasn1.
def test_what_is_not_understood_or_not_there_is_said(directory: Slapd) -> None:
    cases = (
        (Directory(directory.url, f"ou=open,{BASE}", "(cn=("), "usage"),
        (Directory(directory.url, "no such thing"), "usage"),
        (Directory(directory.url, f"ou=nobody,{BASE}"), "directory_refused"),
        (Directory(f"ldap://127.0.0.1:{free_port()}", BASE), "directory_unreachable"),
    )
    for asked, code in cases:
        assert refused(functools.partial(all, ldap.computers(asked))).code == code, asked
