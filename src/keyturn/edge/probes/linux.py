"""The Linux probe: anchors and components from sysfs, procfs and what udev left in ``/run``.

Leaves to others: files (``tree``), virtual machines and containers (``virtual``), the declared facts (``facts``), the
agent's file (``agentfile``), what is an individual value (``core.hardware``).

Rules:

- ``uuid`` and ``board`` come from the firmware's tables, which only root may read; without root the agent's file helps.
- ``disk`` is the internal disk on the lowest bus path, ``nic`` the internal adapter with a permanent universal address,
  wired before wireless, on the board before a card. Nothing on USB, Thunderbolt or removable, nothing networked, nothing virtual.
- In a virtual machine only ``vm`` counts: its disks and adapters are the hypervisor's, and its UUID goes there.
- A component never depends on what only root can read: root and user must see the same computer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keyturn.core.hardware import Reading, anchor_value
from keyturn.edge.probes import Ask, Computer
from keyturn.edge.probes.agentfile import anchors_from_agent
from keyturn.edge.probes.rules import (
    PLACEHOLDER,
    Slots,
    firmware_component,
    memory_band,
    pci_components,
    processor_component,
)
from keyturn.edge.probes.tree import Tree, natural
from keyturn.edge.probes.virtual import DMI, container, ephemeral_hint, root_mount, vm_kind

_VIRTUAL_NICS = ("/virtio", "/vmbus", "vmbus:", "/vif-", "/xen", "-vif", "vmbus_")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,8}")
_FOREIGN = ("/usb", "/thunderbolt", "/session", "/rport-", "/nbd", "/rbd", "/virtual/")


def read_linux(sysroot: str | None, *, facts: bool = True, ask: Ask | None = None) -> Computer:
    """Read the computer whose files are below ``sysroot`` (``None``: this one); ``ask`` as in ``probes.read``."""
    tree = Tree(sysroot)
    kind, box = vm_kind(tree), container(tree)
    slots = Slots()
    if kind is None:
        _physical_anchors(tree, slots)
    else:
        slots.virtual(_instance_names(tree, kind, ask))
    for slot, value in anchors_from_agent(tree).items():
        if slot not in slots.anchors and (slot == "vm") == (kind is not None):
            slots.anchors[slot] = value
            slots.unreadable.pop(slot, None)
    declared: dict[str, object] = {}
    unreadable = slots.unreadable
    if facts:
        from keyturn.edge.probes.facts import read_facts

        declared, reasons = read_facts(tree)
        unreadable |= reasons
    components = {name: value for name, value in _components(tree, slots.anchors.get("disk")) if value}
    return Computer(Reading(slots.anchors, components), declared, kind, box, ephemeral_hint(tree, box), unreadable)


def _physical_anchors(tree: Tree, slots: Slots) -> None:
    for slot, path in (("uuid", DMI + "product_uuid"), ("board", DMI + "board_serial")):
        raw = tree.text(path)
        if raw is None and slot == "board" and not tree.exists(DMI):
            path = "sys/firmware/devicetree/base/serial-number"
            raw = tree.text(path)
        slots.keep(slot, raw, tree.why(path, "the firmware names none"))
    slots.keep_first("disk", disks(tree))
    slots.keep_first("nic", adapters(tree))
    slots.physical()


def _instance_names(tree: Tree, kind: str, ask: Ask | None) -> Iterator[tuple[str | None, str]]:
    """What everybody can read comes first, so that root and user agree; the root-only UUID comes last."""
    files = {"aws": [DMI + "board_asset_tag", "sys/hypervisor/uuid"], "xen": ["sys/hypervisor/uuid"]}.get(kind, [])
    for path in files:
        yield tree.text(path), tree.why(path, "")
    if ask is not None:
        yield ask(kind), "the cloud's metadata service did not answer"
    yield tree.text(DMI + "product_uuid"), tree.why(DMI + "product_uuid", "")


def disks(tree: Tree) -> list[tuple[str | None, str]]:
    """Return internal whole disks in the order of the bus: serial in normal form, or ``None`` and why."""
    found = []
    for name in tree.names("sys/block"):
        place = _bus_place(tree, name)
        if place is None or tree.text(f"sys/block/{name}/removable") == "1" or not _internal(tree, place):
            continue
        device = f"sys/block/{name}/device"
        if name.startswith("mmcblk") and (tree.text(f"{device}/type") != "MMC" or "boot" in name):
            continue  # A memory card is a removable medium, whatever the kernel says of its slot.
        if name.startswith(("sr", "fd", "loop", "ram", "zram", "dm-", "md")):
            continue
        model = " ".join(filter(None, (tree.text(f"{device}/vendor"), tree.text(f"{device}/model"))))
        if name.startswith(("vd", "xvd")) or "/virtio" in place or "vmbus" in place.lower():
            model = f"virtual {model}"
        raw = _disk_serial(tree, name)
        reason = PLACEHOLDER if raw or model.startswith("virtual") else "the disk tells no serial number"
        found.append((natural(place), anchor_value("disk", raw, model=model), reason))
    return [(value, reason) for _, value, reason in sorted(found, key=lambda item: item[0])]


def _bus_place(tree: Tree, name: str) -> str | None:
    """Return a block device's place on its bus. An NVMe disk with several paths is where its lowest controller is."""
    place = tree.resolve(f"sys/block/{name}")
    if "/virtual/nvme-subsystem/" in place:
        group = place.rsplit("/", 1)[0]
        ways = [
            tree.resolve(f"{group}/{item}")
            for item in tree.names(group)
            if item.startswith("nvme") and "n" not in item[4:]
        ]
        ways = [way for way in ways if way and "/virtual/" not in way]
        return min(ways, key=natural) if ways else None
    return place or None


def _disk_serial(tree: Tree, name: str) -> str | None:
    for path in (f"sys/block/{name}/device/serial", f"sys/block/{name}/serial"):
        if text := tree.text(path):
            return text
    # SPC-4, vital product data page 80h: type, page, length (2 bytes), then the unit's serial number.
    page = tree.data(f"sys/block/{name}/device/vpd_pg80", 260)
    if page is not None and len(page) > 4 and page[1] == 0x80:
        text = page[4 : 4 + int.from_bytes(page[2:4], "big")].decode("ascii", "replace").strip(" \0")
        if text:
            return text
    udev = _udev(tree, f"b{tree.text(f'sys/block/{name}/dev') or ''}")
    return udev.get("ID_SERIAL_SHORT")


def adapters(tree: Tree) -> list[tuple[str | None, str]]:
    """Return internal network adapters, wired first, then on the board, then in the order of the bus: address or why not."""
    found = []
    for name in tree.names("sys/class/net"):
        base = f"sys/class/net/{name}"
        place = tree.resolve(base)
        if not place or not _internal(tree, place) or tree.text(f"{base}/type") not in (None, "1"):
            continue
        if tree.exists(f"{base}/device/physfn"):
            continue  # A virtual function's address is given by software.
        wireless = tree.exists(f"{base}/phy80211") or tree.exists(f"{base}/wireless")
        raw = _permanent_address(tree, base)
        value = anchor_value("nic", raw) if not any(mark in place.lower() for mark in _VIRTUAL_NICS) else None
        reason = PLACEHOLDER if raw else "its address was set by software"
        found.append(((wireless, not _on_board(tree, base), place.count("/"), natural(place)), value, reason))
    return [(value, reason) for _, value, reason in sorted(found, key=lambda item: item[0])]


def _on_board(tree: Tree, base: str) -> bool:
    """Tell whether the firmware says the device is soldered on; so a card that is added later does not take its place."""
    return any(tree.exists(f"{base}/device/{name}") for name in ("acpi_index", "index"))


def _permanent_address(tree: Tree, base: str) -> str | None:
    """The address the adapter was made with: the radio's own, a bond member's own, or the present one if it is marked so."""
    for path in (f"{base}/phy80211/macaddress", f"{base}/bonding_slave/perm_hwaddr"):
        if text := tree.text(path):
            return text
    return tree.text(f"{base}/address") if tree.text(f"{base}/addr_assign_type") == "0" else None


def _components(tree: Tree, disk: str | None) -> Iterator[tuple[str, str | None]]:
    yield "disk", disk
    yield "firmware", _firmware(tree)
    yield "processor", _processor(tree)
    yield "memory", _memory_band(tree)
    yield "optical", _optical(tree)
    yield "volume", _volume(tree)
    yield from pci_components(_pci_devices(tree)).items()


def _pci_devices(tree: Tree) -> Iterator[tuple[str, int, int]]:
    for name in tree.names("sys/bus/pci/devices"):
        path = f"sys/bus/pci/devices/{name}"
        code, vendor, device = (_hex(tree.text(f"{path}/{item}")) for item in ("class", "vendor", "device"))
        if code is None or vendor is None or device is None or tree.exists(f"{path}/physfn"):
            continue
        if _internal(tree, tree.resolve(path)):
            yield f"{code >> 8:04x}", vendor, device


def _hex(text: str | None) -> int | None:
    return int(text, 16) if text is not None and _HEX.fullmatch(text) else None


def _firmware(tree: Tree) -> str | None:
    words = {name: tree.text(DMI + name) for name in ("bios_vendor", "board_vendor", "board_name")}
    return firmware_component(words) or tree.text("sys/firmware/devicetree/base/model")


def _processor(tree: Tree) -> str | None:
    """The first processor's make and model; the microcode's revision and the clock are left out, they change."""
    wanted = {
        "vendor_id", "cpu family", "model", "stepping", "model name",
        "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision",
    }  # fmt: skip
    values: dict[str, str] = {}
    for line in (tree.text("proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if not colon and values:
            break
        if name.strip() in wanted:
            values.setdefault(name.strip(), value.strip())
    return processor_component(values)


def _memory_band(tree: Tree) -> str | None:
    found = re.search(r"^MemTotal:\s*([0-9]{1,15}) kB", tree.text("proc/meminfo") or "", re.MULTILINE)
    return None if found is None else memory_band(-(-int(found[1]) // 1024))


def _optical(tree: Tree) -> str | None:
    for name in tree.names("sys/block"):
        if name.startswith("sr") and _internal(tree, tree.resolve(f"sys/block/{name}")):
            words = [tree.text(f"sys/block/{name}/device/{item}") for item in ("vendor", "model")]
            return " ".join(filter(None, words)) or None
    return None


def _volume(tree: Tree) -> str | None:
    """The root file system's serial number. It travels in an image, so it is tagged (16 bits) and never weighed."""
    device, _, _ = root_mount(tree)
    return _udev(tree, f"b{device}").get("ID_FS_UUID") if device else None


def _udev(tree: Tree, name: str) -> dict[str, str]:
    """Return the properties udev keeps for a device (``E:NAME=value`` lines)."""
    lines = (tree.text(f"run/udev/data/{name}") or "").splitlines()
    return dict(line[2:].partition("=")[::2] for line in lines if line.startswith("E:") and "=" in line)


def _internal(tree: Tree, place: str) -> bool:
    """Tell whether a device's place is inside the case: not on USB, Thunderbolt or a network, and on no removable port.

    The kernel marks what hangs on an external PCI port (Thunderbolt, USB4) with ``removable`` = ``removable``.
    """
    lower = f"/{place.lower()}"
    if any(mark in lower for mark in _FOREIGN):
        return False
    steps = place.split("/")
    return not any(tree.text("/".join([*steps[:end], "removable"])) == "removable" for end in range(3, len(steps) + 1))
