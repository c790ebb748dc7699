"""What counts as an individual hardware value, and what only looks like one.

Keeps the tables of placeholders, virtual makers' address blocks and virtual devices, and the normal form of a value.
Leaves to others: where a value is read (``keyturn.edge.probes``), and what values mean together (``hardware``).

Rules:

- A value is individual or it is nothing: what a maker, a hypervisor or a batch gives to many is *unknown*, never "equal".
- Two ways of writing the same value (case, dashes, padding) are one value, so root's view and a user's view agree.
- Only what is known to be shared is refused. A placeholder nobody listed still needs a second anchor to do harm: see
  ``hardware.pairs`` and decision 0002.
"""

from __future__ import annotations

import re

_UUID = re.compile(r"[0-9a-f]{32}")
_INSTANCE = re.compile(r"[a-z0-9][a-z0-9._-]{6,63}")
_MAC = re.compile(r"[0-9a-f]{12}")
# Counting up, counting down, one character or two taking turns: what people type when they must type something.
_RUNS = ("0123456789", "1234567890", "9876543210", "abcdefghijklmnopqrstuvwxyz")
# A batch counter that never left its first steps: AA000000000000000001, 0000000000000001.
_COUNTER = re.compile(r"[a-z]{0,4}0{6,}[0-9]{0,2}")



def _words(table: str) -> frozenset[str]:
    return frozenset(table.split())


# The firmware kit's sample in both byte orders, then what people type when a tool asks for a UUID.
_UUID_PLACEHOLDERS = _words("""
    03000200040005000006000700080009 00020003000400050006000700080009
    12345678123456781234567812345678 123456781234567890abcddeefaabbcc 12345678123412341234123456789012
    11111111222233334444555555555555 0102030405060708090a0b0c0d0e0f10 000102030405060708090a0b0c0d0e0f
""")

_SERIAL_PLACEHOLDERS = _words("""
    none null nil n/a unknown unspecified invalid empty default o.e.m. test notspecified notavailable notapplicable
    notsettable notdefined notpresent unset reserved mb-1234567890 bss-0123456789 eval sample
""")
_SERIAL_PHRASES = tuple(sorted(_words("""
    tobefilled filledbyo defaultstring serialnumber systemserial boardserial assettag pleasechange notspecified
    noserial xxxx
""")))

# Blocks (IEEE MA-L) whose addresses a hypervisor or a cloud hands out; locally administered ones need no list.
_VIRTUAL_OUIS = _words("""
    000569 000c29 001c14 005056 080027 0021f6 00163e 00155d 0003ff 001c42 001a4a 56847a 000f4b 001851 589cfc 506b8d
    000d3a 002248 0017fa 6045bd 7c1e52 7ced8d 000017
""")
# Addresses of adapters whose own memory was never written, and addresses from manuals.
_MAC_PLACEHOLDERS = _words("""
    001122334455 0123456789ab 00e04c680001 00e04c360001 888888888788 888888888888 00a0c9000000 000102030405
    001020304050 00deadbeef00
""")

# What a virtual or networked disk calls itself; its "serial" is a constant, or it travels with the volume.
_VIRTUAL_DISKS = re.compile(
    r"qemu|vbox|virtual|vmware|msft|xen|virtio|google persistent|persistentdisk|elastic block store|amazon ec2|bhyve|"
    r"parallels|firecracker|overlayblk|iscsi|lio-org|scsi_debug|nbd|openstack|cloud disk",
    re.IGNORECASE,
)
_VIRTUAL_SERIALS = re.compile(
    r"(qm0|vb[0-9a-f]{8}-|drive-|overlayblk|vol-?[0-9a-f]{8}|beaf|lun[0-9]|vda|rootfs)", re.IGNORECASE
)


def anchor_value(slot: str, raw: str | None, *, model: str = "") -> str | None:
    """Return the normal form of an anchor's ``raw`` value, or ``None`` if it is not an individual value.

    ``model`` is what the device calls itself; it matters for ``disk`` only.
    """
    if raw is None:
        return None
    text = raw.replace("\0", " ").strip()
    if slot == "uuid":
        return _uuid(text)
    if slot == "vm":
        return _uuid(text) or _instance(text)
    if slot == "nic":
        return _mac(text)
    if slot == "disk" and (_VIRTUAL_DISKS.search(model) or _VIRTUAL_SERIALS.match(text)):
        return None
    if slot in ("board", "disk"):
        return _serial(text)
    raise ValueError(f"no such slot: {slot}")


def is_placeholder(text: str) -> bool:
    """Tell whether ``text`` is one of the words makers leave in a serial number's place."""
    bare = re.sub(r"[\s_]+", "", text).lower()
    return (
        len(re.sub(r"[^a-z0-9]", "", bare)) < 4
        or bare in _SERIAL_PLACEHOLDERS
        or any(phrase in bare for phrase in _SERIAL_PHRASES)
        or len(set(re.sub(r"[^a-z0-9]", "", bare))) < 2
        or any(bare in run * 2 for run in _RUNS)
        or _COUNTER.fullmatch(bare) is not None
    )


def uuid_holds_mac(uuid: str, mac: str) -> bool:
    """Tell whether a firmware UUID is only another way of writing ``mac`` (both in normal form).

    Two makers' habits: the address as the last six bytes, and the address woven into the firmware kit's sample
    (``03aa02bb-04cc-05dd-ee06-ff0700080009``).
    """
    if _UUID.fullmatch(uuid) is None or _MAC.fullmatch(mac) is None:
        return False
    woven = uuid[2:4] + uuid[6:8] + uuid[10:12] + uuid[14:16] + uuid[16:18] + uuid[20:22]
    # The first three fields are stored little-endian, so the same weave is also seen with its bytes turned round.
    turned = uuid[4:6] + uuid[0:2] + uuid[8:10] + uuid[12:14] + uuid[16:18] + uuid[20:22]
    return uuid.endswith(mac) or mac in (woven, turned)


def _uuid(text: str) -> str | None:
    bare = re.sub(r"[\s{}-]", "", text).lower()
    if _UUID.fullmatch(bare) is None or bare in _UUID_PLACEHOLDERS or len(set(bare)) < 4:
        return None
    return bare


def _instance(text: str) -> str | None:
    """A cloud's own instance name such as ``i-0f3e5a7c9b1d2e4f6``; needs a digit, so that no word passes."""
    bare = text.lower()
    if _INSTANCE.fullmatch(bare) is None or is_placeholder(bare) or not any(c.isdigit() for c in bare):
        return None
    # A UUID-shaped value was judged as a UUID already.
    return None if _UUID.fullmatch(bare.replace("-", "")) else bare


def _mac(text: str) -> str | None:
    bare = re.sub(r"[:.\s-]", "", text).lower()
    if _MAC.fullmatch(bare) is None:
        return None
    first = int(bare[:2], 16)
    if first & 0b01 or first & 0b10:  # multicast; locally administered (IEEE 802, section 8.2)
        return None
    if bare[:6] in _VIRTUAL_OUIS or bare in _MAC_PLACEHOLDERS or bare[6:] in ("000000", "ffffff"):
        return None
    return bare


def _serial(text: str) -> str | None:
    if is_placeholder(text) or any(ord(c) < 32 or ord(c) > 126 for c in text):
        return None
    return re.sub(r"[\s_]+", "", text).upper()[:128]
