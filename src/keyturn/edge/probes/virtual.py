"""Is this a virtual machine, a container, a computer that keeps nothing?

Leaves to others: what follows from it (``core.hardware`` for slots, the client and ``issuance`` for ephemeral seats).

Rules:

- The firmware's own words come first, then the processor's hypervisor flag. A hypervisor's first guest (Xen's domain 0)
  is a physical computer.
- A container sees its host's hardware: it is its host's computer where it can read that, and weak evidence where not.
- A mark that travels in an image (``/.dockerenv`` in an exported root file system) counts only with a container's root.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from keyturn.edge.probes.tree import Tree

DMI = "sys/class/dmi/id/"
# The constant by which a cloud marks every one of its virtual machines; a kind, never a value.
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
_DMI_NAMES = ("sys_vendor", "product_name", "bios_vendor", "chassis_asset_tag")
# (file, beginning, kind); the first that fits decides.
_DMI_KINDS = (
    ("sys_vendor", "amazon ec2", "aws"),
    ("bios_vendor", "amazon ec2", "aws"),
    ("product_name", "google compute engine", "gce"),
    ("chassis_asset_tag", "oraclecloud.com", "oraclecloud"),
    ("sys_vendor", "alibaba cloud", "alibaba"),
    ("sys_vendor", "tencent cloud", "tencent"),
    ("sys_vendor", "digitalocean", "digitalocean"),
    ("sys_vendor", "hetzner", "hetzner"),
    ("sys_vendor", "openstack foundation", "openstack"),
    ("product_name", "openstack", "openstack"),
    ("sys_vendor", "vmware", "vmware"),
    ("product_name", "vmware", "vmware"),
    ("sys_vendor", "innotek gmbh", "virtualbox"),
    ("product_name", "virtualbox", "virtualbox"),
    ("sys_vendor", "xen", "xen"),
    ("sys_vendor", "qemu", "kvm"),
    ("product_name", "kvm", "kvm"),
    ("product_name", "rhev", "kvm"),
    ("product_name", "standard pc (", "kvm"),
    ("product_name", "ahv", "nutanix"),
    ("sys_vendor", "ovirt", "kvm"),
    ("sys_vendor", "parallels", "parallels"),
    ("sys_vendor", "bhyve", "bhyve"),
    ("product_name", "apple virtual", "apple"),
    ("sys_vendor", "bochs", "bochs"),
)
_FILE_SYSTEMS_THAT_FORGET = ("overlay", "aufs", "tmpfs", "ramfs", "rootfs", "squashfs", "unionfs", "fuse.overlayfs")


def vm_kind(tree: Tree) -> str | None:
    """Return the hypervisor's or the cloud's name, ``unknown`` if only its presence is known, or ``None``."""
    if "control_d" in (tree.text("proc/xen/capabilities") or ""):
        return None
    if kind := firmware_kind({name: tree.text(DMI + name) for name in (*_DMI_NAMES, "bios_version")}):
        return kind
    if tree.text("sys/hypervisor/type") == "xen":
        return "xen"
    if _is_wsl(tree):
        return "hyperv"
    if not _hypervisor_flag(tree):
        return None
    if (tree.data("sys/firmware/acpi/tables/FACP") or b"")[10:16] == b"FIRECK":
        return "firecracker"
    virtio = any(
        tree.text(f"sys/bus/pci/devices/{name}/vendor") == "0x1af4" for name in tree.names("sys/bus/pci/devices")
    )
    return "kvm" if virtio or tree.names("sys/bus/virtio/devices") else "unknown"


def firmware_kind(words: Mapping[str, str | None]) -> str | None:
    """Return the hypervisor's or the cloud's name that the firmware says (names as in sysfs), or ``None``."""
    said = {name: (words.get(name) or "").lower() for name in (*_DMI_NAMES, "bios_version")}
    if said["sys_vendor"].startswith("microsoft") and said["product_name"] == "virtual machine":
        return "azure" if said["chassis_asset_tag"] == _AZURE_TAG else "hyperv"
    if said["sys_vendor"].startswith("xen") and "amazon" in said["bios_version"]:
        return "aws"
    return next((kind for name, beginning, kind in _DMI_KINDS if said[name].startswith(beginning)), None)


def container(tree: Tree) -> str | None:
    """Return the container's kind, or ``None`` on a whole computer."""
    if _is_wsl(tree):
        return "wsl"
    said = _said_by_first_process(tree)
    if tree.exists("run/secrets/kubernetes.io") or tree.exists("var/run/secrets/kubernetes.io"):
        return "kubernetes"
    if tree.exists("run/.containerenv") or said == "podman":
        return "podman"
    if tree.exists(".dockerenv") and _root_is_a_containers(tree):
        return "docker"
    groups = tree.text("proc/1/cgroup") or tree.text("proc/self/cgroup") or ""
    for mark, kind in (("kubepods", "kubernetes"), ("docker", "docker"), ("/lxc", "lxc")):
        if mark in groups and "/system.slice/docker.service" not in groups:
            return kind
    return said


def ephemeral_hint(tree: Tree, kind: str | None) -> bool:
    """Guess whether what is written here is lost at the next start: a container, a live system, a build job."""
    if kind == "wsl":
        return False
    _, file_system, _ = root_mount(tree)
    if file_system in _FILE_SYSTEMS_THAT_FORGET:
        return True
    if not tree.recorded and os.environ.get("CI", "").lower() in ("true", "1"):
        return True
    return kind in ("docker", "podman", "kubernetes")


def root_mount(tree: Tree) -> tuple[str, str, str]:
    """Return the root's device number, file system and source; empty strings where it is not known.

    The format is that of proc(5): ``27 1 254:0 / / rw - ext4 /dev/vda rw``. The last entry for ``/`` is the visible one.
    """
    found = ("", "", "")
    for line in (tree.text("proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if len(fields) >= 5 and fields[4] == "/" and len(rest) >= 2:
            found = (fields[2], rest[0], f"{rest[1]}:{fields[3]}")
    return found


def _root_is_a_containers(tree: Tree) -> bool:
    """Without knowledge of the root's mount the mark is believed; a plain disk's root shows that it was only copied."""
    _, file_system, source = root_mount(tree)
    if not file_system or file_system in _FILE_SYSTEMS_THAT_FORGET:
        return True
    device, _, subtree = source.partition(":")
    return not device.startswith("/dev/") or "docker" in device or subtree not in ("/", "/@", "/root", "/@rootfs")


def _said_by_first_process(tree: Tree) -> str | None:
    said = tree.text("run/systemd/container") or ""
    for item in (tree.text("proc/1/environ") or "").split("\0"):
        if item.startswith("container="):
            said = item.partition("=")[2]
    known = {"oci": "docker", "lxc-libvirt": "lxc", "systemd-nspawn": "nspawn"}
    return known.get(said, said) or None


def _is_wsl(tree: Tree) -> bool:
    version = (tree.text("proc/version") or tree.text("proc/sys/kernel/osrelease") or "").lower()
    return "microsoft" in version and not (tree.text(DMI + "product_name") or "")


def _hypervisor_flag(tree: Tree) -> bool:
    for line in (tree.text("proc/cpuinfo") or "").splitlines():
        if line.startswith("flags"):
            return " hypervisor" in line
    return tree.exists("sys/firmware/devicetree/base/hypervisor")
