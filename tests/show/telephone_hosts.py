"""By telephone: an activation host in a network without a way out, two codes, and the computers that it licenses."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from keyturn.core.phone.spelling import HOST_CONFIRMATION, INSTALLATION
from keyturn.testing.computers import synthetic
from programs import Result
from show.landscape import DOMAIN, HostMachine, Landscape
from show.stage import Stage, item

COMPUTERS = 5


class Called(HostMachine):
    """A server whose certificate comes by telephone."""

    said: Result

    def add(self, product: Path, key: str) -> None:
        """Two codes: out in words, back in words of four letters. A slip is named first."""
        told = self("installation-id", "-", "--words", input=f"{key}\n").ok().json["words"]
        words = self.landscape.stage.publisher.service("answer", *told).ok().json["words"]
        wrong = "zoo" if words[30] != "zoo" else "zebra"
        slip = self("confirm", *words[:30], wrong, *words[31:])
        assert slip.code == "code_mistyped" and f"word 31 should probably be '{words[30]}'" in slip.json["error"]["detail"], slip
        self.said = self("confirm", *(word[:4] for word in words)).ok()


@item("An activation host without any way out is activated by two codes, and five computers of its network get leases from it")
def host_by_telephone(stage: Stage) -> str:
    slug, options = "volphone", ("--org", "globex")
    product = stage.publisher.product(slug, "--test", "--threshold", str(COMPUTERS))
    (client,) = stage.publisher.mint(slug, "--channel", "client", *options)
    (key,) = stage.publisher.mint(slug, "--channel", "host", "--limit", "6", *options)
    with contextlib.closing(Landscape(stage)) as landscape:
        host = Called(landscape, "anna", 11, product, str(key["key"]))
        landscape.machine("clients", 100)
        landscape.dnsmasq(host.record(0, 1))
        routes = host.room.sh("ip route; ip -6 route | grep -v fe80 || true")
        assert "default" not in routes, routes
        host.start()
        try:
            computers = [landscape.client(f"pc-{number}", product, synthetic(8_600 + number)) for number in range(COMPUTERS)]
            for one in computers[:-1]:
                assert one.get(str(client["key"])).code == "threshold_not_met"
            assert computers[-1].get(str(client["key"])).ok().product["state"] == "licensed"
            for one in computers[:-1]:
                assert one.get().ok().product["state"] == "licensed"
            host.stop()
            host.start()
            assert computers[0].get().ok().product["state"] == "licensed"
        finally:
            host.stop()
        began = time.perf_counter()
        for one in computers:
            assert one("status", "--check").ok().product["state"] == "licensed"
        took = (time.perf_counter() - began) / COMPUTERS
        shown = str(json.loads((computers[0].shelf / "license.json").read_text())["host"])
        ends = host.said.json["expires"][:10]
        assert "~" in shown and computers[0].remembered.endswith(f".{DOMAIN}:8444")
    assert stage.publisher.seats(int(key["serial"])) == 1
    out, back = INSTALLATION, HOST_CONFIRMATION
    return (
        f"{out.words} words or {6 * out.groups} digits out, {back.words} words ({4 * back.words} letters) or"
        f" {6 * back.groups} digits back; in force until {ends}; its certificate has {len(shown)} characters; a later start of a"
        f" computer takes {took:.2f} s"
    )
