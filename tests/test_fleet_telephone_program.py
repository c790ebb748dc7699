"""By telephone with the programs themselves: a service and a fleet manager that never meet, and three computers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from programs import Home, Publisher, Result, typed
from test_fleet_program import Organization, key_of

pytestmark = pytest.mark.system


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[Publisher, Organization]]:
    made = Publisher(tmp_path / "publisher")
    made.service("org", "create", "globex").ok()
    product = made.product("paintbox", "--test")
    yield made, Organization(tmp_path / "organization", product)
    made.close()


def typing(organization: Organization, computer: str, *lines: str) -> str:
    command = ["fleet", "--home", str(organization.folder / "home"), "telephone", "confirm", computer]
    return typed(command, lines, cwd=organization.folder)


def blocked(folder: Path) -> dict[str, str]:
    """An environment in which the parts of the extra `phone` are not installed."""
    folder.mkdir()
    for name in ("py_ecc", "mnemonic", "segno"):
        (folder / f"{name}.py").write_text(f"raise ImportError({name!r})\n")
    return {"PYTHONPATH": str(folder)}


def test_a_lab_is_activated_by_the_programs(lab: tuple[Publisher, Organization], tmp_path: Path) -> None:
    """Three computers, service and manager that never meet, the manager killed between a code and its delivery."""
    publisher, organization = lab
    env = blocked(tmp_path / "blocked")

    def answer(one: dict[str, Any]) -> list[str]:
        return str(publisher.service("answer", one["installation_id"]).ok().json["confirmation_id"]).split()

    def confirm(computer: str, *code: str, **options: Any) -> Result:
        return organization("telephone", "confirm", computer, *code, **options)

    with organization.running(end=signal.SIGKILL) as url:
        computers: list[Home] = organization.computers(3)
        key = key_of(publisher, organization, 3)
        organization("activate", "--all", "--key", key, "--via", "telephone", "--yes").ok()
        for one in computers:
            one("agent", "check-in").ok()
        waiting = organization("telephone", "list", "--words").ok().json["waiting"]
        assert [one["name"] for one in waiting] == ["pc-0", "pc-1", "pc-2"]
        assert len(waiting[0]["words"]) == 16 and waiting[0]["page"] == f"{publisher.url}/phone"
        assert waiting[0]["address"].startswith(f"{publisher.url}/phone#")
        assert organization("telephone", "qr", "pc-0").ok().json["address"] == waiting[0]["address"]
        assert organization("telephone", "list", env=env).ok()
        assert organization("telephone", "list", "--words", env=env).code == "extra_missing"
        codes = [answer(one) for one in waiting]
        slip = confirm("pc-0", *codes[0][:2], f"{(int(codes[0][2][0]) + 1) % 10}{codes[0][2][1:]}", *codes[0][3:])
        assert (slip.exit, slip.code) == (4, "code_mistyped")
        assert "group 3" in slip.json["error"]["detail"]
        # At the wrong computer, by a manager that cannot tell.
        assert not confirm("pc-0", *codes[1], env=env).ok().json["verified"]
        computers[0]("agent", "check-in").ok()
        (first,) = [one for one in organization("telephone", "list").ok().json["waiting"] if one["name"] == "pc-0"]
        assert (first["code"], first["entered"]) == ("code_foreign", False)
        assert first["installation_id"] == waiting[0]["installation_id"]
        assert confirm("pc-0", "-", input=" ".join(codes[0])).ok().json["verified"]
        assert confirm("-", *codes[1]).ok().json["name"] == "pc-1"
    with organization.running(url.removeprefix("https://")):
        for one in computers:
            one("agent", "check-in").ok()
        assert [one.status()["state"] for one in computers] == ["licensed", "licensed", "initial_grace"]
        assert confirm("pc-0", *codes[0]).code == "not_found"
        (task,) = organization("task", "list").ok().json["tasks"]
        assert (task["done"], task["open"]) == (2, 1)
        organization("task", "cancel", task["id"]).ok()
        assert organization("telephone", "list").ok().json["waiting"] == []
        assert confirm("pc-2", *codes[2]).code == "not_found"
        # What the publisher answered is not lost: ordered again, it is the same ID, and the same code holds.
        organization("activate", "--computer", "pc-2", "--via", "telephone", "--yes").ok()
        computers[2]("agent", "check-in").ok()
        said = typing(organization, "pc-2", "000000", *codes[2])
        assert "group 1 is wrong" in said and "Taken: pc-2" in said
        computers[2]("agent", "check-in").ok()
    assert [one.status()["via"] for one in computers] == ["telephone"] * 3
    log = (organization.folder / "log").read_text()
    assert not [code for code in codes if "".join(code) in log or " ".join(code) in log]
