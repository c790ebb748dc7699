"""The situations in which the contract's commands are tried: made once by the real programs, copied for each row."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from programs import Home, Publisher, Result, computer, run

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
SNAKE = re.compile(r"[a-z][a-z0-9_]*")
_FREE = {"pairs", "tags", "editions", "value", "values"}  # Maps whose names are data: hardware pairs, editions …


class Maybe(NamedTuple):
    """A value that may be null, and must be there all the same."""

    of: Any


class Word(NamedTuple):
    """A text of this form."""

    pattern: str


TIME = Word(RFC3339.pattern)


def check(value: Any, shape: Any, where: str = "$") -> None:
    """Hold ``value`` to ``shape``.

    A type, a constant, ``Maybe``, ``Word``; names with shapes; a list: its one shape is that of every item; a tuple: as many
    items with these shapes.
    """
    if isinstance(shape, Maybe):
        if value is not None:
            check(value, shape.of, where)
    elif isinstance(shape, Word):
        assert isinstance(value, str), f"{where}: {value!r} is no text"
        assert re.fullmatch(shape.pattern, value), f"{where}: {value!r} is not {shape.pattern}"
    elif isinstance(shape, list):
        assert isinstance(value, list), f"{where}: {value!r} is no list"
        for number, item in enumerate(value):
            check(item, shape[0], f"{where}[{number}]")
    elif isinstance(shape, tuple):
        assert isinstance(value, list), f"{where}: {value!r} is no list"
        assert len(value) == len(shape), f"{where}: {len(value)} items instead of {len(shape)}"
        for number, (item, inner) in enumerate(zip(value, shape, strict=True)):
            check(item, inner, f"{where}[{number}]")
    elif isinstance(shape, dict):
        assert isinstance(value, dict), f"{where}: {value!r} is no object"
        assert shape.keys() <= value.keys(), f"{where}: {sorted(shape.keys() - value.keys())} missing"
        for name, inner in shape.items():
            check(value[name], inner, f"{where}.{name}")
    elif isinstance(shape, type):
        assert type(value) is shape, f"{where}: {value!r} is no {shape.__name__}"
    else:
        assert value == shape, f"{where}: {value!r} is not {shape!r}"


def check_names(value: Any, where: str = "$") -> None:
    """Every name is snake_case; every ``…_at`` and ``…_until`` is null or RFC 3339."""
    if isinstance(value, dict):
        for name, item in value.items():
            assert SNAKE.fullmatch(name), f"{where}: {name!r} is not snake_case"
            if name.endswith(("_at", "_until")):
                check(item, Maybe(TIME), f"{where}.{name}")
            if name not in _FREE:
                check_names(item, f"{where}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            check_names(item, f"{where}[{number}]")


class Situation(NamedTuple):
    """A folder of its own for one row: its home, and what the row's environment holds."""

    folder: Path
    env: dict[str, str]

    @property
    def home(self) -> Path:
        return self.folder / "home"


class ContractWorld:
    """One service that runs, one that does not, and the situations made from them when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computers = {name: computer(folder / name, name) for name in ("office-pc-a", "office-pc-b")}
        self.running, self.idle = Publisher(folder / "acme"), Publisher(folder / "false", "False Ink")
        service = self.running.service
        service("org", "create", "globex").ok()
        self.test = self.running.product("paintest", "--test", "--edition", "pro", "--feature", "layers")
        self.real = self.running.product("paintbox")
        self.dead = self.idle.product("paintest", "--test")
        thumbprint = service("status").ok().json["thumbprint"]
        keys = self.running.mint("paintest", "--count", "16")
        self.keys = iter(keys[1:])
        self.words: dict[str, str] = {
            "acme": str(self.running.home), "idle": str(self.idle.home), "test": str(self.test), "real": str(self.real),
            "dead": str(self.dead), "key": keys[0]["key"], "serial": str(keys[0]["serial"]), "url": self.running.url,
            "ca_false": str(self.idle.home / "tls" / "ca.pem"), "pc_a": str(self.computers["office-pc-a"]),
            "test_name": f"{thumbprint}/paintest+test", "real_key": self.running.mint("paintbox")[0]["key"],
        }  # fmt: skip
        (mak,) = self.running.mint("paintest", "--channel", "mak", "--org", "globex", "--limit", "2")
        self.words |= {"mak": mak["key"], "mak_serial": str(mak["serial"])}
        self.running.start()
        self.made: dict[str, Path] = {}

    def close(self) -> None:
        status = self.running.stop()
        assert status == 0, f"SIGTERM ended the service with {status}"

    def situation(self, name: str, target: Path) -> Situation:
        """A copy of the situation ``name`` in ``target``."""
        source = self._made(name)
        shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
        real = name.startswith("real") or name in ("fresh", "service", "service-no-pepper")
        return Situation(target, {} if real else {"KEYTURN_SYSROOT": str(self.computers["office-pc-a"])})

    def _made(self, name: str) -> Path:
        if name not in self.made:
            folder = self.folder / "situations" / name
            folder.mkdir(parents=True)
            getattr(self, "_make_" + name.partition(":")[0].replace("-", "_"))(folder)
            self.made[name] = folder
        return self.made[name]

    def _home(self, folder: Path, pc: str = "office-pc-a") -> Home:
        return Home(folder / "home", sysroot=self.computers[pc])

    def _make_fresh(self, folder: Path) -> None:
        """No home at all."""

    def _make_added(self, folder: Path) -> None:
        self._home(folder)("product", "add", str(self.test)).ok()

    def _make_keyed(self, folder: Path, key: str | None = None) -> None:
        self._make_added(folder)
        self._home(folder)("install-key", "-", input=key or self.words["key"]).ok()

    def _make_asked(self, folder: Path) -> None:
        self._make_keyed(folder, next(self.keys)["key"])
        self._home(folder)("export", "request", "-o", str(folder / "r.ktx")).ok()

    def _make_answered(self, folder: Path) -> None:
        self._make_asked(folder)
        self._home(folder)("relay", str(folder / "r.ktx")).ok()

    def _make_licensed(self, folder: Path) -> None:
        home = self._home(folder)
        key = next(self.keys)
        home.activate(self.test, key["key"]).ok()
        home("export", "certificate", "-o", str(folder / "c.ktcert")).ok()
        home("export", "trust", "-o", str(folder / "t.kttrust")).ok()

    def _make_returned(self, folder: Path) -> None:
        self._make_licensed(folder)
        self._home(folder)("deactivate", "--yes").ok()

    def _make_two(self, folder: Path) -> None:
        self._make_added(folder)
        self._home(folder)("product", "add", str(self.dead)).ok()

    def _make_taken(self, folder: Path) -> None:
        """The key's one seat is taken by a computer of the same model."""
        key = next(self.keys)["key"]
        self._home(folder / "other", "office-pc-b").activate(self.test, key).ok()
        self._make_keyed(folder, key)

    def _make_blocked(self, folder: Path) -> None:
        key = next(self.keys)
        self._make_keyed(folder, key["key"])
        self.running.service("key", "block", str(key["serial"])).ok()

    def _make_foreign_key(self, folder: Path) -> None:
        """A key of another publisher, well formed."""
        self._make_keyed(folder, self.idle.mint("paintest")[0]["key"])

    def _make_dead(self, folder: Path) -> None:
        """A product whose service does not run."""
        home = self._home(folder)
        home("product", "add", str(self.dead)).ok()
        home("install-key", "-", input=self.idle.mint("paintest")[0]["key"]).ok()

    def _make_real(self, folder: Path) -> None:
        home = Home(folder / "home")
        home("product", "add", str(self.real)).ok()
        home("install-key", "-", input=self.words["real_key"]).ok()

    def _make_service(self, folder: Path) -> None:
        """A service that does not run, with an organization, a product and a key; and a request for the false one."""
        shutil.copytree(self.idle.home, folder / "home")

    def _make_service_no_pepper(self, folder: Path) -> None:
        self._make_service(folder)
        shutil.rmtree(folder / "home" / "pepper")


def call(arguments: list[str], situation: Situation, env: Mapping[str, str], text: str | None, *, json: bool) -> Result:
    """Run the command line, with ``--json`` and the situation's home before the verb if it names none itself."""
    line = [*(["--json"] if json else []), *arguments]
    if "--home" not in line and "KEYTURN_HOME" not in env and not {"--version", "--help"} & set(line):
        line = ["--home", str(situation.home), *line]
    return run(line, cwd=situation.folder, env={**situation.env, **env}, input=text)
