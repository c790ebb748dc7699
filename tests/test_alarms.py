"""What ends soon is said in time: in words, in figures, and in the log every day."""

from __future__ import annotations

import asyncio
import io
import json
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from keyturn.core.model import DAY
from keyturn.edge import serverlog, tls
from keyturn.service import alarms, app
from keyturn.service.alarms import Alarm
from keyturn.testing import World

TLS_END = tls.SERVER_DAYS


def told(world: World, *, certificate: str | None = None) -> list[tuple[str, str, int]]:
    found = alarms.alarms(world.publisher.home, world.clock(), certificate=certificate)
    return [(alarm.alarm, alarm.of, alarm.level) for alarm in found]


@pytest.mark.parametrize(
    ("day", "levels"),
    [(0, []), (73, []), (74, [90]), (103, [90]), (104, [60]), (134, [30]), (163, [30]), (170, [30])],
)
def test_the_keys_here_are_told_of_at_ninety_sixty_and_thirty_days(world: World, day: int, levels: list[int]) -> None:
    """Those of the first day end on day 164: the first alarm comes when a rotation would bring the next ones, and not before."""
    world.clock.advance(days=day)
    assert told(world) == [("issuing_keys_end", role, level) for role in ("issue", "test") for level in levels]


def test_a_rotation_ends_the_alarm(world: World) -> None:
    """On the day of the first alarm the next keys can be brought, and nothing is told for seventy-five days more."""
    world.clock.advance(days=74)
    assert told(world)
    world.publisher.rotate()
    world.publisher.home.refresh()
    world.clock.advance(days=75)
    assert len(told(world)) == 2  # As punctual as the one before.
    world.clock.advance(days=-1)
    assert told(world) == []


@pytest.mark.parametrize(("left", "level"), [(91, None), (90, 90), (60, 60), (30, 30), (0, 30)])
def test_the_end_of_what_is_authorised_is_told_too(world: World, left: int, level: int | None) -> None:
    """The last authorised keys end on day 764, whatever is here."""
    world.clock.advance(days=764 - left)
    found = [alarm for alarm in told(world) if alarm[0] == "authorised_keys_end"]
    assert found == ([("authorised_keys_end", role, level) for role in ("issue", "test")] if level else [])


@pytest.mark.parametrize(("left", "level"), [(91, None), (90, 90), (30, 30), (0, 30)])
def test_the_end_of_confirmation_keys_is_told(world: World, left: int, level: int | None) -> None:
    """They end on day 731; a home that never had any is silent."""
    world.clock.advance(days=731 - left)
    roles = ("phone", "phone-test") if level else ()
    assert [alarm for alarm in told(world) if alarm[0] == "confirmation_keys_end"] == [
        ("confirmation_keys_end", role, level) for role in roles
    ]
    for secret in (world.publisher.home.path / "keys").glob("*.phone"):
        secret.unlink()
    assert not [alarm for alarm in told(world) if alarm[0] == "confirmation_keys_end"]


def test_the_tls_certificate_is_told_of_thirty_days_ahead(world: World, tmp_path: Path) -> None:
    """That of the home, or the one in use; one that cannot be read is as good as ended, and a home without any is silent."""
    for left, expected in ((31, []), (30, [("tls_certificate_ends", "tls", 30)])):
        world.clock.time = 1_800_000_000 + (TLS_END - left) * DAY
        assert [alarm for alarm in told(world) if alarm[1] == "tls"] == expected
    world.clock.time = 1_800_000_000
    (tmp_path / "broken.pem").write_text("-----BEGIN")
    assert told(world, certificate=str(tmp_path / "broken.pem")) == [("tls_certificate_ends", "tls", 30)]
    assert told(world, certificate=str(tmp_path / "none.pem")) == []


def test_no_key_at_all_is_an_alarm(world: World) -> None:
    """A home without keys of a role says so, without a date."""
    world.publisher.home.signers.clear()
    found = list(alarms.alarms(world.publisher.home, world.clock()))
    assert [(alarm.of, alarm.days_left, alarm.ends) for alarm in found] == [("issue", 0, None), ("test", 0, None)]
    assert "rotate" in str(found[0])


def test_the_figures_say_the_same(world: World) -> None:
    """Days left of each, and how many alarms of each level there are, also none."""
    gauges = {name: values for (name, _), values in app._gauges(world.publisher.service).items()}
    assert gauges["keyturn_issuing_key_days_left"] == {"issue": 164.0, "test": 164.0}
    assert gauges["keyturn_authorised_key_days_left"] == {"issue": 764.0, "test": 764.0}
    assert gauges["keyturn_tls_days_left"] == {"": float(TLS_END)}
    assert gauges["keyturn_alarms"] == {"30": 0, "60": 0, "90": 0}
    world.clock.advance(days=110)
    gauges = {name: values for (name, _), values in app._gauges(world.publisher.service).items()}
    assert gauges["keyturn_alarms"] == {"30": 0, "60": 2, "90": 0}


def test_the_log_has_a_line_for_each_with_declared_fields(world: World) -> None:
    """No remedy in the log: it is for programs, and ``service status`` has the words."""
    stream = io.BytesIO()
    world.clock.advance(days=140)
    alarms.write(serverlog.open_log(world.clock, stream), alarms.alarms(world.publisher.home, world.clock()))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["alarm"], line["of"], line["days_left"]) for line in lines] == [
        ("alarm", "issuing_keys_end", "issue", 24), ("alarm", "issuing_keys_end", "test", 24),
    ]  # fmt: skip
    declared = set(tomllib.loads((resources.files("keyturn") / "privacy.toml").read_text("utf-8"))["log"])
    assert {field for line in lines for field in line} <= declared


def test_it_is_told_at_the_start_and_once_a_period_until_the_end() -> None:
    """Three periods, then the service stops: no more, and at once."""

    async def run() -> int:
        stop, count = asyncio.Event(), 0

        def tell() -> None:
            nonlocal count
            count += 1
            if count == 3:
                stop.set()

        await alarms.daily(tell, stop, period=0.001)
        await alarms.daily(tell, stop, period=3600)  # Stopped already: nothing is told.
        return count

    assert asyncio.run(run()) == 3


def test_an_alarm_says_what_to_do() -> None:
    """In one line, in whole days, never in less than none."""
    alarm = Alarm("tls_certificate_ends", "tls", 30, -3, None, "Renew it.")
    assert str(alarm) == "tls certificate ends (tls) in 0 days. Renew it."
