"""How a Linux computer's files look, part by part: the kit from which recorded computers are put together.

Keeps the shapes of sysfs, procfs and udev's files. Leaves to others: which computers there are (``computers``).

Rules:

- Shapes follow the documented formats (sysfs ABI, proc(5), SMBIOS, SPC-4); the values are invented.
- A device lies at its place on the bus under ``sys/devices``, and classes link to it, as the kernel does it: a probe
  that trusts names instead of places is found out.
"""

from __future__ import annotations

from typing import Final

DMI = "sys/class/dmi/id/"
_DMI_ROOT_ONLY = ("product_uuid", "product_serial", "board_serial", "chassis_serial")

CPU_OFFICE = ("GenuineIntel", "6", "165", "3", "Intel(R) Core(TM) i5-10500 CPU @ 3.10GHz")
CPU_LAPTOP = ("GenuineIntel", "6", "140", "1", "11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz")
CPU_DESKTOP = ("AuthenticAMD", "25", "33", "2", "AMD Ryzen 7 5800X 8-Core Processor")
CPU_SERVER = ("GenuineIntel", "6", "106", "6", "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz")
CPU_CLOUD = ("AuthenticAMD", "25", "1", "1", "AMD EPYC 7R13 Processor")
Cpu = tuple[str, str, str, str, str]


class Parts:
    """Files, links and root-only paths of one computer while it is being put together."""

    def __init__(self) -> None:
        self.files: Final[dict[str, str]] = {}
        self.links: Final[dict[str, str]] = {}
        self.root_only: Final[set[str]] = set()

    def dmi(self, **values: str) -> Parts:
        """Add firmware tables (SMBIOS types 0 to 3) as sysfs shows them; serial numbers and UUID are root's."""
        for name, value in values.items():
            self.files[DMI + name] = value + "\n"
            if name in _DMI_ROOT_ONLY:
                self.root_only.add(DMI + name)
        return self

    def pci(self, place: str, code: str, ids: str, *, removable: bool = False) -> str:
        """Add a PCI device; ``place`` is its address below ``pci0000:00``, bridges first. Return its directory."""
        path = f"sys/devices/pci0000:00/{place}"
        vendor, device = ids.split(":")
        self.files.update(
            {f"{path}/class": f"0x{code}\n", f"{path}/vendor": f"0x{vendor}\n", f"{path}/device": f"0x{device}\n"}
        )
        if removable:
            self.files[f"{path}/removable"] = "removable\n"
        self.links[f"sys/bus/pci/devices/{place.rsplit('/', 1)[-1]}"] = f"../../../devices/pci0000:00/{place}"
        return path

    def sata(
        self,
        controller: str,
        name: str,
        serial: str,
        model: str,
        *,
        port: int = 1,
        dev: str = "8:0",
        removable: bool = False,
    ) -> Parts:
        """Add a SATA or SCSI disk behind ``controller``; its serial number is in page 80h of its vital product data."""
        scsi = f"{port - 1}:0:0:0"
        device = f"{controller}/ata{port}/host{port - 1}/target{port - 1}:0:0/{scsi}"
        return self._scsi(device, name, serial, model, "ATA", dev, removable=removable)

    def raid_volume(
        self, controller: str, name: str, serial: str, model: str, vendor: str, *, dev: str = "8:0"
    ) -> Parts:
        """Add a hardware RAID volume: one SCSI disk, named by the controller that made it."""
        return self._scsi(f"{controller}/host0/target0:2:0/0:2:0:0", name, serial, model, vendor, dev)

    def usb_disk(self, controller: str, name: str, serial: str, model: str, *, dev: str = "8:16") -> Parts:
        """Add a disk on USB."""
        device = f"{controller}/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0"
        return self._scsi(device, name, serial, model, "USB", dev)

    def _scsi(
        self, device: str, name: str, serial: str, model: str, vendor: str, dev: str, *, removable: bool = False
    ) -> Parts:
        block = f"{device}/block/{name}"
        page = "\0\x80" + chr(len(serial) >> 8) + chr(len(serial) & 255) + serial
        self.files.update(
            {
                f"{device}/vpd_pg80": page,
                f"{device}/vendor": f"{vendor:8}\n",
                f"{device}/model": f"{model:16}\n",
                f"{block}/removable": f"{int(removable)}\n",
                f"{block}/dev": f"{dev}\n",
            }
        )
        self.links[f"{block}/device"] = "../.."
        self._block(block, name)
        return self

    def nvme(self, controller: str, name: str, serial: str, model: str, *, multipath: int | None = None) -> Parts:
        """Add an NVMe disk; with ``multipath`` (a subsystem's number) it hangs below ``virtual``, as such kernels show it."""
        device = f"{controller}/nvme/{name[:-2]}"
        self.files.update({f"{device}/serial": f"{serial:20}\n", f"{device}/model": f"{model:40}\n"})
        block = f"{device}/{name}"
        if multipath is None:
            self.links[f"{block}/device"] = f"../../{name[:-2]}"
        else:
            group = f"sys/devices/virtual/nvme-subsystem/nvme-subsys{multipath}"
            self.files.update({f"{group}/serial": f"{serial:20}\n", f"{group}/model": f"{model:40}\n"})
            self.links[f"{group}/{name[:-2]}"] = "../../../../../" + device
            block = f"{group}/{name}"
            self.links[f"{block}/device"] = f"../../nvme-subsys{multipath}"
        self.files.update({f"{block}/removable": "0\n", f"{block}/dev": "259:0\n"})
        self._block(block, name)
        return self

    def virtual_disk(self, place: str, name: str, serial: str = "") -> Parts:
        """Add a paravirtual disk (virtio, Xen) below ``place``."""
        block = f"{place}/block/{name}"
        self.files.update({f"{block}/removable": "0\n", f"{block}/dev": "254:0\n"})
        if serial:
            self.files[f"{block}/serial"] = serial
        self._block(block, name)
        return self

    def optical(self, controller: str, model: str) -> Parts:
        """Add a built-in optical drive."""
        device = f"{controller}/ata4/host3/target3:0:0/3:0:0:0"
        self.files.update(
            {
                f"{device}/vendor": "HL-DT-ST\n",
                f"{device}/model": f"{model}\n",
                f"{device}/block/sr0/removable": "1\n",
                f"{device}/block/sr0/dev": "11:0\n",
            }
        )
        self.links[f"{device}/block/sr0/device"] = "../.."
        self._block(f"{device}/block/sr0", "sr0")
        return self

    def _block(self, path: str, name: str) -> None:
        self.links[f"sys/block/{name}"] = "../" + path.removeprefix("sys/")

    def adapter(self, device: str, name: str, mac: str, *, assigned: str = "0") -> Parts:
        """Add a wired network adapter below ``device``; ``assigned`` is the kernel's ``addr_assign_type``."""
        path = f"{device}/net/{name}"
        self.files.update(
            {f"{path}/address": f"{mac}\n", f"{path}/addr_assign_type": f"{assigned}\n", f"{path}/type": "1\n"}
        )
        if not device.startswith("sys/devices/virtual"):
            self.links[f"{path}/device"] = f"../../../{device.rsplit('/', 1)[-1]}"
        self.links[f"sys/class/net/{name}"] = "../../" + path.removeprefix("sys/")
        return self

    def radio(self, device: str, name: str, mac: str, *, shown: str | None = None) -> Parts:
        """Add a wireless adapter; ``shown`` is the address it uses at present, if privacy made it another."""
        self.adapter(device, name, shown or mac, assigned="3" if shown else "0")
        self.files[f"{device}/ieee80211/phy0/macaddress"] = f"{mac}\n"
        self.links[f"{device}/net/{name}/phy80211"] = "../../ieee80211/phy0"
        return self

    def processor(self, cpu: Cpu, *, threads: int = 2, hypervisor: bool = False) -> Parts:
        """Add ``proc/cpuinfo`` of an x86 processor."""
        vendor, family, model, stepping, name = cpu
        flags = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat sse sse2 ht" + (
            " hypervisor" if hypervisor else ""
        )
        self.files["proc/cpuinfo"] = "".join(
            f"processor\t: {number}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {name}\n"
            f"stepping\t: {stepping}\nmicrocode\t: 0xf8\ncpu MHz\t\t: {800 + 37 * number}.000\nflags\t\t: {flags}\n\n"
            for number in range(threads)
        )
        return self

    def memory(self, kibibytes: int) -> Parts:
        """Add ``proc/meminfo``."""
        self.files["proc/meminfo"] = f"MemTotal:       {kibibytes} kB\nMemFree:        {kibibytes // 3} kB\n"
        return self

    def system(
        self,
        *,
        machine_id: str,
        volume: str = "",
        device: str = "8:2",
        source: str = "/dev/sda2",
        file_system: str = "ext4",
        subtree: str = "/",
        os_release: str = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n',
        kernel: str = "6.1.0-28-amd64",
        locale: str = "de_DE.UTF-8",
        boot: bool = True,
    ) -> Parts:
        """Add the installed system: what travels in an image, the root's mount, locale and boot chain."""
        self.files.update(
            {
                "etc/machine-id": f"{machine_id}\n",
                "etc/os-release": os_release,
                "proc/sys/kernel/osrelease": f"{kernel}\n",
                "proc/version": f"Linux version {kernel} (builder@example) (gcc 12.2.0) #1 SMP\n",
                "proc/self/mountinfo": "24 29 0:22 / /proc rw - proc proc rw\n"
                f"29 1 {device} {subtree} / rw,relatime - {file_system} {source} rw\n",
                "proc/1/cgroup": "0::/init.scope\n",
            }
        )
        if locale:
            self.files["etc/default/locale"] = f'LANG="{locale}"\n'
        if volume:
            self.files[f"run/udev/data/b{device}"] = (
                f"S:disk/by-uuid/{volume}\nE:ID_FS_UUID={volume}\nE:ID_FS_TYPE={file_system}\n"
            )
        if boot:
            self.files["boot/efi/EFI/debian/shimx64.efi"] = "MZ recorded loader: debian shim\n"
            self.files[f"boot/vmlinuz-{kernel}"] = f"recorded kernel {kernel}\n"
            self.files["proc/cmdline"] = f"BOOT_IMAGE=/boot/vmlinuz-{kernel} root=UUID={volume or 'none'} ro quiet\n"
        return self
