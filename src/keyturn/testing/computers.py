"""Recorded computers: directories that look to a probe like a computer's files.

For tests, the demonstration and whoever tests a program that Keyturn licenses (a test product accepts such a directory
as ``KEYTURN_SYSROOT``). The corpus (``names``, ``load``) has a story for each; ``synthetic`` makes any number.

They are put together from documented formats with invented values; none was read from a person's computer.

>>> load("office-pc-a").klass
'same-model pair'
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from keyturn.testing.parts import CPU_CLOUD, CPU_LAPTOP, CPU_OFFICE, CPU_SERVER, Parts

_CORPUS = Path(__file__).with_name("corpus")
MODELS = ("office-pc", "laptop", "server", "cloud-vm", "windows-pc", "windows-laptop", "macbook", "imac")


class RecordedComputer(NamedTuple):
    """One computer as files: path to text, path to link target, and the paths only root may read."""

    name: str
    klass: str
    story: str
    files: Mapping[str, str]
    links: Mapping[str, str]
    root_only: frozenset[str]
    who: str = ""  # Which computer this truly is, whatever was changed in it: the corpus is judged by it.

    def write(self, directory: str | os.PathLike[str], *, as_user: bool = False) -> Path:
        """Write the computer below ``directory`` (new or empty) and return it.

        ``as_user``: root's files are there but may not be read, not even by root (a probe honours the mode).
        Raises: FileExistsError if the directory holds anything.
        """
        top = Path(directory)
        top.mkdir(parents=True, exist_ok=True)
        if any(top.iterdir()):
            raise FileExistsError(f"{top} is not empty: write each recorded computer into a directory of its own")
        for path, text in self.files.items():
            full = _below(top, path)
            full.parent.mkdir(parents=True, exist_ok=True)
            full.write_bytes(text.encode("latin-1" if "/vpd_pg" in path or path.endswith(".bin") else "utf-8"))
            if path in self.root_only:
                full.chmod(0o000 if as_user else 0o400)
        for path, target in self.links.items():
            full = _below(top, path)
            full.parent.mkdir(parents=True, exist_ok=True)
            full.symlink_to(target)
        return top

    def variant(
        self,
        name: str,
        story: str = "",
        *,
        files: Mapping[str, str] | None = None,
        links: Mapping[str, str] | None = None,
        without: Iterable[str] = (),
        klass: str | None = None,
    ) -> RecordedComputer:
        """Return this computer with something else in it; ``without`` names paths to drop, with all below them."""
        drop = tuple(without)

        def stays(path: str) -> bool:
            return not any(path == item or path.startswith(f"{item}/") for item in drop)

        return RecordedComputer(
            name,
            klass or self.klass,
            story or self.story,
            {path: text for path, text in self.files.items() if stays(path)} | dict(files or {}),
            {path: target for path, target in self.links.items() if stays(path)} | dict(links or {}),
            frozenset(path for path in self.root_only if stays(path)),
            self.who,
        )

    def with_part(self, name: str, story: str, part: Parts) -> RecordedComputer:
        """Return this computer with another part added (or laid over the one in its place)."""
        added = self.variant(name, story, files=part.files, links=part.links)
        return added._replace(root_only=added.root_only | part.root_only)

    # What happens to computers.

    def new_disk(self, serial: str | None = None) -> RecordedComputer:
        """Return this computer with another system disk of the same model, freshly installed."""
        serial = serial or f"NEW{random.Random(f'disk/{self.name}').getrandbits(40):010X}"
        old = [path for path in self.files if path.endswith(("/vpd_pg80", "/serial")) and "/devices/" in path]
        if not old:
            raise ValueError(f"{self.name} has no disk with a serial number")
        page = "\0\x80" + chr(len(serial) >> 8) + chr(len(serial) & 255) + serial
        files = {path: page if path.endswith("vpd_pg80") else f"{serial:20}\n" for path in old}
        return self.reinstalled().variant(f"{self.name}-new-disk", "The system disk was replaced.", files=files)

    def new_board(self, seed: int = 1) -> RecordedComputer:
        """Return this computer with another main board of the same model: UUID, serial number and built-in adapter."""
        other = synthetic(9_000_000 + seed)
        files = {path: other.files[path] for path in self.root_only if path in other.files}
        files |= {
            path: other.files["sys/devices/pci0000:00/0000:00:1f.6/net/enp0s31f6/address"]
            for path in self.files
            if path.endswith("/address") and "/usb" not in path
        }
        return self.variant(f"{self.name}-new-board", "The main board was replaced; the disk stayed.", files=files)

    def docked(self, mac: str = "ac:91:a1:33:44:55") -> RecordedComputer:
        """Return this computer on a dock: network adapter and disk on Thunderbolt, another adapter on USB."""
        part = Parts()
        part.pci("0000:00:01.5", "060400", "8086:9a27")
        part.pci("0000:00:01.5/0000:02:00.0", "060400", "8086:15ef", removable=True)
        wired = part.pci("0000:00:01.5/0000:02:00.0/0000:03:00.0", "020000", "8086:15f3")
        part.adapter(wired, "enp3s0", mac)
        drive = part.pci("0000:00:01.5/0000:02:00.0/0000:04:00.0", "010802", "144d:a808")
        part.nvme(drive, "nvme7n1", "DOCKDISK0001", "Portable NVMe")
        usb = "sys/devices/pci0000:00/0000:00:00.9/usb3/3-1/3-1:1.0"
        part.adapter(usb, "enx00e04c112233", "00:e0:4c:11:22:33")
        return self.with_part(f"{self.name}-docked", "On a dock with its own network adapters and a disk.", part)

    def reinstalled(self, seed: int = 1) -> RecordedComputer:
        """Return this computer after its system was installed anew: what belongs to the installation is another."""
        chance = random.Random(f"reinstalled/{self.name}/{seed}")
        volume = f"{chance.getrandbits(32):08x}-0000-4000-8000-{chance.getrandbits(48):012x}"
        files = {"etc/machine-id": f"{chance.getrandbits(128):032x}\n"}
        files |= {path: f"E:ID_FS_UUID={volume}\n" for path in self.files if path.startswith("run/udev/data/b")}
        return self.variant(self.name, "The operating system was installed anew.", files=files)

    def under_windows(self, name: str = "", story: str = "") -> RecordedComputer:
        """Return the same hardware with Windows on it (``windows_parts``). Make changes before: they speak of Linux' files."""
        from keyturn.testing.windows_parts import under_windows

        return under_windows(self, name or self.name, story or self.story)

    def hidden(self, top: str = "sys") -> RecordedComputer:
        """Return this computer with a directory hidden, as somebody would who copied a store."""
        return self.variant(f"{self.name}-no-{top}", f"/{top} is hidden.", without=(top,))

    def hides(self, *slots: str) -> RecordedComputer:
        """Return this computer with some anchors unreadable: of ``uuid``, ``board``, ``disk``, ``nic``."""
        ends = {"uuid": ("/product_uuid",), "board": ("/board_serial",), "disk": ("/vpd_pg80", "/serial"),
                "nic": ("/address", "/macaddress")}  # fmt: skip
        gone = [path for path in self.files for slot in slots if path.endswith(ends[slot])]
        return self.variant(
            f"{self.name}-without-{'-'.join(slots)}", f"{', '.join(slots)} cannot be read.", without=gone
        )


def names() -> list[str]:
    """Return the names of the corpus, in order."""
    return sorted(item.stem for item in _CORPUS.glob("*.json"))


def load(name: str) -> RecordedComputer:
    """Return one recorded computer of the corpus; an entry with a ``base`` says only what differs from it.

    Raises: KeyError if there is no such computer.
    """
    try:
        entry = json.loads((_CORPUS / f"{name}.json").read_text("utf-8"))
    except FileNotFoundError as error:
        raise KeyError(name) from error
    base = load(entry["base"]) if "base" in entry else RecordedComputer(name, "", "", {}, {}, frozenset())
    files, links, without = entry.get("files"), entry.get("links"), entry.get("without", ())
    changed = base.variant(name, entry["story"], files=files, links=links, without=without, klass=entry["class"])
    return changed._replace(root_only=changed.root_only | frozenset(entry.get("root_only", ())), who=entry["who"])


def synthetic(seed: int, model: str = "office-pc") -> RecordedComputer:
    """Return computer number ``seed`` of a fleet of one model: equal in all but what is individual.

    Deterministic; two seeds (0 to 16,777,215) never share an anchor. ``model`` is one of ``MODELS``.
    """
    number = _scattered(seed)
    name, story, klass = f"{model}-{seed}", f"Number {seed} of a fleet of one model, from one image.", f"fleet of {model}"
    if model in ("macbook", "imac"):
        from keyturn.testing import macos_parts

        return getattr(macos_parts, model)(number).recorded(name, klass, story)  # type: ignore[no-any-return]
    linux = {"windows-pc": "office-pc", "windows-laptop": "laptop"}.get(model, model)
    parts = {"office-pc": office_pc, "laptop": laptop, "server": server, "cloud-vm": cloud_vm}[linux](number)
    made = RecordedComputer(name, klass, story, parts.files, parts.links, frozenset(parts.root_only), name)
    return made if linux == model else made.under_windows()


def _below(top: Path, path: str) -> Path:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} leads outside the recorded computer")
    return top / path


def _scattered(seed: int) -> int:
    """Spread the seeds over 24 bits, one to one, so that neighbours do not look alike."""
    return (seed * 0x9E3779 + 0x51ED27) % (1 << 24)


def _mac(block: str, number: int) -> str:
    text = f"{block}{number:06x}"
    return ":".join(text[at : at + 2] for at in range(0, 12, 2))


def _serial(number: int, length: int = 7) -> str:
    """A serial number as makers write it: letters and digits without look-alikes."""
    symbols, text = "0123456789BCDFGHJKLMNPQRSTVWXYZ", ""
    number = number * 0x9E3779B1 % (1 << 32)
    for _ in range(length):
        number, digit = divmod(number, len(symbols))
        text += symbols[digit]
    return text


def office_pc(number: int) -> Parts:
    """Put together an office PC: SATA disk and DVD drive, wired adapter on the board, one image for the whole fleet."""
    tag = _serial(number)
    parts = Parts().dmi(
        sys_vendor="Example Computers", product_name="Office 7080", product_uuid=_vendor_uuid(number), product_serial=tag,
        board_vendor="Example Computers", board_name="0KC9NP", board_serial=f"/{tag}/CNWS2000{number:06X}/",
        bios_vendor="Example Computers", bios_version="1.14.2", bios_date="06/01/2022", chassis_asset_tag="",
    )  # fmt: skip
    parts.pci("0000:00:00.0", "060000", "8086:9b53")
    parts.pci("0000:00:02.0", "030000", "8086:9bc8")
    ahci = parts.pci("0000:00:17.0", "010601", "8086:06d2")
    parts.sata(ahci, "sda", f"S4EVNF0M{number:06X}K", "Example SSD 500", port=1)
    parts.optical(ahci, "Example DVD GU90N")
    parts.pci("0000:00:1f.3", "040300", "8086:06c8")
    nic = parts.pci("0000:00:1f.6", "020000", "8086:0d4c")
    parts.adapter(nic, "enp0s31f6", _mac("a4bb6d", number))
    parts.adapter("sys/devices/virtual", "lo", "00:00:00:00:00:00")
    parts.processor(CPU_OFFICE).memory(16_206_108)
    return parts.system(machine_id="0c5e7a91b2d34f6088aa6655ee443322", volume="6a1f0d52-7f5c-4b7e-9b7e-2d1c0a9f8e77")


def laptop(number: int) -> Parts:
    """Put together a laptop: NVMe disk, a radio whose shown address changes and no wired adapter."""
    parts = Parts().dmi(
        sys_vendor="EXAMPLE", product_name="Notebook X13", product_uuid=_vendor_uuid(number, "4c4c4544-0036"),
        product_serial=_serial(number, 8), board_vendor="EXAMPLE", board_name="20WKCTO1WW",
        board_serial=f"L1HF{_serial(number, 8)}",
        bios_vendor="EXAMPLE", bios_version="N35ET51W (1.51 )", bios_date="02/14/2023",
    )  # fmt: skip
    parts.pci("0000:00:02.0", "030000", "8086:9a49")
    bridge = "0000:00:06.0"
    parts.pci(bridge, "060400", "8086:9a09")
    parts.nvme(
        parts.pci(f"{bridge}/0000:04:00.0", "010802", "144d:a809"), "nvme0n1", f"S64DNX0R{number:06X}", "Example NVMe 512GB"
    )
    parts.pci("0000:00:1f.3", "040100", "8086:a0c8")
    radio = parts.pci("0000:00:14.3", "028000", "8086:a0f0")
    parts.radio(radio, "wlp0s20f3", _mac("a0e70b", number), shown="5e:12:9a:07:c3:41")
    parts.processor(CPU_LAPTOP).memory(32_560_912)
    return parts.system(
        machine_id="77aa0f4be2b14c9c8d0f1e2d3c4b5a69",
        volume="b2c4d6e8-1357-4246-8ace-13579bdf0246",
        device="259:2",
        source="/dev/nvme0n1p2",
    )


def server(number: int) -> Parts:
    """Put together a rack server: hardware RAID volume, two bonded adapters, an audio-less board."""
    parts = Parts().dmi(
        sys_vendor="Example Systems", product_name="R750", product_uuid=_vendor_uuid(number, "4c4c4544-0051"),
        product_serial=_serial(number),
        board_vendor="Example Systems", board_name="06V45N", board_serial=f".{_serial(number)}.CNFCP{number:06X}.",
        bios_vendor="Example Systems", bios_version="1.9.2", bios_date="11/17/2022",
    )  # fmt: skip
    raid = parts.pci("0000:00:04.0/0000:65:00.0", "010400", "1000:10e2")
    parts.raid_volume(raid, "sda", f"00{number:06x}5f3c1a2b2900ffb7d0a0", "PERC H755 Front", "DELL")
    parts.pci("0000:00:11.5", "010601", "8086:a1d2")
    parts.pci("0000:00:13.0", "030000", "102b:0536")
    for function, name in enumerate(("eno1", "eno2")):
        device = parts.pci(f"0000:00:05.0/0000:31:00.{function}", "020000", "14e4:165f")
        parts.adapter(device, name, _mac("b07b25", number), assigned="0")
        parts.files[f"{device}/net/{name}/bonding_slave/perm_hwaddr"] = (
            _mac(("b07b25", "b07b26")[function], number) + "\n"
        )
    parts.adapter("sys/devices/virtual", "bond0", _mac("b07b25", number), assigned="3")
    parts.processor(CPU_SERVER, threads=4).memory(263_550_400)
    return parts.system(
        machine_id="1b9d6bcdbbfd4b2d9b5dab8dfbbd4bed",
        volume="11aa22bb-33cc-44dd-95ee-66ff77008899",
        locale="en_GB.UTF-8",
    )


def cloud_vm(number: int) -> Parts:
    """Put together a cloud's virtual machine from one public image: its instance ID is readable by everybody."""
    instance = f"i-0{number:06x}5a7c9b1d2e"
    parts = Parts().dmi(
        sys_vendor="Amazon EC2", product_name="m6a.large", product_uuid=_vendor_uuid(number, "ec2a1b2c-0001"),
        product_serial=_vendor_uuid(number, "ec2a1b2c-0001"), board_vendor="Amazon EC2", board_asset_tag=instance,
        bios_vendor="Amazon EC2", bios_version="1.0", bios_date="10/16/2017", chassis_asset_tag="Amazon EC2",
    )  # fmt: skip
    parts.pci("0000:00:03.0", "030000", "1d0f:1111")
    parts.nvme(
        parts.pci("0000:00:04.0", "010802", "1d0f:8061"),
        "nvme0n1",
        f"vol0{number:06x}aa11bb22cc",
        "Amazon Elastic Block Store",
    )
    parts.adapter(parts.pci("0000:00:05.0", "020000", "1d0f:ec20"), "ens5", _mac("0a58a9", number))
    parts.processor(CPU_CLOUD, hypervisor=True).memory(7_940_000)
    return parts.system(
        machine_id="ec2b8e0f7d6c5b4a39281706f5e4d3c2", volume="4c1f8f3a-0b6e-4f0d-8d5e-9a7b6c5d4e3f",
        device="259:1", source="/dev/nvme0n1p1", locale="C.UTF-8",
    )  # fmt: skip


def _vendor_uuid(number: int, head: str = "4c4c4544-004d") -> str:
    chance = random.Random(number)
    return f"{head}-{chance.getrandbits(16):04x}-8{chance.getrandbits(12):03x}-{chance.getrandbits(24):06x}{number:06x}"
