"""The customer's table "what counts": each row played through with real computers, a real client and the real service.

``python tests/what_counts.py --update`` writes the tables of ``docs/what-counts.md`` anew; without it they are compared, as
``test_docs.py`` does. Look at the difference before you commit it: each cell is a promise.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from keyturn.client import actions
from keyturn.client.machine import Machine
from keyturn.client.sdk import Client
from keyturn.core.errors import KeyturnError, Refused
from keyturn.edge import probes
from keyturn.edge.probes import Computer
from keyturn.testing import World, computers
from keyturn.testing.world import Chance

PAGE = Path(__file__).parents[1] / "docs" / "what-counts.md"
KEPT, LOST, COPIED, RETURNED = "kept", "lost", "copied", "returned"
HEAD = ("what happens", "does it go on?", "activating again: retail key", "activating again: MAK")


class Row(NamedTuple):
    """One line: computers of the corpus (``:user`` as a user sees them), and what became of the store.

    ``kept``: it is there after the change; ``lost``: it is not; ``copied``: it is in both places; ``returned``: a backup
    of it is brought back after the seat was returned. ``lasts``: whether what is written is there after the next start.
    """

    situation: str
    before: str
    after: str
    store: str = KEPT
    lasts: bool = True


PC, USER = "office-pc-a", "office-pc-a:user"
TABLES: Mapping[str, tuple[Row, ...]] = {
    "same": (
        Row("The operating system is installed anew", PC, "office-pc-a-reinstalled", LOST),
        Row("… activated by a user", USER, "office-pc-a-reinstalled:user", LOST),
        Row("The store is deleted", PC, PC, LOST),
        Row(
            "Another user of the computer, or one of forty on a server, with a store of their own",
            "server-a:user",
            "server-a:user",
            LOST,
        ),
        Row("Activated as root, then started by a user", PC, USER),
        Row("Activated by a user, then started as root", USER, PC),
        Row("Firmware (BIOS) update", PC, "office-pc-a-firmware-update"),
        Row("More memory, a graphics card and a network card added", PC, "office-pc-a-more-parts"),
        Row("… activated by a user", USER, "office-pc-a-more-parts:user"),
        Row("Dock, with its own network adapters and disk", "laptop-a", "laptop-a-docked"),
        Row("USB network adapter and USB disk", "laptop-a:user", "laptop-a-usb:user"),
        Row("Live system from a stick, with the store of the disk", PC, "office-pc-a-live"),
    ),
    "parts": (
        Row("New system disk, the old one copied over", PC, "office-pc-a-new-disk"),
        Row("… activated by a user", USER, "office-pc-a-new-disk:user"),
        Row("New system disk, installed anew", PC, "office-pc-a-new-disk", LOST),
        Row("… activated by a user", USER, "office-pc-a-new-disk:user", LOST),
        Row("Network or radio card replaced", "laptop-a", "laptop-a-new-radio"),
        Row("… activated by a user", "laptop-a:user", "laptop-a-new-radio:user"),
        Row("… activated by a user, and the store is lost too", "laptop-a:user", "laptop-a-new-radio:user", LOST),
        Row("New main board, the disk stays", PC, "office-pc-a-new-board"),
        Row("… activated by a user", USER, "office-pc-a-new-board:user"),
        Row(
            "New disk and another network adapter at once, the old disk copied over", PC, "office-pc-a-disk-and-adapter"
        ),
        Row("… installed anew", PC, "office-pc-a-disk-and-adapter", LOST),
    ),
    "copies": (
        Row("A new computer beside the old one", PC, "office-pc-b", LOST),
        Row("The store, or an image of the disk, on another computer of the same model", PC, "office-pc-b", COPIED),
        Row("… activated by a user", USER, "office-pc-b:user", COPIED),
        Row("… with `/sys` hidden", PC, "office-pc-a-no-sys", COPIED),
        Row("A backup of the store from before a return is brought back", PC, PC, RETURNED),
    ),
    "virtual": (
        Row("Snapshot taken, or an older one restored", "vm-template-a", "vm-template-a-snapshot"),
        Row("… after which the hypervisor says another VM generation ID", "vm-template-a", "vm-template-a-generation"),
        Row("Moved to another host, also while it runs", "vm-template-a", "vm-template-a-moved"),
        Row("Cloud instance stopped, made larger, started elsewhere", "ec2-a", "ec2-a-resized"),
        Row(
            "Cloned after activation, with a UUID of its own (what large hypervisors do)",
            "vm-template-a",
            "vm-template-b",
            COPIED,
        ),
        Row("… cloned before activation", "vm-template-a", "vm-template-b", LOST),
        Row("Cloned after activation, together with its UUID", "vm-copy-a", "vm-copy-b", COPIED),
        Row("Another cloud instance from an image that was made after activation", "ec2-a", "ec2-b", COPIED),
        Row("… made before activation", "ec2-a", "ec2-b", LOST),
        Row("Physical computer turned into a virtual one", PC, "office-pc-a-as-vm"),
        Row(
            "Activated as root, then started by a user who cannot read the UUID", "vm-template-a", "vm-template-a:user"
        ),
    ),
    "contained": (
        Row(
            "Container with root inside, on an activated computer, with a store of its own",
            PC,
            "office-pc-a-docker",
            LOST,
        ),
        Row("Rootless container, likewise", PC, "office-pc-a-podman", LOST),
        Row("WSL, a micro-VM, or a sandbox that shows no hardware", "wsl-a", "wsl-a"),
        Row("… its store is lost", "wsl-a", "wsl-a", LOST),
        Row("… its store is copied to another", "wsl-a", "wsl-b", COPIED),
        Row("A container that shows no hardware and keeps nothing", "sandbox", "sandbox", LOST, lasts=False),
    ),
    "clusters": (
        Row("Another pod on the same node, which shows its hardware", "ec2-a-pod-1:user", "ec2-a-pod-2:user", LOST),
        Row("The pod is rescheduled to another node, its store is on a volume", "ec2-a-pod-1:user", "ec2-b-pod-1:user"),
        Row("… and its store is lost", "ec2-a-pod-1:user", "ec2-b-pod-1:user", LOST),
        Row("Pod in a sandbox that shows no hardware, its store is on a volume", "sandboxed-pod-1", "sandboxed-pod-1"),
        Row("… another pod of the same cluster", "sandboxed-pod-1", "sandboxed-pod-2", LOST),
        Row("… and nothing is kept", "sandboxed-pod-1", "sandboxed-pod-1", LOST, lasts=False),
    ),
    "windows": (
        Row("Windows is installed anew, or 10 becomes 11", "win-office-a", "win-office-a-reinstalled", LOST),
        Row("New system disk, the old one copied over", "win-office-a", "win-office-a-new-disk"),
        Row("… installed anew", "win-office-a", "win-office-a-new-disk", LOST),
        Row("New main board, the disk stays", "win-office-a", "win-office-a-new-board"),
        Row("A graphics card and a network card added", "win-office-a", "win-office-a-more-parts"),
        Row("Dock, with its own network adapters and disk", "win-laptop-a", "win-laptop-a-docked"),
        Row("USB network adapter and USB disk", "win-laptop-a", "win-laptop-a-usb"),
        Row("A golden image that was made before activation, on another computer", "win-image-1", "win-image-2", LOST),
        Row("… made after activation, which is a copy of the store", "win-image-1", "win-image-2", COPIED),
        Row("The same computer, started with Linux as root", "win-office-a", "win-office-a-linux", LOST),
        Row("… with an NVMe disk", "win-laptop-a", "win-laptop-a-linux", LOST),
        Row("… with an NVMe disk, by a user", "win-laptop-a", "win-laptop-a-linux:user", LOST),
        Row(
            "Checkpoint of a virtual machine applied (another VM generation ID)", "win-hyperv", "win-hyperv-checkpoint"
        ),
        Row("Virtual machine cloned after activation, with a UUID of its own", "win-vmware-a", "win-vmware-b", COPIED),
        Row("Cloud instance stopped, made larger, started elsewhere", "win-ec2-a", "win-ec2-a-resized"),
        Row("Windows container that keeps its store", "win-container", "win-container"),
    ),
    "mac": (
        Row("macOS is upgraded or installed anew", "mac-book-a", "mac-book-a-upgraded", LOST),
        Row("Dock, with its own network adapters and disk", "mac-book-a", "mac-book-a-docked"),
        Row(
            "New main board (with Apple silicon: disk and radio too), the system brought over",
            "mac-book-a",
            "mac-book-a-new-board",
        ),
        Row("… and the store is lost", "mac-book-a", "mac-book-a-new-board", LOST),
        Row("New disk in a Mac with an Intel processor, installed anew", "mac-intel-a", "mac-intel-a-new-disk", LOST),
        Row("Everything brought over to a new Mac", "mac-book-a", "mac-book-b", COPIED),
        Row("Virtual Mac, copied with a machine identifier of its own", "mac-vm-a", "mac-vm-b", COPIED),
        Row("… copied together with its machine identifier", "mac-vm-copy-a", "mac-vm-copy-b", COPIED),
    ),
}


class Played(NamedTuple):
    """What was seen: the three cells after the situation."""

    goes_on: str
    retail: str
    mak: str


class Stage:
    """A publisher and the folders of computers; ``/dev/shm`` is the disk of those that keep nothing."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder / "world")
        self._folder = folder
        self._made = 0
        self._seen: dict[str, Computer] = {}

    def play(self, row: Row) -> Played:
        (goes_on, retail), (same, mak) = self._play(row, "retail"), self._play(row, "mak")
        assert goes_on == same, row
        return Played(goes_on, retail, mak)

    def _play(self, row: Row, channel: str) -> tuple[str, str]:
        """1. Activate. 2. What happens. 3. Look. 4. Activate again."""
        with tempfile.TemporaryDirectory(dir=None if row.lasts else "/dev/shm") as top:
            key = self.world.publisher.mint(channel=channel, limit=1 if channel == "retail" else 5)
            home, copy = Path(top) / "home", Path(top) / "copy"
            # 1.
            client = self._client(row.before, home)
            try:
                client.activate(key, consent=True, allow_ephemeral=row.lasts)
            except KeyturnError as error:
                return "no: it cannot be activated", refused(error.code)
            # 2.
            shutil.copytree(home, copy)
            if row.store == RETURNED:
                client.deactivate()
            there = home if row.store == KEPT else copy
            if row.store == LOST:
                shutil.rmtree(copy)
            # 3.
            client = self._client(row.after, there)
            goes_on = told(client)
            # 4.
            return goes_on, self._cost(client, key)

    def _client(self, name: str, home: Path) -> Client:
        """A new process on that computer, which a real probe has read once."""
        self._made += 1
        if name not in self._seen:
            recorded, _, user = name.partition(":")
            place = computers.load(recorded).write(self._folder / name.replace(":", "-"), as_user=bool(user))
            self._seen[name] = probes.read(str(place), facts=True)
        environ, chance = {"HOME": str(home.parent)}, Chance(str(self._made))
        machine = Machine(environ, now=self.world.clock, chance=chance, read=lambda *_, **__: self._seen[name])
        return self.world.client(machine=machine, home=home)

    def _cost(self, client: Client, key: str) -> str:
        """What the service counts when this computer asks it again, whether it would have to or not."""
        before, machine = self._counted(), client._machine
        shelf = client._added()
        actions.install_key(shelf, key, machine)
        token, loaded = actions.make_request(shelf, machine, allow_ephemeral=True)
        with client._talk(shelf, loaded, None, lambda _text: None) as talk:
            outcome = talk.activate(token)
        if isinstance(outcome, Refused):
            return refused(outcome.code)
        seats, moves = (now - then for now, then in zip(self._counted(), before, strict=True))
        return {(0, 0): "nothing", (1, 0): "a seat", (0, 1): "a move"}[seats, moves]

    def _counted(self) -> tuple[int, int]:
        """Seats taken and moves made, of all keys."""
        seats = "SELECT coalesce(sum(seats_used), 0) FROM product_key"
        return self.world.publisher.database.read(
            lambda db: (db.execute(seats).fetchone()[0], db.execute("SELECT count(*) FROM move").fetchone()[0])
        )


def refused(code: str) -> str:
    return f"no: `{code}`"


def told(client: Client) -> str:
    """Whether the product goes on, in the table's words."""
    seen = client.status()
    if seen.reason == "not_activated":
        return "no: activate again"
    if seen.state == "licensed":
        return "yes" if seen.days_left is None else f"yes, {seen.days_left} days at a time"
    return f"{seen.days_left} days of grace: `{seen.reason}`"


def table(rows: tuple[Row, ...], stage: Stage) -> str:
    """One table in Markdown."""
    lines = [HEAD, *((row.situation, *stage.play(row)) for row in rows)]
    lines_of_cells = [f"| {' | '.join(cells)} |\n" for cells in lines]
    return "".join([lines_of_cells[0], "|---" * len(HEAD), "|\n", *lines_of_cells[1:]])


def tables() -> Iterator[tuple[str, str]]:
    """Every table by its name, played through."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        try:
            for name, rows in TABLES.items():
                yield name, table(rows, stage)
        finally:
            stage.world.close()


def on_page(text: str, name: str) -> tuple[int, int]:
    """Where the table of that name begins and ends in the page: between its two marks."""
    found = re.search(rf"<!-- {name}: made by tests/what_counts.py -->\n\n(.*?)\n?<!-- end -->", text, re.DOTALL)
    assert found is not None, f"docs/what-counts.md has no table {name!r}"
    return found.span(1)


def main() -> int:
    before = text = PAGE.read_text("utf-8")
    for name, rows in tables():
        begin, end = on_page(text, name)
        text = text[:begin] + rows + text[end:]
    if "--update" in sys.argv:
        PAGE.write_text(text, "utf-8")
        return 0
    print("as committed" if text == before else "DIFFERENT: look at it with --update and git diff")
    return 0 if text == before else 1


if __name__ == "__main__":
    sys.exit(main())
