"""The import rule, checking itself: which module may know which.

Everything here reads source text with ``ast``; nothing is imported. It cannot see dynamic imports by a computed name
or an impure callable handed in as an argument, and it does not order the modules of one edge.

The second half plants one breach after another in a small tree and looks whether each is found.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[1] / "src"

# The written order: a module of core may import those before it, and no other part of Keyturn.
CORE = (
    "errors", "events", "ids", "model", "productkey", "hardware_values", "hardware", "jws", "merkle", "trust",
    "documents", "revocations", "terms", "phone", "hosting", "rebinding", "inquiry", "fleet", "containers", "policy",
    "schedule", "srv", "integrity", "license", "capability", "reminders", "issuance", "leasing",
)  # fmt: skip
PURE = frozenset(
    {
        "__future__", "base64", "binascii", "bisect", "collections", "cryptography", "datetime", "difflib", "enum", "functools",
        "hashlib", "hmac", "itertools", "json", "math", "operator", "re", "string", "struct", "tomllib", "types", "typing",
        "unicodedata",
    }
)  # fmt: skip
# datetime is pure where it formats; these are not, called or handed on (``default_factory=datetime.now``).
IMPURE_NAMES = frozenset({"open", "print", "input", "exec", "eval", "compile", "breakpoint", "__import__"})
IMPURE_ATTRIBUTES = frozenset({"now", "utcnow", "today", "generate", "generate_key", "generate_private_key"})
# hash() of a text differs from run to run, id() from object to object; as names of variables they are harmless.
IMPURE_CALLS = frozenset({"hash", "id"})

PROGRAMS = ("client", "service", "host", "fleet")
# Doors may import everything; what the client's door loads is rule 5.
DOORS = ("cli", "verbs", "extras", "demo", "testing", "__main__")
LAYERS = ("core", "edge", "flows", *PROGRAMS, *DOORS)
BELOW = {"core": {"core"}, "edge": {"core", "edge"}, "flows": {"core", "edge", "flows"}}
BELOW |= {program: {"core", "edge", "flows", program} for program in PROGRAMS}
# The package itself: `from keyturn import Client`, without importing anything before it is asked for.
BELOW |= {"": {"core", "edge", "flows", "client"}} | {door: {*LAYERS, ""} for door in DOORS}

VERSION = "keyturn.__version__"

# The client ships alone: these parts of Keyturn, and these foreign packages.
CLIENT_ROOTS = ("keyturn", "keyturn.__main__", "keyturn.cli", "keyturn.verbs", "keyturn.extras")
CLIENT_NEVER = ("keyturn.edge.database", "keyturn.edge.web")
CLIENT_FLOWS = ("keyturn.flows", "keyturn.flows.exchange", "keyturn.flows.fleet", "keyturn.flows.hosting")
CLIENT_FOREIGN = frozenset({"click", "cryptography", "dns"})
# What a client may have besides, by its extra `phone`: imported in a function of the module that names the extra.
CLIENT_PHONE = {"keyturn.edge.bls": "py_ecc", "keyturn.edge.words": "mnemonic", "keyturn.edge.qr": "segno"}


class Import(NamedTuple):
    """One import: the dotted module it reaches, the line, whether at the top of its module, and the dots before it."""

    target: str
    line: int
    eager: bool
    dots: int = 0


class Module(NamedTuple):
    """One source file as this test sees it."""

    name: str
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def layer(self) -> str:
        return layer(self.name)


def layer(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def read(source: Path) -> dict[str, Module]:
    """Every module below ``source``/keyturn by its dotted name."""
    paths = {}
    for path in sorted((source / "keyturn").rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    modules = {}
    for name, path in paths.items():
        tree = ast.parse(path.read_text("utf-8"), str(path))
        modules[name] = Module(name, tree, tuple(imports(tree, set(paths))))
    return modules


def imports(tree: ast.Module, known: set[str]) -> Iterator[Import]:
    """What a module imports, in functions and under TYPE_CHECKING too; ``from a import b`` is a.b if that is a module."""
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        eager = id(node) not in lazy
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, eager)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(inner if inner in {*known, VERSION} else base, node.lineno, eager, node.level)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "import_module"}:
            argument = node.args[0] if node.args else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield Import(argument.value, node.lineno, eager)


def breaches(source: Path) -> list[str]:
    """Everything below ``source`` that breaks the rule, one line each."""
    modules = read(source)
    found: list[str] = []
    for module in modules.values():
        found += layer_breaches(module)
        if module.layer == "core":
            found += core_breaches(module)
    return [*found, *client_breaches(modules)]


def layer_breaches(module: Module) -> Iterator[str]:
    """Rules 1 and 4: every module has a layer and imports only what is below it; programs know not each other."""
    if module.name != "keyturn" and module.layer not in LAYERS:
        yield f"{module.name}: has no layer; name one in {__name__} and in docs/architecture.md"
        return
    for item in module.imports:
        where = f"{module.name}:{item.line}"
        if item.dots:
            yield f"{where}: relative import"
            continue
        # Which version this is may be known everywhere but in core, which has no use for it.
        if item.target.split(".")[0] != "keyturn" or (item.target == VERSION and module.layer != "core"):
            continue
        target = layer(item.target)
        if target not in BELOW[module.layer]:
            yield f"{where}: {module.layer or 'keyturn'} imports {item.target}"


def core_breaches(module: Module) -> Iterator[str]:
    """Rules 2 and 3: core imports what stands before it and pure libraries; it reads no clock, chance or file."""
    parts = module.name.split(".")
    own = parts[2] if len(parts) > 2 else None
    if own is not None and own not in CORE:
        yield f"{module.name}: is not in the written order of core"
        return
    before = CORE[: CORE.index(own)] if own else ()
    for item in module.imports:
        where, target = f"{module.name}:{item.line}", item.target.split(".")
        if target[0] != "keyturn":
            if target[0] not in PURE and not item.dots:
                yield f"{where}: core imports {item.target}, which is not in the list of pure libraries"
        elif target[1:2] == ["core"] and (len(target) < 3 or (target[2] not in before and target[2] != own)):
            yield f"{where}: {item.target} does not stand before {own} in the written order"
    for node in ast.walk(module.tree):
        reason = impure(node)
        if reason:
            yield f"{module.name}:{getattr(node, 'lineno', 0)}: {reason} in core"


def impure(node: ast.AST) -> str | None:
    """Why this piece of core would depend on more than its arguments, if so."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in IMPURE_NAMES:
        return node.id
    if isinstance(node, ast.Attribute) and node.attr in IMPURE_ATTRIBUTES:
        return f".{node.attr}"
    if isinstance(node, ast.Call):
        called = node.func
        if isinstance(called, ast.Name) and called.id in IMPURE_CALLS:
            return f"{called.id}()"
        arguments = len(node.args) + len(node.keywords)
        # Without a zone these read the computer's.
        if isinstance(called, ast.Attribute) and (called.attr, arguments) in {("fromtimestamp", 1), ("astimezone", 0)}:
            return f".{called.attr}() without a zone"
    if isinstance(node, ast.Global):
        return "global state"
    return None


def client_breaches(modules: Mapping[str, Module]) -> Iterator[str]:
    """Rule 5: what the client reaches, followed through every import, is what it ships with."""
    reached = client_reach(modules)
    for name, path in reached.items():
        kind = layer(name)
        allowed = (
            kind in {"", "core", "client", "cli", "verbs", "extras", "__main__"}
            or (kind == "edge" and not name.startswith(CLIENT_NEVER))
            or name in CLIENT_FLOWS
        )
        if not allowed:
            yield f"{name}: the client reaches it: {' -> '.join(path)}"
            continue
        for item in followed(modules[name]):
            foreign = item.target.split(".")[0]
            if not item.eager and CLIENT_PHONE.get(name) == foreign:
                continue
            if foreign not in {*CLIENT_FOREIGN, *sys.stdlib_module_names, "keyturn"} and not item.dots:
                yield f"{name}:{item.line}: the client imports {foreign}, which it does not ship with"


def followed(module: Module) -> list[Import]:
    """Every import; but a door's lazy ones lead to the other programs, which is what doors are for."""
    return [item for item in module.imports if item.eager or module.layer not in DOORS]


def client_reach(modules: Mapping[str, Module]) -> dict[str, tuple[str, ...]]:
    """Every module that the client can come to, with the way there."""
    roots = [name for name in modules if name in CLIENT_ROOTS or layer(name) == "client"]
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, (name,)) for name in roots]
    reached: dict[str, tuple[str, ...]] = {}
    while waiting:
        name, path = waiting.pop()
        if name in reached:
            continue
        reached[name] = path
        for item in followed(modules[name]):
            parts = item.target.split(".")
            # Importing a.b.c runs a and a.b first.
            for end in range(1, len(parts) + 1):
                step = ".".join(parts[:end])
                if step in modules:
                    waiting.append((step, (*path, step)))
    return reached


# --- this tree --------------------------------------------------------------------------------------------------------


def test_the_layers_hold() -> None:
    """No module of Keyturn breaks the rule."""
    assert breaches(SOURCE) == []


def test_something_was_looked_at() -> None:
    """The rule is not kept by looking at nothing: the core is there, and the client reaches it."""
    modules = read(SOURCE)
    assert {"keyturn.core.errors", "keyturn.core.model", "keyturn.core.productkey"} <= set(modules)
    assert "keyturn" in client_reach(modules)


# --- planted breaches -------------------------------------------------------------------------------------------------

CLEAN = {
    "__init__": "def __getattr__(name):\n    from keyturn.client.sdk import Client\n    return Client",
    "core/__init__": "",
    "core/errors": "from typing import NamedTuple",
    "core/model": "import datetime\nfrom keyturn.core.errors import KeyturnError\n"
    "def show(t, zone): return datetime.datetime.fromtimestamp(t, zone)",
    "core/jws": "from cryptography.hazmat.primitives.asymmetric import ed25519\nfrom keyturn.core import errors, model",
    "core/trust": "from keyturn.core import jws",
    "edge/__init__": "",
    "edge/clock": "import time",
    "edge/transport": "import ssl\nfrom keyturn.core import errors\nfrom keyturn.edge import clock",
    "edge/database": "import sqlite3",
    "edge/web": "import starlette",
    "flows/__init__": "",
    "flows/exchange": "from keyturn.edge import transport",
    "flows/signing": "from keyturn.edge import database",
    "client/__init__": "",
    "edge/bls": "def f():\n    import py_ecc",
    "client/sdk": "from keyturn.flows.exchange import send\nfrom keyturn.edge import bls\nclass Client: pass",
    "service/__init__": "",
    "service/app": "from keyturn import __version__\nfrom keyturn.edge import web, database\nfrom keyturn.flows import signing",
    "host/__init__": "from keyturn.flows import signing, exchange",
    "cli": "import click\ndef main():\n    from keyturn.service import app\n    from keyturn.client import sdk",
    "demo": "def demo():\n    from keyturn.service import app\n    import joserfc",
    "testing": "from keyturn import Client\ndef service():\n    from keyturn.service import app",
    "__main__": "from keyturn.cli import main",
}

PLANTED = {
    "a module without a layer": ("util", "", "keyturn.util: has no layer"),
    "a package without a layer": ("helpers/text", "", "keyturn.helpers.text: has no layer"),
    "a core module out of the written order": ("core/extra", "", "is not in the written order"),
    "a later core module": ("core/model", "from keyturn.core import jws", "does not stand before model"),
    "a later core module, in a function": ("core/errors", "def f():\n    import keyturn.core.trust", "before errors"),
    "a later core module, for types only": (
        "core/model",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from keyturn.core.trust import Chain",
        "does not stand before model",
    ),
    "all of core": ("core/jws", "import keyturn.core", "does not stand before jws"),
    "a database in core": ("core/trust", "import sqlite3", "core imports sqlite3"),
    "chance in core": ("core/jws", "from secrets import token_bytes", "core imports secrets"),
    "the system in core": ("core/jws", "def f():\n    import os\n    return os.urandom(8)", "core imports os"),
    "a slow library in core": ("core/model", "import dataclasses", "core imports dataclasses"),
    "the edge in core": ("core/trust", "from keyturn.edge import clock", "core imports keyturn.edge.clock"),
    "the package itself in core": ("core/trust", "from keyturn import Client", "core imports keyturn"),
    "the version in core": ("core/trust", "from keyturn import __version__", "core imports keyturn"),
    "the SDK in a server": ("service/app", "from keyturn import Client", "service imports keyturn"),
    "a clock in core": ("core/model", "import datetime\nx = datetime.datetime.now()", ".now in core"),
    "a clock handed on in core": ("core/model", "import datetime\nf = dict(default=datetime.datetime.now)", ".now in core"),
    "the date in core": ("core/model", "from datetime import date\nx = date.today()", ".today in core"),
    "the computer's zone in core": (
        "core/model", "import datetime\ndef f(t): return datetime.datetime.fromtimestamp(t)", "without a zone",
    ),
    "key generation in core": (
        "core/jws",
        "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as K\nk = K.generate()",
        ".generate in core",
    ),
    "a file in core": ("core/trust", "def f(p): return open(p).read()", "open in core"),
    "printing in core": ("core/trust", "def f(x, show=print): show(x)", "print in core"),
    "a hash that changes with each run": ("core/model", "def f(x): return hash(x)", "hash() in core"),
    "state in core": ("core/model", "n = 0\ndef f():\n    global n\n    n += 1", "global state in core"),
    "a flow in the edge": ("edge/clock", "from keyturn.flows import exchange", "edge imports keyturn.flows.exchange"),
    "a program in the edge": ("edge/transport", "def f():\n    from keyturn.client import sdk", "edge imports keyturn.client"),
    "a program in a flow": ("flows/exchange", "import keyturn.client.sdk", "flows imports keyturn.client.sdk"),
    "program to program": ("service/app", "from keyturn.host import run", "service imports keyturn.host"),
    "program to program, in a function": ("host/run", "def f():\n    import keyturn.service.app", "host imports keyturn.service"),
    "a program that imports the door": ("service/app", "from keyturn.cli import main", "service imports keyturn.cli"),
    "a relative import": ("client/sdk", "from . import other", "relative import"),
    "a relative import from above": ("edge/transport", "from ..core import errors", "relative import"),
    "the service at the top of the door": ("cli", "from keyturn.service import app", "the client reaches it"),
    "the demonstration at the top of the door": ("cli", "import keyturn.demo", "the client reaches it"),
    "the client reaching the database": ("client/sdk", "from keyturn.edge import database", "the client reaches it"),
    "the client reaching it through a flow": (
        "flows/exchange", "def f():\n    from keyturn.edge import database", "keyturn.edge.database: the client reaches it",
    ),
    "the client reaching it through the edge": (
        "edge/transport", "import keyturn.edge.web", "keyturn.edge.web: the client reaches it",
    ),
    "the client reaching the server's flow": ("client/sdk", "from keyturn.flows import signing", "the client reaches it"),
    "the client reaching it by name": (
        "client/sdk",
        "import importlib\ndef f(): return importlib.import_module('keyturn.edge.database')",
        "keyturn.edge.database: the client reaches it",
    ),
    "a foreign package in the client": ("edge/clock", "import requests", "imports requests, which it does not ship"),
    "the telephone's library before it is needed": ("edge/bls", "import py_ecc", "imports py_ecc, which it does not ship"),
    "the telephone's library elsewhere": ("edge/clock", "def f():\n    import py_ecc", "imports py_ecc, which it does not ship"),
    "a server's package in the door": ("cli", "import starlette", "imports starlette, which it does not ship"),
}  # fmt: skip


def plant(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "keyturn" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", "utf-8")
    return folder


def test_a_clean_tree_passes(tmp_path: Path) -> None:
    """What the rule allows is allowed."""
    assert breaches(plant(tmp_path, CLEAN)) == []


@pytest.mark.parametrize("breach", PLANTED)
def test_a_planted_breach_is_found(breach: str, tmp_path: Path) -> None:
    """One file of the clean tree is changed, and the breach is named."""
    name, text, said = PLANTED[breach]
    found = breaches(plant(tmp_path, {**CLEAN, name: text}))
    assert any(said in line for line in found), found
