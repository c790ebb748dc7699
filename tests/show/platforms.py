"""Windows, macOS, virtual and moving computers: recorded ones through the same commands, and every class judged for itself."""

from __future__ import annotations

import make_bundle
import seat_classes
import who_is_whom
from programs import Home
from show import readings
from show.stage import Stage, item

FIRST_OF = (  # name, the same computer after something happened to it, another of the same model or image
    ("win-office-a", "win-office-a-new-disk", "win-office-b"),
    ("win-laptop-a", "win-laptop-a-docked", "win-laptop-b"),
    ("win-image-1", "win-image-1", "win-image-2"),
    ("win-hyperv", "win-hyperv-checkpoint", "win-vmware-a"),
    ("win-ec2-a", "win-ec2-a-resized", "win-azure-a"),
    ("mac-book-a", "mac-book-a-docked", "mac-book-b"),
    ("mac-intel-a", "mac-intel-a-new-disk", "mac-intel-b"),
    ("mac-vm-a", "mac-vm-a", "mac-vm-b"),
)


@item("An activation on Windows and macOS recordings through the same commands; status afterwards")
def same_commands(stage: Stage) -> str:
    figures = []
    for name, changed, other in FIRST_OF:
        key = stage.key()
        home = stage.home(stage.pc(name))
        entry = home.activate(stage.test, key["key"]).ok().product
        assert (entry["state"], entry["evidence"]) == ("licensed", "strong"), entry
        assert home.status() == entry
        home.env["KEYTURN_SYSROOT"] = str(stage.pc(changed))
        assert home.status()["state"] == "licensed", changed
        again = stage.home(stage.pc(changed)).activate(stage.test, key["key"]).ok().product
        assert again["activation_id"] == entry["activation_id"], changed
        refused = stage.home(stage.pc(other)).activate(stage.test, key["key"])
        assert (refused.exit, refused.code) == (1, "limit_reached"), (other, refused)
        assert stage.publisher.seats(key["serial"]) == 1
        facts = _facts(home)
        figures.append(f"{name} ({facts['os_name']} {facts['os_version']})")
    return f"licensed, one seat also for the changed computer, limit_reached for its neighbour: {', '.join(figures)}"


def _facts(home: Home) -> dict[str, str]:
    """What a request of that computer declares."""
    _, claims = readings.decoded(home("disclose", "--raw").ok().out)
    return {name: value for name, value in claims["facts"].items() if isinstance(value, str)}


@item("The golden matrix with the new classes; false same and false different for each class of recorded computers")
def golden(_stage: Stage) -> str:
    seen = who_is_whom.views()
    assert who_is_whom.matrix(seen) == who_is_whom.GOLDEN.read_text("utf-8"), "not as committed"
    tallies = list(who_is_whom.by_class(seen))
    joined = [tally.klass for tally in tallies if tally.other_seats or tally.other_certificates]
    assert joined == ["template VM, UUID copied", "virtual Mac, copied"], joined
    computers = sum(tally.computers for tally in tallies)
    new = [
        tally for tally in tallies if tally.klass.startswith(("Windows", "Mac", "virtual Mac", "pod", "dual", "VM gen"))
    ]
    kept = "; ".join(f"{tally.klass}: {tally.seats_kept} of {tally.changes}" for tally in new if tally.changes)
    return (
        f"{computers} computers in {len(tallies)} classes ({len(new)} of them new), {len(seen)} views, "
        f"{2 * len(seen) ** 2:,} marks as committed; false same only where stated ({', '.join(joined)}); "
        f"seats found again after a change: {kept}"
    )


@item(
    "The simulation, each class alone: false same, copied store, false different, failed checks; a planted rule fails"
)
def simulated(_stage: Stage) -> str:
    lines = []
    for name in (*seat_classes.CLASSES, seat_classes.PLANTED):
        result = seat_classes.simulate_class(name, 5_000, seed=1)
        good = seat_classes.passes(name, result)
        assert good == (name != seat_classes.PLANTED), result.lines()
        rates = (
            result.false_same,
            result.copied_store,
            result.false_different,
            result.check_failed,
            seat_classes.to_do(result),
        )
        lines.append(
            f"{name}: {' '.join(f'{rate:.2%}' if rate else '0' for rate in rates)}{'' if good else ' FAILS, as it must'}"
        )
    return "5,000 of each, seed 1; " + "; ".join(lines)


@item("The one-folder bundle of the client activates")
def bundle(stage: Stage) -> str:
    program = make_bundle.build(stage.place("bundle"))
    home = Home(stage.place("client") / "home", sysroot=stage.pc("mac-book-a"), keyturn=program)
    assert home.activate(stage.test, stage.key()["key"]).ok().product["state"] == home.status()["state"] == "licensed"
    return f"{make_bundle.size(program) / 2**20:.0f} MiB; licensed"
