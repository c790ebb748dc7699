"""Independent readings: the declared facts and hashes worked out again, with nothing of the program under test.

Files by their documented places, other programs (``uname``, ``sha256sum``, ``systemd-detect-virt``), HMAC and HKDF by the
book. A reading is a text, or None where the computer does not say.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.metadata
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DMI = {"computer_make": "sys_vendor", "computer_model": "product_name", "firmware_name": "bios_vendor",
       "firmware_revision": "bios_version", "firmware_date": "bios_date"}  # fmt: skip


def text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def facts(root: Path, language: str | None) -> dict[str, str | None]:
    """What every declared fact should be on the computer whose files are below ``root``; ``language`` is LANG."""
    release = _shell(root / "etc/os-release")
    if root == Path("/"):
        build: str | None = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.strip()
    else:
        build = text(root / "proc/sys/kernel/osrelease")
        language = _shell(root / "etc/default/locale").get("LANG")
    spoken, _, rest = (language or "").partition("_")
    boot = _boot_file(root, build)
    return {
        **{fact: text(root / "sys/class/dmi/id" / name) for fact, name in DMI.items()},
        "os_name": release.get("NAME"), "os_version": release.get("VERSION_ID"), "os_build": build,
        "language": spoken if spoken not in ("", "C", "POSIX") and "." not in spoken else None,
        "region": rest.partition(".")[0] or None,
        "boot_file_name": None if boot is None else str(boot.relative_to(root)),
        "boot_file_sha256": None if boot is None else _sha256sum(boot),
        "client_version": importlib.metadata.version("keyturn"),
        "product_version": None, "installation_outcome": None, "validation_result": None,
    }  # fmt: skip


def _shell(path: Path) -> dict[str, str]:
    words = shlex.split(text(path) or "", comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def _boot_file(root: Path, build: str | None) -> Path | None:
    loaders = sorted((root / "boot/efi/EFI").glob("*/shim*.efi")) or sorted((root / "boot/efi/EFI").glob("*/grub*.efi"))
    image = next(
        (w.partition("=")[2] for w in (text(root / "proc/cmdline") or "").split() if w.startswith("BOOT_IMAGE=")), None
    )
    named = [] if image is None else [root / image.lstrip("/"), root / "boot" / image.lstrip("/")]
    kernels = [*named, root / f"boot/vmlinuz-{build}", root / "boot/vmlinuz"]
    return next((path for path in (*loaders, *kernels) if path.is_file()), None)


def _sha256sum(path: Path) -> str:
    return subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]


def virtual() -> bool:
    """Whether this computer is a virtual machine, by the processor's own word and systemd's."""
    said = "none"
    if shutil.which("systemd-detect-virt"):
        said = subprocess.run(
            ["systemd-detect-virt", "--vm"], capture_output=True, text=True, check=False
        ).stdout.strip()
    return said != "none" or " hypervisor" in (text(Path("/proc/cpuinfo")) or "")


def anchors(root: Path) -> dict[str, str]:
    """The four physical anchors of a recorded computer, in their normal form (design section 4)."""
    serial = next(iter(root.glob("sys/devices/**/vpd_pg80"))).read_bytes()[4:].decode().strip()
    (mac,) = (path for path in root.glob("sys/devices/pci*/**/net/*/address"))
    return {
        "uuid": (text(root / "sys/class/dmi/id/product_uuid") or "").replace("-", "").lower(),
        "board": text(root / "sys/class/dmi/id/board_serial") or "",
        "disk": serial, "nic": (text(mac) or "").replace(":", ""),
    }  # fmt: skip


def pairs(values: Mapping[str, str], product: str) -> dict[str, str]:
    """The pair tags of these anchors: 64 bits of an HMAC keyed by product name and scheme."""
    blind = {
        slot: f"blind1:{hashlib.sha256(framed('keyturn anchor 1', slot, value)).hexdigest()}"
        for slot, value in values.items()
    }
    names = sorted(values)
    found = {}
    for index, one in enumerate(names):
        for two in names[index + 1 :]:
            message = framed(f"{one}+{two}", blind[one], blind[two])
            found[f"{one}+{two}"] = hmac.digest(f"keyturn seat 1 {product}".encode(), message, "sha256").hex()[:16]
    return found


def component_tag(name: str, value: str, product: str, digits: int) -> str:
    return hmac.digest(f"keyturn component 1 {product}".encode(), framed(name, value), "sha256").hex()[:digits]


def key_proof(key: str, product: str, serial: int, thumbprint: str, nonce: str) -> str:
    """The proof by RFC 5869 and RFC 2104, from the symbols of the key as the docs describe them."""
    alphabet = "0123456789ACDEFGHJKMNPQRTVWXY"
    symbols = [alphabet.index(symbol) for symbol in key.replace("-", "")]
    number = sum(value * 29**place for place, value in enumerate(symbols[2:]))
    extracted = hmac.digest(bytes(32), number.to_bytes(14, "big"), "sha256")
    k = hmac.digest(extracted, framed("keyturn key v1", product) + b"\x01", "sha256")
    return b64u(hmac.digest(k, framed("keyturn proof v1", product, str(serial), thumbprint, nonce), "sha256"))


def framed(*parts: str) -> bytes:
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)


def b64u(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def decoded(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a compact JWS."""
    head, body, _ = token.split(".")
    return json.loads(unb64u(head)), json.loads(unb64u(body))


def account() -> str:
    return "root" if os.geteuid() == 0 else "an unprivileged user"
