"""Paintbox and its license, as its developers test it: no service, no network, no waiting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn import Client, KeyturnError
from keyturn.testing import World
from paintbox import app, picture

FREE = ["draw", "rect:0,0,200,120:skyblue", "circle:150,40,20:gold"]
LAYERS = ["draw", "sky/rect:0,0,200,120:skyblue", "hills/circle:60,150,80:green"]


def answers(*given: str) -> Callable[[str], str]:
    """A person who gives these answers and is asked nothing else."""
    rest = list(given)
    return lambda _question: rest.pop(0)


def nobody(question: str) -> str:
    raise AssertionError(f"nobody should be asked: {question}")


@pytest.fixture
def picture_file(tmp_path: Path) -> Path:
    return tmp_path / "picture.svg"


def test_a_picture_is_drawn_layer_by_layer() -> None:
    """Shapes become SVG, in the order of their layers."""
    text = picture.draw([picture.Shape.parse(shape) for shape in LAYERS[1:]])
    sky = text.index('<rect x="0" y="0" width="200" height="120" fill="skyblue"/>')
    assert text.index('<g id="sky">') < sky < text.index('<g id="hills">')


@pytest.mark.parametrize("shape", ["square:1,2,3:red", "circle:1,2:red", 'circle:1,2,3:"/><script>', "Sky/circle:1,2,3:red"])
def test_what_is_no_shape_is_said(shape: str, picture_file: Path, keyturn_licensed: Client) -> None:
    """A wrong shape is told as it was given, and nothing is written."""
    assert app.main(["draw", shape, "-o", str(picture_file)], license=keyturn_licensed, ask=nobody) == 2
    assert not picture_file.exists()


def test_licensed_with_layers_it_is_silent(keyturn_world: World, picture_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who is licensed for layers sees the picture and not a word about licenses."""
    license = keyturn_world.licensed(features=["layers"])
    assert app.main([*LAYERS, "-o", str(picture_file)], license=license, ask=nobody) == 0
    assert capsys.readouterr().err == ""
    assert 'id="hills"' in picture_file.read_text()


def test_licensed_without_layers(keyturn_licensed: Client, picture_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the feature one layer is drawn, two are refused with the remedy."""
    assert app.main([*FREE, "-o", str(picture_file)], license=keyturn_licensed, ask=nobody) == 0
    picture_file.unlink()
    capsys.readouterr()
    assert app.main([*LAYERS, "-o", str(picture_file)], license=keyturn_licensed, ask=nobody) == 1
    assert not picture_file.exists()
    said = capsys.readouterr().err
    assert "'layers'" in said
    assert "Ask the publisher" in said


def test_in_grace_everything_works_and_the_days_are_told(
    keyturn_grace: Client, picture_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three days before the end: layers too, one sentence, one action of Paintbox's own."""
    assert app.main([*LAYERS, "-o", str(picture_file)], license=keyturn_grace, ask=nobody) == 0
    assert picture_file.exists()
    assert capsys.readouterr().err == "Paintbox is not activated yet, 3 days left. Activate it: `paintbox activate`.\n"


def test_the_last_day_is_one_day(keyturn_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """One day is not "1 days"."""
    assert app.main(["status"], license=keyturn_world.grace(days_left=1), ask=nobody) == 0
    assert "1 day left" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "drawn"), [("enforce", False), ("warn", True), ("advise", True)])
def test_after_grace_the_publishers_mode_decides(
    mode: str, drawn: bool, keyturn_world: World, picture_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`enforce` stops, `warn` draws with the warning, `advise` draws and says so in `status`."""
    license = keyturn_world.expired(mode=mode)
    assert app.main([*FREE, "-o", str(picture_file)], license=license, ask=nobody) == (0 if drawn else 1)
    assert picture_file.exists() is drawn
    assert "`paintbox activate`" in capsys.readouterr().err


def test_activation_asks_for_the_key_and_shows_what_is_sent(keyturn_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The key is asked for once, every field is shown before the question, and a yes activates."""
    license = keyturn_world.client()
    key = keyturn_world.publisher.mint()
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        if question.startswith("Send"):
            shown = capsys.readouterr().err
            assert all(name in shown for name in ("computer model", "installation", "product id", "os version", "hash of disk"))
            assert key not in shown
            return "y"
        return f" {key.lower()} "

    assert app.main(["activate"], license=license, ask=ask) == 0
    assert len(asked) == 2
    assert license.status().state == "licensed"
    assert app.main(["activate"], license=license, ask=nobody) == 0


def test_without_a_yes_nothing_is_sent(keyturn_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Return at the question is a no; the key is kept, so that the next time asks only for consent."""
    license = keyturn_world.client()
    assert app.main(["activate"], license=license, ask=answers(keyturn_world.publisher.mint(), "")) == 5
    assert "consent_required" in capsys.readouterr().err
    assert license.status().state == "initial_grace"
    assert app.main(["activate"], license=license, ask=answers("y")) == 0


def test_a_typo_is_found_before_anything_is_asked(keyturn_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped key is told with its group, and nothing is sent."""
    key = keyturn_world.publisher.mint()
    wrong = ("3" if key[0] != "3" else "4") + key[1:]
    assert app.main(["activate"], license=keyturn_world.client(), ask=answers(wrong)) == 4
    assert "key_mistyped" in capsys.readouterr().err


def test_a_refusal_is_told_with_its_code(
    keyturn_world: World, keyturn_refused: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    """When every seat is taken, the person reads why, the code for support, and what to do."""
    assert app.main(["activate", "--yes"], license=keyturn_refused, ask=answers(keyturn_world.publisher.mint())) == 1
    said = capsys.readouterr().err
    assert "limit_reached" in said
    assert "Return a seat" in said


def test_another_publishers_product_of_the_same_name_is_refused(
    keyturn_world: World, tmp_path: Path, picture_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A false publisher's license in the same store licenses nothing, not even put into the real product's place."""
    real = keyturn_world.publisher.product("paintbox", mode="enforce")
    false = World(tmp_path / "false", clock=keyturn_world.clock)
    home, machine = tmp_path / "home", keyturn_world.machine()
    try:
        cheap = false.publisher.product("paintbox", editions={"standard": ["layers"]})
        theirs = keyturn_world.client(product=cheap, home=home, machine=machine, connect=false.publisher.connect)
        assert theirs.activate(false.publisher.mint("paintbox"), consent=True).state == "licensed"
        license = keyturn_world.client(product=real, home=home, machine=machine)
        license.status()
        keyturn_world.clock.advance(days=31)
        assert app.main([*FREE, "-o", str(picture_file)], license=license, ask=nobody) == 1
        ours, other = (next((home / "products").glob(f"paintbox-{c.product.thumbprint[:12]}")) for c in (license, theirs))
        for name in ("product.json", "license.json", "key.json"):
            (ours / name).write_bytes((other / name).read_bytes())
        capsys.readouterr()
        assert app.main([*FREE, "-o", str(picture_file)], license=license, ask=nobody) == 1
        assert not picture_file.exists()
        assert "not" in capsys.readouterr().err
    finally:
        false.close()


def test_the_package_pins_its_product(keyturn_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The product is that of the file in the package; without one the program says so instead of running unlicensed."""
    shipped = tmp_path / "paintbox.ktproduct"
    monkeypatch.setattr(app, "PRODUCT_FILE", shipped)
    monkeypatch.setenv("KEYTURN_HOME", str(tmp_path / "home"))
    assert app.main(["status"], ask=nobody) == 4
    shipped.write_bytes(keyturn_world.publisher.product("paintbox"))
    assert app.main(["status"], ask=nobody) == 0
    with pytest.raises(KeyturnError):
        Client.from_file(tmp_path / "nothing.ktproduct")
