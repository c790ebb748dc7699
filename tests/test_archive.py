"""Archives: one form is written, nothing else is read, and a crash leaves the old file or the new."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.edge import archive
from keyturn.edge.archive import DIGEST, MANIFEST, Reader

PARTS: dict[str, bytes | Path] = {"a.txt": b"first" * 300, "d/b.txt": b"second", "empty": b""}


def allowed(name: str) -> bool:
    return name in PARTS


def made(folder: Path, parts: dict[str, bytes | Path] = PARTS) -> Path:
    path = folder / "x.archive"
    archive.write(path, {"keyturn": "test"}, parts, now=1_800_000_000)
    return path


def code(path: Path, name: str | None = None) -> str:
    """The code with which an archive, or one of its members, is refused; empty if it is not."""
    try:
        with Reader(path, allowed) as reader:
            for member in reader.names if name is None else [name]:
                reader.read(member)
    except KeyturnError as error:
        return error.code
    return ""


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Every member, of memory and of a file, with the manifest naming all; the file is its owner's alone."""
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 20_000)
    path = made(tmp_path, {**PARTS, "d/b.txt": large})
    seen: list[str] = []
    with Reader(path, allowed) as reader:
        assert reader.names == ["a.txt", "d/b.txt", "empty"]
        assert (reader.read("a.txt"), reader.read("empty")) == (b"first" * 300, b"")
        reader.copy("d/b.txt", tmp_path / "copy", lambda what, done, total: seen.append(f"{what} {done}/{total}"))
        named = {file["name"]: file["sha256"] for file in reader.manifest["files"]}
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    assert named["d/b.txt"] == hashlib.sha256(large.read_bytes()).hexdigest()
    assert seen[-1] == "d/b.txt 5120000/5120000"
    assert {p.stat().st_mode & 0o777 for p in (path, tmp_path / "copy")} == {0o600}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "large", "x.archive"]


@pytest.mark.needs("tar", "sha256sum")
def test_the_tools_of_the_system_read_it_too(tmp_path: Path) -> None:
    """`tar` unpacks it, `sha256sum` agrees with the manifest's sum."""
    path = made(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xf", str(path), "-C", str(out)], check=True, capture_output=True)
    subprocess.run(["sha256sum", "--check", DIGEST], cwd=out, check=True, capture_output=True)
    assert (out / "d" / "b.txt").read_bytes() == b"second"


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """Header, content, padding or end: wherever a byte is another one, the archive or the member is refused."""
    path = made(tmp_path)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x01]) + data[place + 1 :])
        assert code(path) == "file_malformed", place


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    """A file that ends early is refused, wherever it ends; so is one that goes on."""
    path = made(tmp_path)
    data = path.read_bytes()
    for end in [*range(0, len(data), 31), len(data) - 1]:
        path.write_bytes(data[:end])
        assert code(path) == "file_malformed", end
    for more in (b"\0", bytes(512), bytes(10_240), b"x"):
        path.write_bytes(data + more)
        assert code(path) == "file_malformed"
    assert code(tmp_path / "nothing") == code(tmp_path) == "file_malformed"


def crafted(
    change: Callable[[tarfile.TarFile], object], files: list[dict[str, Any]] | None = None, **options: Any
) -> bytes:
    """A well-formed tar with a manifest, its digest, one good member and whatever ``change`` adds."""
    out = io.BytesIO()
    good = {"name": "a.txt", "size": 4, "sha256": hashlib.sha256(b"good").hexdigest()}
    manifest = json.dumps({"files": [good, *(files or [])]}).encode()
    digest = f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()
    with tarfile.open(fileobj=out, mode="w", **{"format": tarfile.GNU_FORMAT, **options}) as tar:
        for name, data in ((MANIFEST, manifest), (DIGEST, digest), ("a.txt", b"good")):
            add(tar, name, data)
        change(tar)
    return out.getvalue().rstrip(b"\0") + bytes(-len(out.getvalue().rstrip(b"\0")) % 512) + bytes(1024)


def add(tar: tarfile.TarFile, name: str, data: bytes = b"evil", **values: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    for key, value in values.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


EVIL: dict[str, Callable[[tarfile.TarFile], object]] = {
    "a path upwards": lambda tar: add(tar, "../a.txt"),
    "a path from the root": lambda tar: add(tar, "/etc/a.txt"),
    "a member nobody asked for": lambda tar: add(tar, "b.exe"),
    "the same member twice": lambda tar: add(tar, "a.txt"),
    "a second manifest": lambda tar: add(tar, MANIFEST),
    "a symbolic link": lambda tar: add(tar, "empty", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": lambda tar: add(tar, "empty", b"", type=tarfile.LNKTYPE, linkname="a.txt"),
    "a device": lambda tar: add(tar, "empty", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a folder": lambda tar: add(tar, "empty", b"", type=tarfile.DIRTYPE),
    "a set-user-id bit": lambda tar: add(tar, "empty", b"", mode=0o4755),
    "an owner": lambda tar: add(tar, "empty", b"", uid=1000),
    "a long name": lambda tar: add(tar, "e" * 200),
    "a member that the manifest does not name": lambda tar: add(tar, "empty", b""),
}  # fmt: skip


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_but_plain_members_is_read(tmp_path: Path, evil: str) -> None:
    """Links, devices, paths out of the folder, strangers and duplicates: refused before anything is written."""
    path = tmp_path / "x.archive"
    path.write_bytes(crafted(lambda tar: None))
    assert code(path) == "", "without the evil one it is read"
    path.write_bytes(crafted(EVIL[evil]))
    assert code(path) == "file_malformed"


def test_extensions_and_compression_are_not_read(tmp_path: Path) -> None:
    """No header of another dialect, no sparse member, no compressed file: what would unfold is never unfolded."""
    path = tmp_path / "x.archive"
    pax = tarfile.PAX_FORMAT
    path.write_bytes(crafted(lambda tar: add(tar, "empty", b"", pax_headers={"comment": "x"}), format=pax))
    assert code(path) == "file_malformed"
    path.write_bytes(gzip.compress(crafted(lambda tar: None)))
    assert code(path) == "file_malformed"
    path = made(tmp_path)
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        at = tar.getmember("a.txt").offset
    for kind, found in ((b"0", ""), (b"S", "file_malformed")):  # As it is, and as a sparse member.
        data[at + 156 : at + 157] = kind
        data[at + 148 : at + 156] = b"        "
        data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
        path.write_bytes(data)
        assert code(path) == found


def test_a_manifest_that_promises_something_else(tmp_path: Path) -> None:
    """Other sizes, missing members, nonsense instead of a manifest: each is malformed, and none is a crash."""
    path = tmp_path / "x.archive"
    missing = {"name": "empty", "size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    path.write_bytes(crafted(lambda tar: None, [missing]))
    assert code(path) == "file_malformed"
    path.write_bytes(crafted(lambda tar: add(tar, "empty", b"x"), [missing]))
    assert code(path) == "file_malformed"
    path.write_bytes(crafted(lambda tar: add(tar, "empty", b"x"), [{**missing, "size": 1}]))
    assert code(path, "a.txt") == "" and code(path, "empty") == "file_malformed"
    for nonsense in (b"[]", b"{}", b'{"files": 7}', b'{"files": [1]}', b"\xff", b"[" * 100_000):
        digest = f"{hashlib.sha256(nonsense).hexdigest()}  {MANIFEST}\n".encode()
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            add(tar, MANIFEST, nonsense)
            add(tar, DIGEST, digest)
        data = out.getvalue().rstrip(b"\0")
        path.write_bytes(data + bytes(-len(data) % 512) + bytes(1024))
        assert code(path) == "file_malformed", nonsense


def test_a_large_member_is_copied_and_never_held(tmp_path: Path) -> None:
    """What is read into memory is bounded."""
    path = made(tmp_path, {"a.txt": bytes(archive.MAX_SMALL + 1)})
    assert code(path) == "file_malformed"
    with Reader(path, allowed) as reader:
        reader.copy("a.txt", tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == archive.MAX_SMALL + 1


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    """The folder of work in progress goes with its process, at the latest when the next one begins."""
    target = tmp_path / "x.archive"
    left = tmp_path / ".x.archive.dead.staging"
    left.mkdir()
    (left / "x.archive").write_bytes(b"half")
    other = tmp_path / ".y.archive.dead.staging"
    other.mkdir()
    with archive.staging(target) as first, archive.staging(target) as second:
        assert not left.exists() and first.exists() and second.exists() and first != second
        assert first.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in tmp_path.iterdir()] == [other.name]
