"""Recorded computers that are not whole: virtual machines, cloud instances, containers; and small boards.

The rest of the corpus, and how it is committed, is in ``seat_corpus.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.testing import computers
from keyturn.testing.computers import RecordedComputer
from keyturn.testing.parts import CPU_CLOUD, CPU_DESKTOP, CPU_SERVER, Parts

UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nNAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\n'
WSL_KERNEL = "5.15.167.4-microsoft-standard-WSL2"


def record(name: str, klass: str, story: str, parts: Parts, who: str = "") -> RecordedComputer:
    return RecordedComputer(name, klass, story, parts.files, parts.links, frozenset(parts.root_only), who or name)


def on_overlay(machine_id: str) -> Parts:
    """Return a system whose root is laid over an image and forgotten."""
    return Parts().system(
        machine_id=machine_id,
        os_release=UBUNTU,
        device="0:51",
        file_system="overlay",
        source="overlay",
        locale="",
        boot=False,
    )


def vm(
    uuid: str,
    mac: str,
    *,
    vendor: str,
    product: str,
    disk: str = "",
    machine_id: str = "feedfacefeedfacefeedfacefeedface",
) -> Parts:
    parts = Parts().dmi(
        sys_vendor=vendor,
        product_name=product,
        product_uuid=uuid,
        board_serial="None",
        bios_vendor="SeaBIOS",
        bios_version="1.16",
        bios_date="04/01/2014",
    )
    parts.virtual_disk(parts.pci("0000:00:05.0", "010000", "1af4:1001") + "/virtio1", "vda", disk)
    parts.adapter(parts.pci("0000:00:03.0", "020000", "1af4:1000") + "/virtio0", "ens3", mac)
    parts.processor(CPU_CLOUD, hypervisor=True).memory(8_130_000)
    return parts.system(
        machine_id=machine_id, volume="12ab34cd-56ef-4890-9abc-def012345678", device="254:1", source="/dev/vda1"
    )


def virtual_machines() -> Iterator[RecordedComputer]:
    def vmware(uuid: str, mac: str) -> Parts:
        return vm(uuid, mac, vendor="VMware, Inc.", product="VMware7,1")

    regenerated = "template VM, UUID regenerated"
    a = record(
        "vm-template-a",
        regenerated,
        "Made from a template; the hypervisor gave it a UUID.",
        vmware("42361f0c-9a3d-5b77-0c1e-aa10bb20cc30", "00:50:56:b6:11:22"),
    )
    yield a
    yield record(
        "vm-template-b",
        regenerated,
        "From the same template.",
        vmware("4236a7e2-11d4-8c90-f3b5-dd40ee50ff60", "00:50:56:b6:33:44"),
    )
    host = Parts().processor(CPU_SERVER, hypervisor=True)
    yield a.with_part("vm-template-a-moved", "Moved, running, to a host with another processor.", host)._replace(
        klass="VM move"
    )
    yield a.reinstalled()._replace(name="vm-template-a-snapshot", klass="snapshot", story="Taken back to an older snapshot.")
    for letter, mac in (("a", "52:54:00:aa:00:01"), ("b", "52:54:00:aa:00:02")):
        story = "Copied with its definition: the UUID was not regenerated."
        yield record(
            f"vm-copy-{letter}",
            "template VM, UUID copied",
            story,
            vm("7c0d5a31-2b4f-4e6a-9d8c-0b1a29384756", mac, vendor="QEMU", product="Standard PC (Q35 + ICH9, 2009)"),
        )
    for letter, mac in (("a", "52:54:00:12:34:56"), ("b", "52:54:00:12:34:57")):
        yield record(
            f"vm-no-uuid-{letter}",
            "VM without a UUID",
            "Started without a UUID: zeros.",
            vm(
                "00000000-0000-0000-0000-000000000000",
                mac,
                vendor="QEMU",
                product="Standard PC (i440FX + PIIX, 1996)",
                disk="QM00001",
            ),
        )
    box = vm(
        "e1f2a3b4-c5d6-4e7f-8091-a2b3c4d5e6f7",
        "08:00:27:5a:6b:7c",
        vendor="innotek GmbH",
        product="VirtualBox",
        disk="VB8f3a1c22-90b1d7e4",
    )
    yield record("virtualbox", "VM on a desktop", "On somebody's desktop.", box)
    hyperv = vm(
        "c3b2a190-8f7e-4d6c-b5a4-938271605f4e",
        "00:15:5d:01:02:03",
        vendor="Microsoft Corporation",
        product="Virtual Machine",
    )
    hyperv.dmi(chassis_asset_tag="9527-0012-8834-1120-4475-6690-21")
    yield record("hyperv", "VM on a server", "A generation 2 guest.", hyperv)


def clouds() -> Iterator[RecordedComputer]:
    a = record(
        "ec2-a",
        "cloud instance",
        "From a public image; its instance ID can be read by everybody.",
        computers.cloud_vm(0x0F3E5A),
    )
    yield a
    yield record("ec2-b", "cloud instance", "From the same image.", computers.cloud_vm(0x0F3E5B))
    larger = Parts().dmi(product_name="m6i.2xlarge").processor(CPU_SERVER, hypervisor=True).memory(32_100_000)
    yield a.with_part("ec2-a-resized", "Stopped, made larger, started on another host.", larger)._replace(
        klass="cloud instance, resized"
    )
    old = Parts().dmi(
        sys_vendor="Xen",
        product_name="HVM domU",
        bios_vendor="Xen",
        bios_version="4.11.amazon",
        bios_date="08/24/2006",
        product_uuid="ec2b7c6d-5e4f-4a3b-9c2d-1e0f9a8b7c6d",
        product_serial="ec2b7c6d-5e4f-4a3b-9c2d-1e0f9a8b7c6d",
    )
    old.files.update({"sys/hypervisor/type": "xen\n", "sys/hypervisor/uuid": "ec2b7c6d-5e4f-4a3b-9c2d-1e0f9a8b7c6d\n"})
    old.virtual_disk("sys/devices/vbd-51712", "xvda").adapter("sys/devices/vif-0", "eth0", "06:1a:2b:3c:4d:5e")
    old.processor(CPU_CLOUD, hypervisor=True).memory(4_030_000).system(
        machine_id="ec2b8e0f7d6c5b4a39281706f5e4d3c2", locale="C.UTF-8"
    )
    yield record("ec2-xen", "cloud instance", "An older kind, on Xen: its UUID can be read by everybody.", old)
    tags = {"azure": ("Microsoft Corporation", "Virtual Machine"), "gce": ("Google", "Google Compute Engine")}
    for kind, (vendor, product) in tags.items():
        for letter, tail in (("a", "01"), ("b", "02")):
            mac = "00:0d:3a:4b:5c:" + tail if kind == "azure" else "42:01:0a:80:00:" + tail
            parts = vm(
                f"{'9a8b7c6d' if kind == 'azure' else '1c2d3e4f'}-5e4f-4a3b-8c2d-1e0f9a8b7c{tail}",
                mac,
                vendor=vendor,
                product=product,
            )
            parts.dmi(chassis_asset_tag="7783-7084-3265-9085-8269-3286-77" if kind == "azure" else "No Asset Tag")
            yield record(f"{kind}-{letter}", "cloud instance", "From a public image; only root may read its UUID.", parts)
    for job in ("1", "2"):
        parts = vm(
            f"0b{job}e2d3c-4f5a-4b6c-9d7e-8f90a1b2c3d{job}",
            "60:45:bd:aa:bb:0" + job,
            vendor="Microsoft Corporation",
            product="Virtual Machine",
        )
        parts.dmi(chassis_asset_tag="7783-7084-3265-9085-8269-3286-77")
        parts.system(machine_id="0" * 31 + "7", os_release=UBUNTU, locale="C.UTF-8", device="254:1", source="/dev/vda1")
        yield record(f"ci-hosted-{job}", "CI runner", "A build service's machine: a new one for each job.", parts)


def boxed(
    host: RecordedComputer, name: str, klass: str, story: str, mark: Parts, *, without: tuple[str, ...] = ()
) -> RecordedComputer:
    """Return a container on ``host``: its own root and network, the host's devices."""
    gone = [path for path in host.links if path.startswith("sys/class/net/")]
    own = on_overlay("")
    own.adapter("sys/devices/virtual", "eth0", "02:42:ac:11:00:02", assigned="3")
    own.files.update(mark.files)
    del own.files["etc/machine-id"]
    inner = host.variant(name, without=["etc", "boot", "run", *gone, *without])
    return inner.with_part(name, story, own)._replace(klass=klass)


def containers(office: RecordedComputer, rack: RecordedComputer) -> Iterator[RecordedComputer]:
    ec2 = next(clouds())
    secret = [f"sys/class/dmi/id/{name}" for name in ("product_uuid", "product_serial", "board_serial")]
    docker, podman, pod, lxc = Parts(), Parts(), Parts(), Parts()
    docker.files[".dockerenv"] = ""
    podman.files["run/.containerenv"] = 'engine="podman-4.9.4"\n'
    pod.files.update(
        {
            "run/secrets/kubernetes.io/serviceaccount/namespace": "default",
            "proc/1/cgroup": "0::/kubepods.slice/kubepods-burstable.slice\n",
        }
    )
    lxc.files.update({"run/systemd/container": "lxc\n", "proc/self/mountinfo": "29 1 0:45 / / rw - zfs tank/lxc/101 rw\n"})
    yield boxed(office, "office-pc-a-docker", "container", "A container, root inside: it sees the host's hardware.", docker)
    yield boxed(
        office,
        "office-pc-a-podman",
        "container",
        "A rootless container: no serial numbers of the board.",
        podman,
        without=tuple(secret),
    )
    yield boxed(ec2, "ec2-a-docker", "container", "A container in a cloud instance.", docker)
    yield boxed(rack, "server-a-pod", "container", "A pod on a cluster node.", pod)
    yield boxed(rack, "server-a-lxc", "container", "A system container that keeps its files.", lxc, without=tuple(secret))
    yield boxed(rack, "ci-container-1", "CI runner", "A build job in a container.", docker)
    yield boxed(rack, "ci-container-2", "CI runner", "The next job, on the same host.", docker)
    yield boxed(
        rack, "sandbox", "container", "A sandbox that shows no hardware.", docker, without=("sys", "proc/cpuinfo")
    )._replace(who="sandbox")


def small_ones() -> Iterator[RecordedComputer]:
    for letter, mac in (("a", "00:15:5d:7f:10:01"), ("b", "00:15:5d:7f:10:02")):
        parts = Parts().processor(CPU_DESKTOP, hypervisor=True).memory(16_300_000)
        disk = "sys/devices/LNXSYSTM:00/ACPI0004:00/VMBUS:00/fd1d2cbd-ce7c-535c-966b-eb5f811c95f0"
        parts.sata(disk, "sdc", "600224800a1b2c3d4e5f", "Virtual Disk", dev="8:32")
        parts.adapter(
            "sys/devices/LNXSYSTM:00/ACPI0004:00/VMBUS:00/b9f8f7e6-0000-4c3d-9e2f-112233445566",
            "eth0",
            mac,
            assigned="0",
        )
        parts.system(machine_id="aa" * 16, kernel=WSL_KERNEL, os_release=UBUNTU, device="8:32", source="/dev/sdc", boot=False)
        yield record(f"wsl-{letter}", "WSL", "Linux inside Windows: a virtual machine that shows no hardware.", parts)
    for letter in "ab":
        parts = Parts().processor(CPU_CLOUD, hypervisor=True).memory(4_000_000)
        parts.virtual_disk(parts.pci("0000:00:02.0", "018000", "1af4:1042") + "/virtio1", "vda", "overlayblk")
        parts.adapter(parts.pci("0000:00:03.0", "020000", "1af4:1041") + "/virtio2", "eth0", "02:fc:00:00:00:01")
        parts.system(machine_id="3d" * 16, device="254:0", source="/dev/vda", locale="C.UTF-8", boot=False)
        parts.files[".dockerenv"] = ""
        yield record(f"microvm-{letter}", "micro-VM", "No firmware tables; its root came out of a container image.", parts)
    for letter, serial in (("a", "10000000a1b2c3d4"), ("b", "10000000e5f60718")):
        parts = Parts()
        parts.files.update(
            {
                "sys/firmware/devicetree/base/model": "Example Board 4 Rev 1.4\0",
                "sys/firmware/devicetree/base/serial-number": f"{serial}\0",
                "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\nCPU revision\t: 3\n"
                f"\nSerial\t\t: {serial}\n",
            }
        )
        tail = ":".join(serial[-6:][at : at + 2] for at in (0, 2, 4))
        parts.adapter("sys/devices/platform/scb/fd580000.ethernet", "eth0", f"dc:a6:32:{tail}").memory(3_885_000)
        parts.files.update(
            {
                "sys/devices/platform/emmc2bus/mmc0/mmc0:aaaa/type": "SD\n",
                "sys/devices/platform/emmc2bus/mmc0/mmc0:aaaa/serial": "0x1b2c3d4e\n",
            }
        )
        card = "sys/devices/platform/emmc2bus/mmc0/mmc0:aaaa/block/mmcblk0"
        parts.files.update({f"{card}/removable": "0\n", f"{card}/dev": "179:0\n"})
        parts.links.update({f"{card}/device": "../..", "sys/block/mmcblk0": "../" + card.removeprefix("sys/")})
        parts.system(machine_id="9c" * 16, device="179:2", source="/dev/mmcblk0p2", boot=False)
        yield record(
            f"pi-{letter}",
            "board computer",
            "No firmware tables but a serial number; its disk is a memory card.",
            parts,
        )
