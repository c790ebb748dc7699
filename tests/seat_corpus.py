"""The recorded computers that ship in ``keyturn.testing.corpus``: what each is, and how its files came about.

Every value is invented; the shapes are the documented ones (see docs/decisions/0002-seat-identity.md).
``python tests/who_is_whom.py --update`` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import seat_corpus_platforms as platforms
import seat_corpus_virtual as virtual
from keyturn.testing.computers import RecordedComputer, laptop, office_pc, server
from keyturn.testing.parts import CPU_DESKTOP, CPU_OFFICE, CPU_SERVER, Parts
from seat_corpus_virtual import on_overlay, record

OFFICE = record("office-pc-a", "same-model pair", "An office PC of a fleet, one image for all.", office_pc(0x2C9392))
SERVER = record(
    "server-a", "server with many users", "A rack server with RAID and bonded adapters; 40 people use it.", server(0x00A1B2)
)
LAN = "sys/devices/pci0000:00/0000:00:1f.6/net/enp0s31f6"


def corpus() -> list[RecordedComputer]:
    """Return every recorded computer, in the order of the matrix."""
    diy, machines, clouds = list(self_built()), list(virtual.virtual_machines()), list(virtual.clouds())

    def named(name: str) -> RecordedComputer:
        return next(computer for computer in (*diy, *machines, *clouds) if computer.name == name)

    return [
        *office_pcs(),
        *laptops(),
        *diy,
        *big_ones(),
        *machines,
        *clouds,
        *virtual.containers(OFFICE, SERVER),
        *virtual.small_ones(),
        *platforms.moving(named("vm-template-a")),
        *platforms.pods([named("ec2-a"), named("ec2-b")]),
        *platforms.windows_pcs([named("diy-a"), named("diy-b")]),
        *platforms.windows_laptops(),
        *platforms.windows_machines(named("hyperv"), [named("azure-a"), named("azure-b")]),
        *platforms.macs(),
    ]


def office_pcs() -> Iterator[RecordedComputer]:
    a = OFFICE
    yield a
    yield record(
        "office-pc-b",
        "same-model pair",
        "Its neighbour: same model, same image, other serial numbers.",
        office_pc(0x2C93A7),
    )
    yield a.reinstalled()._replace(name="office-pc-a-reinstalled", klass="reinstallation")
    yield a.new_disk()._replace(klass="disk swap")
    yield a.new_board()._replace(klass="board swap")
    update = {
        "sys/class/dmi/id/bios_version": "1.31.0\n",
        "sys/class/dmi/id/bios_date": "03/05/2024\n",
        "sys/class/dmi/id/bios_vendor": "Example Computers, International LLC.\n",
    }
    yield a.variant("office-pc-a-firmware-update", "The firmware was updated, and its maker renamed itself.", files=update)
    more = Parts()
    more.pci("0000:00:01.0/0000:01:00.0", "030000", "10de:1cb3")
    more.pci("0000:00:01.0/0000:01:00.1", "040300", "10de:0fb9")
    more.adapter(more.pci("0000:00:1d.0/0000:03:00.0", "020000", "8086:1533"), "enp3s0", "00:1b:21:7a:3c:5e")
    more.memory(32_611_004)
    story = "More memory, a graphics card, a second network adapter further up the bus."
    yield a.with_part("office-pc-a-more-parts", story, more)._replace(klass="added parts")
    card = more.files["sys/devices/pci0000:00/0000:00:1d.0/0000:03:00.0/net/enp3s0/address"]
    yield (
        a.new_disk()
        .variant(
            "office-pc-a-disk-and-adapter",
            "A new disk and another network adapter at once.",
            files={f"{LAN}/address": card},
        )
        ._replace(klass="two anchors changed")
    )
    live = on_overlay("11111111111111111111111111111111")
    yield a.with_part("office-pc-a-live", "Started from a live system on a stick.", live)._replace(klass="live system")
    yield a.hidden()._replace(klass="hidden")
    shadow = Parts().dmi(
        sys_vendor="VMware, Inc.",
        product_name="VMware Virtual Platform",
        bios_vendor="Phoenix Technologies LTD",
        product_uuid="564d3c5e-9a07-41c3-b1a2-0c1d2e3f4a5b",
        board_serial="None",
    )
    shadow.processor(CPU_OFFICE, hypervisor=True)
    story = "The same installation turned into a virtual machine: another computer."
    yield (
        a.with_part("office-pc-a-as-vm", story, shadow)
        .variant("office-pc-a-as-vm", without=[LAN])
        ._replace(klass="physical to virtual", who="office-pc-a-as-vm")
    )


def laptops() -> Iterator[RecordedComputer]:
    a = record("laptop-a", "Wi-Fi only", "A laptop; privacy gives its radio another address each time.", laptop(0x11F0C3))
    yield a
    yield record("laptop-b", "Wi-Fi only", "Same model, same image.", laptop(0x11F0C4))
    yield a.docked()._replace(klass="dock")
    usb = Parts().adapter("sys/devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0", "enx00e04c680001", "00:e0:4c:68:00:01")
    usb.usb_disk("sys/devices/pci0000:00/0000:00:14.0", "sda", "575834314138", "Portable SSD")
    yield a.with_part("laptop-a-usb", "A network adapter and a disk on USB.", usb)._replace(klass="USB adapter and disk")
    radio = Parts().radio("sys/devices/pci0000:00/0000:00:14.3", "wlp0s20f3", "d8:f8:83:20:41:99")
    radio.pci("0000:00:14.3", "028000", "8086:2725")
    yield a.with_part("laptop-a-new-radio", "The radio card was replaced.", radio)._replace(klass="adapter swap")


def self_built() -> Iterator[RecordedComputer]:
    def diy(uuid: str, board: str, disk: str, mac: str) -> Parts:
        parts = Parts().dmi(
            sys_vendor="To Be Filled By O.E.M.",
            product_name="To Be Filled By O.E.M.",
            product_uuid=uuid,
            board_vendor="ExampleBoards",
            board_name="B550M",
            board_serial=board,
            bios_vendor="American Megatrends Inc.",
            bios_version="P2.10",
            bios_date="08/12/2021",
        )
        parts.sata(parts.pci("0000:00:01.2/0000:02:00.1", "010601", "1022:43eb"), "sda", disk, "Example SSD 500GB")
        parts.pci("0000:00:03.1/0000:07:00.0", "030000", "1002:731f")
        parts.adapter(parts.pci("0000:00:01.2/0000:05:00.0", "020000", "10ec:8168"), "enp5s0", mac)
        parts.processor(CPU_DESKTOP).memory(32_790_556)
        return parts.system(machine_id="5f2b7a9c1d3e4f60718293a4b5c6d7e8", volume="0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9")

    sample, blank = "03000200-0400-0500-0006-000700080009", "To Be Filled By O.E.M."
    a = record(
        "diy-a",
        "placeholder board",
        "A board whose maker filled in nothing.",
        diy(sample, blank, "2139E5D8C7A1", "a8:a1:59:12:34:57"),
    )
    yield a
    yield record(
        "diy-b",
        "placeholder board",
        "The same board in another case.",
        diy(sample, "Default string", "2139E5D8C7F4", "a8:a1:59:12:88:03"),
    )
    yield a.new_disk()._replace(klass="placeholder board, disk swap")
    for letter, mac in (("a", "b4:2e:99:41:07:5c"), ("b", "b4:2e:99:41:07:9e")):
        m = mac.split(":")
        woven = f"03{m[0]}02{m[1]}-04{m[2]}-05{m[3]}-{m[4]}06-{m[5]}0700080009"
        yield record(
            f"woven-{letter}",
            "UUID made from the adapter's address",
            "UUID and address are one value.",
            diy(woven, "Default string", f"21300A8014{letter.upper()}7", mac),
        )
    for letter, disk, mac in (("a", "AA2207115533", "04:7c:16:55:21:07"), ("b", "AA2207119981", "04:7c:16:55:21:a3")):
        yield record(
            f"batch-{letter}",
            "batch with equal serial numbers",
            "A whole batch left the factory with one UUID and one board number.",
            diy("9f3c2b1a-7d6e-4c5b-8a99-1f2e3d4c5b6a", "M80-55021700123", disk, mac),
        )


def big_ones() -> Iterator[RecordedComputer]:
    a = SERVER
    yield a
    yield record("server-b", "server with many users", "The next one in the rack.", server(0x00A1B3))
    second = next(path for path in a.files if path.endswith("31:00.1/net/eno2/bonding_slave/perm_hwaddr"))
    first = second.replace("31:00.1/net/eno2/bonding_slave/perm_hwaddr", "31:00.0/net/eno1/address")
    story = "The bond works over its second adapter, and both show that address."
    yield a.variant(
        "server-a-failover", story, files={first: a.files[second], first.replace("address", "addr_assign_type"): "3\n"}
    )
    for letter, number in (("a", 0x3D01), ("b", 0x3D02)):
        parts = Parts().dmi(
            sys_vendor="Example Workstations",
            product_name="Z8",
            product_uuid=f"a7f0c1d2-5b3e-11ed-9b6a-6c02e0{number:06x}",
            board_vendor="Example Workstations",
            board_name="8183",
            board_serial=f"PJWVZ00WBJ{number:04X}",
            bios_vendor="EX",
            bios_version="P60 v02.85",
            bios_date="10/27/2022",
        )
        parts.nvme(
            parts.pci("0000:00:1d.0/0000:04:00.0", "010802", "15b7:5011"),
            "nvme0n1",
            f"22181Y8{number:05d}",
            "Example NVMe 2TB",
            multipath=0,
        )
        sas = parts.pci("0000:00:03.0/0000:81:00.0", "010700", "1000:00c9")
        parts.sata(sas, "sdb", f"ZR50{number:06d}", "Example SAS 16TB", port=3, dev="8:16")
        fabric = parts.pci("0000:00:02.0/0000:5e:00.0", "0c0400", "1077:2261")
        parts.sata(f"{fabric}/host7/rport-7:0-1", "sda", "6001405a7b3c9d2e1f00", "SAN volume", port=8, dev="8:0")
        parts.adapter(
            parts.pci("0000:00:1f.6", "020000", "8086:15b9"),
            "eno1",
            f"6c:02:e0:00:{number >> 8:02x}:{number & 255:02x}",
        )
        parts.processor(CPU_SERVER).memory(131_900_000)
        parts.system(
            machine_id="c0ffee00c0ffee00c0ffee00c0ffee00", volume="77665544-3322-4110-8fed-cba987654321", device="259:2"
        )
        story = "NVMe with several paths, SAS disks; both see the same volume of the storage network."
        yield record(f"workstation-{letter}", "RAID and NVMe workstation", story, parts)


# What is committed.


def entry(computer: RecordedComputer, bases: dict[str, RecordedComputer]) -> dict[str, Any]:
    """Return a corpus file's content: the whole computer, or what differs from a computer it was made from."""
    told = {"name": computer.name, "class": computer.klass, "story": computer.story, "who": computer.who}
    base = max(
        (b for b in bases.values() if computer.name != b.name and computer.name.startswith(f"{b.name}-")),
        key=lambda b: len(b.name),
        default=None,
    )
    if base is None:
        return {**told, "files": computer.files, "links": computer.links, "root_only": sorted(computer.root_only)}
    gone = sorted({*base.files, *base.links} - {*computer.files, *computer.links})
    return {
        **told,
        "base": base.name,
        "without": gone,
        "files": {path: text for path, text in computer.files.items() if base.files.get(path) != text},
        "links": {path: target for path, target in computer.links.items() if base.links.get(path) != target},
        "root_only": sorted(computer.root_only - base.root_only),
    }


def texts() -> dict[str, str]:
    """Return the corpus as file name to content."""
    bases: dict[str, RecordedComputer] = {}
    files = {}
    for computer in corpus():
        files[f"{computer.name}.json"] = json.dumps(entry(computer, bases), indent=1, ensure_ascii=True) + "\n"
        if not any(computer.name.startswith(f"{name}-") for name in bases):
            bases[computer.name] = computer
    return files
