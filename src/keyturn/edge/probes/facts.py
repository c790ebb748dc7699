"""The declared facts of a request (design section 5): make, model, systems, firmware, locale, boot file.

Leaves to others: which of them are sent or withheld (``privacy.toml``, policy, the client).

Rules:

- Each fact is there as text, exactly as the system says it, or it is in the reasons.
- Of a locale only language and region are kept. No name, no host, no address, no serial number.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping

from keyturn.edge.probes.tree import Tree
from keyturn.edge.probes.virtual import DMI

_BOOT_LIMIT = 64 * 1024 * 1024
_DMI_FACTS = {
    "computer_make": "sys_vendor",
    "computer_model": "product_name",
    "firmware_name": "bios_vendor",
    "firmware_revision": "bios_version",
    "firmware_date": "bios_date",
}
_LOADERS = (
    "shimx64.efi",
    "shimaa64.efi",
    "grubx64.efi",
    "grubaa64.efi",
    "systemd-bootx64.efi",
    "bootx64.efi",
    "bootaa64.efi",
)


def read_facts(tree: Tree) -> tuple[dict[str, object], dict[str, str]]:
    """Return the facts, and for each missing one the reason."""
    facts: dict[str, object] = {}
    reasons: dict[str, str] = {}
    for add in (_firmware, _system, _locale, _boot_file):
        add(tree, facts, reasons)
    return facts, reasons


def _firmware(tree: Tree, facts: dict[str, object], reasons: dict[str, str]) -> None:
    absent = "the firmware does not say" if tree.exists(DMI) else "no DMI on this computer"
    for fact, name in _DMI_FACTS.items():
        if text := tree.text(DMI + name):
            facts[fact] = text
        else:
            reasons[fact] = tree.why(DMI + name, absent)
    if "computer_model" not in facts and (model := tree.text("sys/firmware/devicetree/base/model")):
        facts["computer_model"] = model
        del reasons["computer_model"]


def _system(tree: Tree, facts: dict[str, object], reasons: dict[str, str]) -> None:
    release = _assignments(tree.text("etc/os-release") or tree.text("usr/lib/os-release") or "")
    found = {
        "os_name": release.get("NAME"),
        "os_version": release.get("VERSION_ID") or release.get("BUILD_ID"),
        "os_build": tree.text("proc/sys/kernel/osrelease"),
    }
    for fact, text in found.items():
        if text:
            facts[fact] = text
        else:
            reasons[fact] = "the system does not say"


def _locale(tree: Tree, facts: dict[str, object], reasons: dict[str, str]) -> None:
    """From the environment of whoever runs this, else from the system's settings; a recorded computer has only those."""
    settings = _assignments((tree.text("etc/locale.conf") or "") + "\n" + (tree.text("etc/default/locale") or ""))
    sources = [settings] if tree.recorded else [dict(os.environ), settings]
    add_locale(locale_in(*sources), facts, reasons)


def locale_in(*sources: Mapping[str, str]) -> str:
    """Return the locale that the first of these settings names, or nothing."""
    return next((source[name] for source in sources for name in ("LC_ALL", "LANG") if source.get(name)), "")


def add_locale(said: str, facts: dict[str, object], reasons: dict[str, str]) -> None:
    """Add language and region of a locale: ``de_DE.UTF-8``, or ``de-DE`` (BCP 47), in which a script may stand between."""
    words = said.partition(".")[0].partition("@")[0].replace("-", "_").split("_")
    language, region = words[0], words[-1] if len(words) > 1 else ""
    if language in ("C", "POSIX"):
        language = ""
    for fact, text in (("language", language.lower()), ("region", region.upper())):
        if 2 <= len(text) <= 3 and text.isascii() and text.isalnum():
            facts[fact] = text
        else:
            reasons[fact] = f"the locale is {said[:20]}, which names none" if said else "no locale is set"


def settle(
    found: Mapping[str, tuple[str | None, str]], locale: str, tree: Tree, loaders: Iterable[str], none: str
) -> tuple[dict[str, object], dict[str, str]]:
    """Facts and reasons out of what a system said: each text or why it is missing, its locale, and the first of ``loaders``
    that is there (``none`` says that there is not one).
    """
    facts: dict[str, object] = {fact: text for fact, (text, _) in found.items() if text}
    reasons = {fact: reason for fact, (text, reason) in found.items() if not text}
    add_locale(locale, facts, reasons)
    loader = next((path for path in loaders if tree.exists(path)), None)
    if loader is None:
        reasons["boot_file_name"] = reasons["boot_file_sha256"] = none
        return facts, reasons
    facts["boot_file_name"] = loader
    if digest := sha256(tree, loader):
        facts["boot_file_sha256"] = digest
    else:
        reasons["boot_file_sha256"] = tree.why(loader, "the boot file could not be read whole")
    return facts, reasons


def _boot_file(tree: Tree, facts: dict[str, object], reasons: dict[str, str]) -> None:
    """Name and hash of the first link of the boot chain that lies in a file: the EFI loader, else the kernel."""
    seen = None
    for path in _boot_candidates(tree):
        if not tree.exists(path):
            continue
        seen = seen or path
        if digest := sha256(tree, path):
            facts["boot_file_name"], facts["boot_file_sha256"] = path, digest
            return
    denied = tree.why("boot/efi", tree.why("boot/efi/EFI", tree.why("boot", "")))
    reason = denied or "no boot file under /boot"
    if seen:
        facts["boot_file_name"] = seen
        reasons["boot_file_sha256"] = tree.why(seen, "the boot file could not be read whole")
    else:
        reasons["boot_file_name"] = reasons["boot_file_sha256"] = reason


def _boot_candidates(tree: Tree) -> list[str]:
    found = []
    for top in ("boot/efi/EFI", "efi/EFI", "boot/EFI"):
        folders = sorted(tree.names(top), key=lambda name: (name.lower() == "boot", name))
        for folder in folders:
            there = {name.lower(): name for name in tree.names(f"{top}/{folder}")}
            found += [f"{top}/{folder}/{there[name]}" for name in _LOADERS if name in there]
    for word in (tree.text("proc/cmdline") or "").split():
        if word.startswith("BOOT_IMAGE="):
            image = word.partition("=")[2].rpartition(")")[2].lstrip("/")
            found += [image if image.startswith("boot/") else f"boot/{image}"]
    release = tree.text("proc/sys/kernel/osrelease")
    found += [
        f"boot/vmlinuz-{release}",
        f"boot/Image-{release}",
        "boot/vmlinuz",
        "boot/kernel8.img",
        "boot/firmware/kernel8.img",
    ]
    return [path for path in found if ".." not in path.split("/")]


def sha256(tree: Tree, path: str) -> str | None:
    """Hash a file of at most 64 MiB; ``None`` if it cannot be read whole."""
    handle = tree.open(path)
    if handle is None:
        return None
    digest, left = hashlib.sha256(), _BOOT_LIMIT
    try:
        while block := os.read(handle, 1 << 20):
            left -= len(block)
            if left < 0:
                return None
            digest.update(block)
    except OSError:
        return None
    finally:
        os.close(handle)
    return digest.hexdigest()


def _assignments(text: str) -> dict[str, str]:
    """Parse ``NAME=value`` lines with optional quotes (os-release(5), locale.conf(5))."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            found[name.removeprefix("export ").strip()] = value.strip().strip("\"'")
    return found
