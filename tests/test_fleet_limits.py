"""When too much comes to a fleet manager: new computers wait, those that enrolled go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleets import Managed, Site
from keyturn.fleet import home
from keyturn.testing import World
from peers import refused

BUSY = "service_unready"  # What a client makes of any answer 429 or 503: nothing is lost, and it comes again.


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    """A manager that takes four requests from an address, and holds ten more for check-ins of its own computers."""
    folder = tmp_path / "site" / "fleet"
    home.initialise(folder, world.clock(), None)
    for name, value in (("rate_address", "0.001/4"), ("rate_prefix", "0.001/40")):
        home.change_setting(folder, name, value)
    with Site(world, tmp_path / "site").running() as made:
        yield made


def test_new_computers_wait_and_enrolled_ones_go_on(site: Site) -> None:
    """Four requests are two computers. A third may not join; the two check in out of what is held for them, to its end."""
    computers = [site.join(f"pc-{n}") for n in range(2)]
    third = refused(lambda: site.join("third"))
    assert third.code == BUSY and (third.retry_after or 0) > 60
    for _ in range(5):
        for one in computers:
            one.check_in()
    assert refused(computers[0].check_in).code == BUSY
    assert len(site.computers()) == 2


def test_what_is_held_for_enrolled_computers_is_not_given_to_strangers(site: Site) -> None:
    """A check-in by a key that never enrolled, or none at all, is refused there; health is never counted."""
    members: list[Managed] = [site.join(f"pc-{n}") for n in range(2)]
    stranger = members[1]
    site.database.write_now(lambda db: db.execute("DELETE FROM computer WHERE name = 'pc-1'").rowcount)
    assert refused(stranger.check_in).code == BUSY
    members[0].check_in()


def test_the_limits_are_settings(site: Site) -> None:
    assert refused(lambda: home.change_setting(site.home.path, "rate_address", "many")).code == "usage"
    home.change_setting(site.home.path, "rate_address", "off")
    settings, _ = home.read_settings(site.home.path, {})
    assert settings.rates().address is None and settings.rates().prefix is not None
