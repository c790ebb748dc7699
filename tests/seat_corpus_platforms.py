"""Recorded Windows PCs and Macs, and computers that move: checkpoints, golden images, pods of a cluster.

The rest of the corpus, and how it is committed, is in ``seat_corpus.py``. Windows PCs are Linux computers of the same hardware
seen by Windows (``keyturn.testing.windows_parts``), so every change is made in one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from keyturn.edge.probes.windows import CONTROL
from keyturn.testing.computers import RecordedComputer, cloud_vm, laptop, office_pc, server
from keyturn.testing.macos_parts import Mac, System, imac, macbook, virtual_mac
from keyturn.testing.parts import Parts
from keyturn.testing.windows_parts import System as Windows
from keyturn.testing.windows_parts import under_windows
from seat_corpus_virtual import boxed, record, vm

CLUSTER = "-----BEGIN CERTIFICATE-----\nrecorded certificate authority of one cluster\n-----END CERTIFICATE-----\n"
SERVER_2022 = Windows("Windows Server 2022 Datacenter", "21H2", "20348", 2340, "en-US", "c2d1a0f3")


def windows_pcs(diy: list[RecordedComputer]) -> Iterator[RecordedComputer]:
    """PCs and laptops; ``diy``: two computers whose boards have placeholders."""
    linux = record("win-office-a", "", "", office_pc(0x51A7B0))
    pair = "Windows PC, same model"
    yield under_windows(linux, "win-office-a", "An office PC of a fleet, one image for all.", klass=pair)
    other = record("win-office-b", "", "", office_pc(0x51A7B1))
    yield under_windows(
        other, "win-office-b", "Its neighbour: same model, same image, other serial numbers.", klass=pair
    )
    yield under_windows(
        linux, "win-office-a-reinstalled", "Windows 10 became Windows 11, installed anew.",
        klass="Windows PC, reinstallation", system=Windows(version="24H2", build="26100", revision=1742, volume="71e0b2d4"),
    )  # fmt: skip
    yield under_windows(
        linux.new_disk(), "win-office-a-new-disk", "The system disk was replaced.", klass="Windows PC, disk swap"
    )
    board = "The main board was replaced; the disk stayed."
    yield under_windows(linux.new_board(2), "win-office-a-new-board", board, klass="Windows PC, board swap")
    more = Parts()
    more.pci("0000:00:01.0/0000:01:00.0", "030000", "10de:1cb3")
    card = more.pci("0000:00:19.0", "020000", "8086:1533")
    more.adapter(card, "enp0s25", "00:1b:21:7a:3c:5e")
    marked = linux.variant("marked", files={"sys/devices/pci0000:00/0000:00:1f.6/acpi_index": "1\n"})
    yield under_windows(
        marked.with_part("more", "", more), "win-office-a-more-parts",
        "A graphics card, and a network card in front of the adapter on the board.", klass="Windows PC, added parts",
    )  # fmt: skip
    yield linux._replace(
        name="win-office-a-linux", klass="dual boot", story="The same PC, started with Linux.", who="win-office-a"
    )
    for letter, item in zip("ab", diy, strict=True):
        story = "The PC with such a board, started with Windows: nobody reads more of it."
        yield under_windows(item, f"win-diy-{letter}", story, klass="Windows PC, placeholder board")
    image = Windows("Windows 10 Enterprise", "22H2", "19045", 4170, volume="5e7d3c21")
    for number in (1, 2):
        story = "One of a room, all laid down from one golden image."
        made = record(f"win-image-{number}", "", "", office_pc(0x60C100 + number))
        yield under_windows(made, made.name, story, klass="Windows PC, golden image", system=image)


def windows_laptops() -> Iterator[RecordedComputer]:
    linux = record("win-laptop-a", "", "", laptop(0x51B8C0))
    pair = "Windows laptop, Wi-Fi only"
    yield under_windows(linux, "win-laptop-a", "A laptop with an NVMe disk.", klass=pair)
    other = record("win-laptop-b", "", "", laptop(0x51B8C1))
    yield under_windows(other, "win-laptop-b", "Same model, same image.", klass=pair)
    dock = "On a Thunderbolt dock with its own network adapters and a disk."
    yield under_windows(linux.docked(), "win-laptop-a-docked", dock, klass="Windows laptop, dock")
    usb = Parts().adapter("sys/devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0", "enx1", "00:e0:4c:68:41:07")
    usb.usb_disk("sys/devices/pci0000:00/0000:00:14.0", "sda", "575834314138", "Portable SSD")
    yield under_windows(
        linux.with_part("usb", "", usb), "win-laptop-a-usb", "A network adapter and a disk on USB.", klass="Windows laptop, USB"
    )  # fmt: skip
    dual = "The same laptop, started with Linux: its disk tells another number there."
    yield linux._replace(name="win-laptop-a-linux", klass="dual boot", story=dual, who="win-laptop-a")


def windows_machines(hyperv: RecordedComputer, azure: list[RecordedComputer]) -> Iterator[RecordedComputer]:
    """Virtual machines, instances and a container with Windows."""
    another = {"sys/class/dmi/id/product_uuid": "c3b2a190-8f7e-4d6c-b5a4-938271605f50\n"}
    guest = hyperv.variant("win-hyperv", files=another)._replace(who="")
    first = under_windows(guest, "win-hyperv", "A guest of Hyper-V.", klass="Windows VM", system=SERVER_2022)
    yield first
    checkpoint = "A checkpoint was applied: the hypervisor gives it another generation ID, and the same UUID."
    yield generation(first, "win-hyperv-checkpoint", checkpoint, "windows/vm_generation.txt", "a8c41f7e2b9d40c6")
    for letter, uuid in (("a", "42371f0c-9a3d-5b77-0c1e-aa10bb20cc31"), ("b", "4237a7e2-11d4-8c90-f3b5-dd40ee50ff61")):
        made = vm(uuid, "00:50:56:b7:11:2" + str(ord(letter) % 10), vendor="VMware, Inc.", product="VMware20,1")
        story = "Made from a template; the hypervisor gave it a UUID."
        yield under_windows(
            record(f"win-vmware-{letter}", "", "", made), f"win-vmware-{letter}", story, klass="Windows VM, template"
        )
    for letter, item in zip("ab", azure, strict=True):
        item = item.variant(
            item.name, files={"sys/class/dmi/id/product_uuid": f"5d0c8a3e-7f41-4b0a-9c2d-3e4f506172{letter}{letter}\n"}
        )
        story = "From a public image: here everybody may read the UUID."
        made_win = under_windows(
            item._replace(who=""), f"win-azure-{letter}", story, klass="Windows instance", system=SERVER_2022
        )
        yield made_win
    ec2 = record("win-ec2-a", "", "", cloud_vm(0x1A2B3C))
    yield under_windows(ec2, "win-ec2-a", "From a public image.", klass="Windows instance", system=SERVER_2022)
    larger = ec2.variant(
        "larger", files={"sys/class/dmi/id/product_name": "m6i.4xlarge\n", "proc/meminfo": "MemTotal: 64000000 kB\n"}
    )
    yield under_windows(
        larger, "win-ec2-a-resized", "Stopped, made larger, started on another host.", klass="Windows instance, resized",
        system=SERVER_2022,
    )  # fmt: skip
    inside = under_windows(record("win-server", "", "", server(0x00C3D4)), "win-container", "", system=SERVER_2022)
    registry = json.loads(inside.files["windows/registry.json"])
    registry[CONTROL]["ContainerType"] = 1
    shown = {"windows/registry.json": json.dumps(registry, indent=1) + "\n", "windows/smbios.bin": ""}
    hidden = {f"windows/{part}.json": "[]\n" for part in ("disks", "adapters")} | {"windows/devices.json": "{}\n"}
    yield inside.variant(
        "win-container", "A container of a Windows server: it sees no hardware.", files={**shown, **hidden},
        klass="Windows container",
    )._replace(who="win-container")  # fmt: skip


def generation(base: RecordedComputer, name: str, story: str, path: str, value: str) -> RecordedComputer:
    """Return a virtual machine after its generation ID became another; the probe does not read it (decision 0009)."""
    made = base.variant(name, story, files={path: f"{value}\n"}, klass="VM generation ID changed")
    return made._replace(root_only=made.root_only | ({path} if path.startswith("sys/") else set()))


def moving(template: RecordedComputer) -> Iterator[RecordedComputer]:
    story = "Taken back to a snapshot: the hypervisor gives it another generation ID, and the same UUID."
    path = "sys/firmware/qemu_fw_cfg/by_name/etc/vmgenid_guid/raw"
    yield generation(template, "vm-template-a-generation", story, path, "6f0d52b7-7f5c-4b7e-9b7e-2d1c0a9f8e77")


def macs() -> Iterator[RecordedComputer]:
    def book(number: int = 0x33D201, system: System | None = None) -> Mac:
        return macbook(number, system=system)

    silicon = "Mac with Apple silicon"
    yield book().recorded("mac-book-a", silicon, "A laptop with Apple silicon.")
    yield book(0x33D202).recorded("mac-book-b", silicon, "Same model, same order.")
    yield book(system=System("15.2", "24C101")).recorded(
        "mac-book-a-upgraded", "Mac, system upgraded", "macOS was upgraded and installed anew.", "mac-book-a"
    )
    docked = (
        book().adapter("en7", "ac:91:a1:33:44:55", builtin=False).adapter("en8", "00:e0:4c:11:22:33", builtin=False)
    )
    docked.disk("DOCKDISK0001", "Portable NVMe", interconnect="PCI-Express", location="External").pci(
        "020000", "8086:15f3", tunnelled=True
    )
    story = "On a Thunderbolt dock with network adapters and a disk of its own."
    yield docked.recorded("mac-book-a-docked", "Mac, dock", story, "mac-book-a")
    board = book(0x33E777)
    serial = book().registry["platform"][0]["IOPlatformSerialNumber"]
    board.registry["platform"][0]["IOPlatformSerialNumber"] = serial
    story = "The main board was replaced, and with it disk and radio; the workshop wrote the old serial number."
    yield board.recorded("mac-book-a-new-board", "Mac, board swap", story, "mac-book-a")
    intel = "Mac with an Intel processor"
    yield imac(0x44D301).recorded("mac-intel-a", intel, "A desktop with a SATA disk and a wired adapter.")
    yield imac(0x44D302).recorded("mac-intel-b", intel, "Same model.")
    story = "The disk was replaced by another maker's."
    swapped = imac(0x44D301)
    swapped.registry["storage"] = []
    swapped.disk("2244E6F0A1B9", "Example SSD 1TB", interconnect="SATA")
    yield swapped.recorded("mac-intel-a-new-disk", "Mac, disk swap", story, "mac-intel-a")
    yield virtual_mac(0x55D401).recorded("mac-vm-a", "virtual Mac", "A virtual machine of Virtualization.framework.")
    yield virtual_mac(0x55D402).recorded("mac-vm-b", "virtual Mac", "A copy with a machine identifier of its own.")
    same = "Its bundle was copied: the machine identifier came along."
    yield virtual_mac(0x55D403).recorded("mac-vm-copy-a", "virtual Mac, copied", same)
    yield virtual_mac(0x55D403).recorded("mac-vm-copy-b", "virtual Mac, copied", same)


def pods(nodes: list[RecordedComputer]) -> Iterator[RecordedComputer]:
    """Pods of one cluster: on cloud nodes, whose instance ID everybody may read, and in sandboxes that show nothing."""
    mark = Parts()
    mark.files.update(
        {
            "run/secrets/kubernetes.io/serviceaccount/ca.crt": CLUSTER,
            "run/secrets/kubernetes.io/serviceaccount/namespace": "default",
            "proc/1/cgroup": "0::/kubepods.slice/kubepods-burstable.slice\n",
        }
    )
    first, second = nodes
    yield boxed(first, f"{first.name}-pod-1", "pod", "A pod on a cloud node.", mark)
    yield boxed(first, f"{first.name}-pod-2", "pod", "Another pod on the same node.", mark)
    yield boxed(second, f"{second.name}-pod-1", "pod", "The first pod, rescheduled to another node.", mark)
    for number in (1, 2):
        story = "A pod in a sandbox: no hardware to be seen, and the cluster's certificate, which all its pods share."
        inside = boxed(
            first, f"sandboxed-pod-{number}", "pod in a sandbox", story, mark, without=("sys", "proc/cpuinfo")
        )
        yield inside._replace(who=inside.name)
