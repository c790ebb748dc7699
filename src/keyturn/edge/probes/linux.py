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
from keyturn.edge.probes import Computer
from keyturn.edge.probes.agentfile import anchors_from_agent
from keyturn.edge.probes.tree import Tree, natural
from keyturn.edge.probes.virtual import DMI, container, ephemeral_hint, root_mount, vm_kind

_PLACEHOLDER = "only a placeholder or a value shared with other computers"
_VIRTUAL_NICS = ("/virtio", "/vmbus", "vmbus:", "/vif-", "/xen", "-vif", "vmbus_")
_FOREIGN = ("/usb", "/thunderbolt", "/session", "/rport-", "/nbd", "/rbd", "/virtual/")
_CLASSES = {
    "disk_controller": ("0x0101", "0x0105", "0x0106"),  # Not NVMe: that controller is the disk, and would count twice.
    "storage_adapter": ("0x0100", "0x0104", "0x0107"),
    "network_adapter": ("0x0200", "0x0280"),
    "audio": ("0x0401", "0x0403"),
    "display": ("0x0300", "0x0302", "0x0380"),
}


def read_linux(sysroot: str | None, *, facts: bool = True) -> Computer:
    """Read the computer whose files are below ``sysroot`` (``None``: this one)."""
    tree = Tree(sysroot)
    kind, box = vm_kind(tree), container(tree)
    anchors: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    if kind is None:
        _physical_anchors(tree, anchors, unreadable)
    else:
        _virtual_anchors(tree, kind, anchors, unreadable)
    for slot, value in anchors_from_agent(tree).items():
        if slot not in anchors and (slot == "vm") == (kind is not None):
            anchors[slot] = value
            unreadable.pop(slot, None)
    declared: dict[str, object] = {}
    if facts:
        from keyturn.edge.probes.facts import read_facts

        declared, reasons = read_facts(tree)
        unreadable |= reasons
    components = {name: value for name, value in _components(tree, anchors.get("disk")) if value}
    return Computer(Reading(anchors, components), declared, kind, box, ephemeral_hint(tree, box), unreadable)


def _physical_anchors(tree: Tree, anchors: dict[str, str], unreadable: dict[str, str]) -> None:
    for slot, path in (("uuid", DMI + "product_uuid"), ("board", DMI + "board_serial")):
        raw = tree.text(path)
        if raw is None and slot == "board" and not tree.exists(DMI):
            path = "sys/firmware/devicetree/base/serial-number"
            raw = tree.text(path)
        _keep(slot, raw, tree.why(path, "the firmware names none"), anchors, unreadable)
    for slot, found in (("disk", disks(tree)), ("nic", adapters(tree))):
        value = next((value for value, _ in found if value), None)
        if value:
            anchors[slot] = value
        else:
            unreadable[slot] = next((reason for _, reason in found), "no internal device of this kind")
    unreadable["vm"] = "not a virtual machine"


def _virtual_anchors(tree: Tree, kind: str, anchors: dict[str, str], unreadable: dict[str, str]) -> None:
    """The first source that everybody can read decides, so that root and user agree; the root-only UUID comes last."""
    sources = [DMI + "product_uuid"]
    if kind == "aws":
        sources = [DMI + "board_asset_tag", "sys/hypervisor/uuid", *sources]
    elif kind == "xen":
        sources = ["sys/hypervisor/uuid", *sources]
    reason = "the hypervisor names no instance"
    for path in sources:
        raw = tree.text(path)
        if value := anchor_value("vm", raw):
            anchors["vm"] = value
            break
        reason = _PLACEHOLDER if raw else tree.why(path, reason)
    else:
        unreadable["vm"] = reason
    for slot in ("uuid", "board"):
        unreadable[slot] = "a virtual machine's counts as vm"
    for slot in ("disk", "nic"):
        unreadable[slot] = "a virtual device's value is the hypervisor's"


def _keep(slot: str, raw: str | None, absent: str, anchors: dict[str, str], unreadable: dict[str, str]) -> None:
    if value := anchor_value(slot, raw):
        anchors[slot] = value
    else:
        unreadable[slot] = absent if raw is None else _PLACEHOLDER


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
        reason = _PLACEHOLDER if raw or model.startswith("virtual") else "the disk tells no serial number"
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
        reason = _PLACEHOLDER if raw else "its address was set by software"
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
    devices: dict[str, set[str]] = {}
    for name in tree.names("sys/bus/pci/devices"):
        path = f"sys/bus/pci/devices/{name}"
        code = (tree.text(f"{path}/class") or "")[:6]
        part = next((part for part, codes in _CLASSES.items() if code in codes), None)
        if part and _internal(tree, tree.resolve(path)) and not tree.exists(f"{path}/physfn"):
            devices.setdefault(part, set()).add(f"{tree.text(f'{path}/vendor')}:{tree.text(f'{path}/device')}")
    for part, ids in devices.items():
        yield part, ",".join(sorted(ids))


def _firmware(tree: Tree) -> str | None:
    """Who made the firmware, for which board. No version and no date: an update must not look like another computer.

    Of the maker only the first word: American Megatrends changed the rest of its name between two updates.
    """
    maker = (tree.text(DMI + "bios_vendor") or "").lower().split()
    board = [tree.text(DMI + name) for name in ("board_vendor", "board_name")]
    if not maker and not any(board):
        return tree.text("sys/firmware/devicetree/base/model")
    return "|".join([maker[0].strip(",.") if maker else "", *(item or "" for item in board)])


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
    return "|".join(f"{name}={values[name]}" for name in sorted(values)) or None


def _memory_band(tree: Tree) -> str | None:
    """The smallest power of two of MiB that holds the memory: what the system keeps for itself does not change it."""
    found = re.search(r"^MemTotal:\s*([0-9]{1,15}) kB", tree.text("proc/meminfo") or "", re.MULTILINE)
    if found is None:
        return None
    mebibytes = -(-int(found[1]) // 1024)
    return str(1 << max(mebibytes - 1, 1).bit_length())


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
