"""A fleet's computers change between a multiple activation key and an activation host, both ways, by order of the manager."""

from __future__ import annotations

from pathlib import Path

from fleets import Site, silent
from hosts import Organization
from keyturn.core.model import ProductName
from keyturn.edge.listen import background
from keyturn.fleet import keys
from keyturn.fleet.keys import Given
from keyturn.host.app import build
from keyturn.testing import World


def test_from_a_host_to_a_key_and_back(tmp_path: Path) -> None:
    """Each order is one verb; the computer is licensed after each, and says by what."""
    world = World(tmp_path / "world", threshold=1)
    organization = Organization(world)
    host = organization.host()
    cert, key = host.home.tls_files
    with (
        Site(world, tmp_path / "site").running() as site,
        background(build(host, silent, place="host.example:8444"), tls_cert=cert, tls_key=key) as ready,
    ):
        client = organization.client_key["key"]
        product = ProductName.parse(
            site.database.read(lambda db: db.execute("SELECT name FROM product").fetchone()["name"])
        )
        row, _ = site.database.write_now(
            lambda db: keys.add(
                db,
                site.fleet.sealer,
                product,
                Given(client, None, None),
                who="tester",
                now=world.clock(),
                chance=site.fleet.chance,
            )
        )
        mak = site.key(limit=2, organization=organization.name)
        computer = site.join("pc")
        place = f"127.0.0.1:{ready.port}"
        for via, chosen, said in (
            ("host", row["partial"], "host"),
            ("proxy", mak, "fleet"),
            ("host", row["partial"], "host"),
        ):
            task = site.order("activate", key=chosen, way=via, host=place if via == "host" else None)
            site.work([computer])
            assert site.outcomes(task) == {"pc": ("done", None)}, via
            status = computer.status()
            assert (status["state"], status["via"], status["partial_key"]) == ("licensed", said, chosen)
    host.database.close()
    world.close()
