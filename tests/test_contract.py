"""Commands, JSON and exit codes of the contract (design section 8), one row each, tried on the real programs.

A row: its story, the situation it starts from (``contract_world``), the command line, what else is given, and what must
come of it. Every row is run with ``--json``; one that fails, or only reads, is run as a person would run it too.
"""

# ruff: noqa: E501 (the contract is a table: a row may be as long as its line)
from __future__ import annotations

import json as jsons
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract_world import RFC3339, TIME, ContractWorld, Maybe, Situation, Word, call, check, check_names
from keyturn.core.errors import CATALOGUE
from programs import Home, files_below

pytestmark = pytest.mark.system

GUID = Word(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DIGEST = Word(r"[A-Za-z0-9_-]{43}")
PRODUCT_NAME = Word(r"[A-Za-z0-9_-]{43}/[a-z][a-z0-9-]*(\+test)?")
KEY = Word(r"[0-9A-Z]{5}(-[0-9A-Z]{5}){4}")
ENTRY = {
    "product": PRODUCT_NAME, "name": str, "edition": Maybe(str), "product_id": Maybe(str), "partial_key": Maybe(Word(r"[0-9A-Z]{5}")),
    "installation_guid": Maybe(GUID), "activation_id": Maybe(GUID), "channel": Maybe(str), "via": Maybe(str),
    "scope": Word("system|user"), "state": Word("[a-z_]+"), "state_code": int, "usable": bool, "evidence": Maybe(Word("strong|weak")),
    "activated_at": Maybe(TIME), "valid_until": Maybe(TIME), "grace_until": Maybe(TIME), "renew_at": Maybe(TIME),
    "days_left": Maybe(int), "issuer": Maybe(str), "reason": Maybe(str), "remedy": Maybe(str), "next_command": Maybe(str),
}  # fmt: skip
GRACE = {**ENTRY, "state": "initial_grace", "state_code": 2, "usable": True, "activation_id": None, "grace_until": TIME,
         "days_left": 30, "valid_until": None, "reason": "not_activated", "via": None}  # fmt: skip
LICENSED = {**ENTRY, "state": "licensed", "state_code": 1, "usable": True, "activation_id": GUID, "activated_at": TIME,
            "evidence": "strong", "grace_until": None, "valid_until": None, "days_left": None, "reason": None,
            "channel": "retail", "edition": "pro", "via": "online"}  # fmt: skip
ERROR = {"code": str, "title": str, "detail": str, "remedy": str, "reference": Word("KT-[0-9A-Z]{4}-[0-9A-Z]{4}"), "retry_after": Maybe(int)}
SERVICE_PRODUCT = {"slug": str, "product": PRODUCT_NAME, "name": str, "test": bool, "mode": Word("enforce|warn|advise"),
                   "version": int, "terms": dict, "terms_url": Maybe(str), "editions": dict, "keys": int, "seats_used": int,
                   "created_at": TIME}  # fmt: skip
SERVICE_KEY = {"serial": int, "product_id": str, "product": str, "channel": str, "organization": Maybe(str), "edition": str,
               "features": [str], "partial_key": Word("[0-9A-Z]{5}"), "limit": int, "used": int, "blocked": bool,
               "term_days": Maybe(int), "until": Maybe(TIME), "note": str, "created_at": TIME}  # fmt: skip
SERVICE_ACTIVATION = {"activation_id": GUID, "serial": int, "seat": int, "product_id": str, "evidence": str, "installations": int,
                      "activated_at": TIME, "ended_at": Maybe(TIME), "ended_by": Maybe(str)}  # fmt: skip
MINTED = {"key": KEY, "product_id": str, "serial": int, "channel": str, "limit": int}
ORG = {"name": str, "title": str, "created_at": TIME, "keys": int, "seats_used": int, "seats_limit": int}


class Row(NamedTuple):
    """One line of the contract. ``shape`` is of the JSON; ``code`` of an error; ``says`` must be in what a person reads."""

    story: str
    situation: str
    command: str
    exit: int = 0
    shape: Any = None
    code: str | None = None
    env: dict[str, str] = {}  # noqa: RUF012 (never changed)
    input: str | None = None
    says: str | None = None
    text: bool = False  # Run it without --json as well (failures always are).
    plain: bool = False  # Has no JSON form: its data is itself.
    untouched: bool = False  # The home is byte for byte as before.


def no(story: str, situation: str, command: str, exit: int, code: str, **more: Any) -> Row:  # noqa: A002
    """A row that fails."""
    return Row(story, situation, command, exit, {"error": {**ERROR, "code": code}}, code, **more)


def products(*entries: Any) -> dict[str, Any]:
    return {"products": entries}


CLIENT = [
    Row("a version", "fresh", "--version", plain=True, says="keyturn "),
    Row("help", "fresh", "--help", plain=True, says="install-key"),
    Row("without a verb: the status", "licensed", "", 0, products(LICENSED), text=True, says="licensed"),
    Row("status of nothing", "fresh", "status", 0, products(), text=True, says="No product"),
    Row("status in grace", "added", "status", 0, products({**GRACE, "product_id": None, "next_command": "keyturn activate"}), text=True),
    Row("status with a key", "keyed", "status", 0, products({**GRACE, "product_id": str, "channel": "retail"}), text=True),
    Row("status licensed", "licensed", "status", 0, products(LICENSED), text=True, says="for ever"),
    Row("status after a return", "returned", "status", 0, products({**ENTRY, "state": "initial_grace", "reason": "released"}), text=True),
    Row("status at the end of grace", "added", "status", 0,
        products({**ENTRY, "state": "notification", "state_code": 5, "usable": True, "days_left": 0}),
        env={"KEYTURN_NOW": "+2600000"}, text=True),
    Row("options after the verb", "licensed", "status --home {home} --json", 0, products(LICENSED)),
    Row("options before the verb", "licensed", "--home {home} --json status", 0, products(LICENSED)),
    Row("a home by the environment", "licensed", "status", 0, products(LICENSED), env={"KEYTURN_HOME": "{home}"}),
    Row("an option wins over the environment", "licensed", "status --home {home}", 0, products(LICENSED), env={"KEYTURN_HOME": "/nowhere"}),
    Row("--product by slug", "two", "status --product {test_name}", 0, products(GRACE)),
    Row("--check licensed, and it is", "licensed", "status --check licensed", 0, products(LICENSED)),
    Row("--check without a word", "licensed", "status --check", 0, products(LICENSED)),
    Row("--check licensed in grace", "added", "status --check licensed", 1, products(GRACE)),
    Row("--check usable in grace", "added", "status --check usable", 0, products(GRACE)),
    Row("--check with nothing added", "fresh", "status --check usable", 1, products()),
    Row("--within more days than are left", "added", "status --check usable --within 30", 1, products(GRACE)),
    Row("--within fewer days than are left", "added", "status --check usable --within 29", 0, products(GRACE)),
    Row("--within of a permanent license", "licensed", "status --within 3650", 0, products(LICENSED)),
    no("--check of a word that is none", "licensed", "status --check perfect", 2, "usage"),
    no("a verb that does not exist", "fresh", "actuvate", 2, "usage"),
    no("an option that does not exist", "fresh", "status --colour", 2, "usage"),
    no("no argument where one is needed", "added", "product add", 2, "usage"),
    Row("product add", "fresh", "product add {test}", 0, products(GRACE), env={"KEYTURN_SYSROOT": "{pc_a}"}, text=True),
    Row("product add of two", "fresh", "product add {test} {dead}", 0, products(GRACE, GRACE), env={"KEYTURN_SYSROOT": "{pc_a}"}),
    Row("product add again", "added", "product add {test}", 0, products(GRACE)),
    no("product add of no file", "fresh", "product add nothing.ktproduct", 4, "file_malformed"),
    no("product add of another thing", "fresh", "product add {ca_false}", 4, "file_malformed"),
    no("product add of a certificate", "licensed", "product add c.ktcert", 4, "file_malformed", untouched=True),
    no("a false publisher's product of the same slug", "fresh", "product add {dead} --product {test_name}", 4, "publisher_mismatch"),
    Row("product list", "two", "product list", 0, products(ENTRY, ENTRY), text=True),
    Row("product remove", "added", "product remove paintest --yes", 0, {"removed": PRODUCT_NAME}),
    no("product remove off a terminal", "added", "product remove paintest", 2, "confirmation_required", untouched=True),
    no("product remove of a seat", "licensed", "product remove paintest --yes", 2, "usage", untouched=True),
    no("product remove of nothing", "added", "product remove other --yes", 2, "product_missing", untouched=True),
    no("which of two products", "two", "install-key -", 2, "product_ambiguous", input="{key}"),
    Row("install-key from stdin", "added", "install-key -", 0,
        {"product_id": str, "serial": int, "channel": "retail", "partial_key": Word("[0-9A-Z]{5}")}, input="{key}\n", text=True),
    Row("install-key from a file", "added", "install-key --key-file key.txt", 0, {"channel": "retail"}),
    Row("install-key from the environment's file", "added", "install-key", 0, {"channel": "retail"}, env={"KEYTURN_KEY_FILE": "key.txt"}),
    Row("a key in argv warns", "added", "install-key {key}", 0, {"channel": "retail"}, text=True, says="Warning"),
    no("install-key without a key", "added", "install-key", 2, "key_missing", untouched=True),
    no("install-key without a product", "fresh", "install-key -", 2, "product_missing", input="{key}"),
    no("a mistyped key", "keyed", "install-key -", 4, "key_mistyped", input="{key_mistyped}", untouched=True),
    no("a mistyped key beside a license", "licensed", "install-key -", 4, "key_mistyped", input="{key_mistyped}", untouched=True),
    no("half a key", "keyed", "install-key -", 4, "key_malformed", input="7XK2M-Q9RTA", untouched=True),
    Row("remove-key without a seat", "keyed", "remove-key --yes", 0, {"removed": str}),
    Row("remove-key returns the seat first", "licensed:remove", "remove-key --yes", 0, {"removed": str}),
    no("remove-key off a terminal", "licensed", "remove-key", 2, "confirmation_required", untouched=True),
    no("remove-key of none", "added", "remove-key --yes", 2, "key_missing", untouched=True),
    Row("activate does it all", "fresh", "activate - --product-file {test} --yes", 0, products(LICENSED), env={"KEYTURN_SYSROOT": "{pc_a}"},
        input="{key}", text=True, says="licensed"),
    Row("activate a MAK", "added", "activate - --yes", 0, products({**LICENSED, "channel": "mak"}), input="{mak}"),
    Row("activate again: nothing to do", "licensed", "activate --yes", 0, products(LICENSED), text=True, says="Nothing to do"),
    Row("activate after a return", "returned:again", "activate --yes", 0, products(LICENSED)),
    no("activate off a terminal, unasked", "keyed", "activate", 5, "consent_required"),
    no("activate without a key", "added", "activate --yes", 2, "key_missing", untouched=True),
    no("activate without a product", "fresh", "activate - --yes", 2, "product_missing", input="{key}"),
    no("activate a mistyped key", "added", "activate - --yes", 4, "key_mistyped", input="{key_mistyped}", untouched=True),
    no("activate via file says how", "keyed", "activate --via file --yes", 2, "usage", says="export request"),
    no("a key another publisher minted", "foreign-key", "activate --yes", 1, "key_unknown"),
    no("a blocked key", "blocked", "activate --yes", 1, "key_blocked"),
    no("a same-model computer has the seat", "taken", "activate --yes", 1, "limit_reached"),
    no("nobody there", "dead", "activate --yes", 3, "service_unreachable"),
    no("an authority that is not trusted", "keyed", "activate --yes --ca-bundle {ca_false}", 3, "tls_untrusted"),
    no("a CA bundle that is none", "keyed", "activate --yes --ca-bundle {test}", 4, "file_malformed"),
    Row("--dry-run sends nothing", "dead", "activate --dry-run", 0,
        {"product": PRODUCT_NAME, "product_id": str, "state": str, "known_slots": [str], "unknown_slots": dict, "pairs": int,
         "evidence": "strong", "vm": None, "container": None, "sent": False, "answer": None}, text=True, says="Nothing was sent"),
    Row("--dry-run --ask takes no seat", "keyed", "activate --dry-run --ask --yes", 0,
        {"sent": True, "answer": {"how": Word("new|same|moved"), "seats_used": int, "seats_limit": 1, "evidence": "strong"}}, text=True),
    no("--dry-run --ask of a taken key", "taken", "activate --dry-run --ask --yes", 1, "limit_reached"),
    no("--dry-run --ask, unasked", "keyed", "activate --dry-run --ask", 5, "consent_required"),
    Row("deactivate", "licensed:return", "deactivate --yes", 0, products({**ENTRY, "state": "initial_grace", "reason": "released"})),
    no("deactivate off a terminal", "licensed", "deactivate", 2, "confirmation_required", untouched=True),
    no("deactivate without a seat", "added", "deactivate --yes", 1, "release_unknown", untouched=True),
    no("deactivate with an untrusted service", "licensed", "deactivate --yes --ca-bundle {ca_false}", 3, "tls_untrusted"),
    Row("disclose", "keyed", "disclose", 0, {"product": PRODUCT_NAME, "to": str, "probe": str, "request": str,
        "fields": [{"field": str, "title": str, "purpose": str, "unavailable": Maybe(str)}]}, text=True, says="Never sent"),
    Row("disclose --raw", "keyed", "disclose --raw", plain=True, says="eyJ"),
    Row("disclose --sent of nothing", "keyed", "disclose --sent", 0, {"exchanges": ()}, text=True),
    Row("disclose --sent", "licensed", "disclose --sent", 0, {"exchanges": [{"what": str, "sent": str, "received": str}]}, text=True, says=">>> sent"),
    no("disclose without a key", "added", "disclose", 2, "key_missing"),
    Row("export certificate", "licensed", "export certificate -o out", 0, {"file": "out", "activation_id": GUID}, text=True),
    no("export certificate of none", "keyed", "export certificate -o out", 1, "not_licensed"),
    Row("export trust", "added", "export trust -o out", 0, {"file": "out", "bundle": 1}, text=True),
    Row("export request", "keyed", "export request -o out.ktx", 0, {"file": "out.ktx", "requests": 1}, text=True),
    no("export without a name", "keyed", "export request", 2, "usage"),
    Row("relay needs no home", "asked", "relay r.ktx", 0, {"file": "r.ktx", "answered": 1, "refused": 0}, env={"KEYTURN_HOME": "none"}),
    Row("relay of an answered file", "answered", "relay r.ktx", 0, {"file": "r.ktx", "answered": 1, "refused": 0}),
    no("relay of a product file", "fresh", "relay {test}", 4, "file_malformed"),
    Row("import", "answered", "import r.ktx", 0, products({**LICENSED, "via": "file"}), text=True),
    no("import of an unanswered file", "asked", "import r.ktx", 4, "document_foreign"),
    no("import of no file", "added", "import nothing.ktx", 4, "file_malformed"),
    Row("inspect a product file", "fresh", "inspect {real}", 0,
        {"kind": "product", "verified": True, "product": PRODUCT_NAME, "publisher": "Acme Ink", "service": str, "test": False, "issued_at": TIME}, text=True),
    Row("inspect a request", "asked", "inspect r.ktx", 0,
        {"kind": "exchange", "verified": True, "requests": ({"kind": "request", "product_id": str, "installation_guid": GUID, "state": "open"},)}, text=True),
    Row("inspect a certificate", "licensed", "inspect c.ktcert", 0,
        {"kind": "certificate", "verified": False, "activation_id": GUID, "issued_at": TIME, "valid_until": None, "issuing_key": DIGEST}, text=True),
    Row("inspect a trust file", "licensed", "inspect t.kttrust", 0,
        {"kind": "trust", "verified": True, "publisher": "Acme Ink", "thumbprint": DIGEST, "bundle": 1, "roots": 1, "threshold": 1}, text=True),
    no("inspect of something else", "fresh", "inspect {ca_false}", 4, "file_malformed"),
    Row("explain a code", "fresh", "explain limit_reached", 0, {"code": "limit_reached", "exit": 1, "title": str, "remedy": str}, text=True),
    Row("explain all", "fresh", "explain", 0, {"codes": [{"code": str, "exit": int, "title": str, "remedy": str}]}, text=True, says="tls_untrusted"),
    no("explain of nothing", "fresh", "explain love", 1, "not_found"),
    *(Row(f"completion for {shell}", "fresh", f"completion {shell}", 0, {"shell": shell, "script": str}, text=True, says="keyturn")
      for shell in ("bash", "zsh", "fish")),
    no("completion for another shell", "fresh", "completion tcsh", 2, "usage"),
    no("a real product and KEYTURN_SYSROOT", "real", "status", 5, "test_only", env={"KEYTURN_SYSROOT": "{pc_a}"}),
    no("a real product and KEYTURN_NOW", "real", "activate --yes", 5, "test_only", env={"KEYTURN_NOW": "+60"}),
    no("adding a real product with KEYTURN_NOW", "fresh", "product add {real}", 5, "test_only", env={"KEYTURN_NOW": "+60"}),
    no("a service's home", "service", "status", 2, "home_foreign", untouched=True, says="keyturn service"),
]  # fmt: skip

SERVICE = [
    Row("init", "fresh", "service init --publisher 'New Ink' --url https://localhost:9443 --probe-url none", 0,
        {"home": str, "thumbprint": DIGEST, "url": "https://localhost:9443", "probe_url": None, "changed": True}),
    Row("init --if-needed of a service", "service", "service init --publisher X --if-needed", 0, {"thumbprint": DIGEST, "changed": False}, untouched=True),
    no("init twice", "service", "service init --publisher X", 2, "already_initialised", untouched=True),
    no("init without a publisher", "fresh", "service init", 2, "usage"),
    no("init with a plain address", "fresh", "service init --publisher X --url http://localhost", 2, "usage"),
    no("init with another database", "fresh", "service init --publisher X --database postgresql://h/d", 2, "usage"),
    no("not initialised", "fresh", "service status", 2, "not_initialised"),
    no("run before init", "fresh", "service run", 2, "not_initialised"),
    no("a client's home", "added", "service status", 2, "home_foreign", untouched=True, says="use `keyturn "),
    no("an address that is none", "service", "service run --listen nowhere", 2, "usage"),
    no("a certificate without its key", "service", "service run --tls-cert x", 2, "usage"),
    Row("status while it does not run", "service", "service status", 0,
        {"publisher": "False Ink", "thumbprint": DIGEST, "url": str, "bundle": 1, "products": 1, "keys": int, "seats_used": 0,
         "open_intents": 0, "issuing_until": TIME, "issuing_days": int}, text=True),
    Row("status while it runs", "fresh", "service --home {acme} status", 0, {"publisher": "Acme Ink", "products": 2, "seats_used": int}, text=True),
    Row("config show", "service", "service config show", 0, {"publisher": "False Ink", "url": str, "probe_url": str, "database": str}, text=True),
    Row("config show --origin", "service", "service config show --origin", 0, {"url": {"value": str, "origin": Word(r".*service\.toml")}}, text=True),
    Row("the environment wins over the file", "service", "service config show --origin", 0,
        {"url": {"value": "https://elsewhere.example", "origin": Word(".*KEYTURN_SERVICE_URL")}},
        env={"KEYTURN_SERVICE_URL": "https://elsewhere.example"}),
    Row("config set", "service", "service config set url https://activate.example", 0, {"url": "https://activate.example"}),
    no("config set of nothing known", "service", "service config set colour red", 2, "usage", untouched=True),
    Row("org create", "service", "service org create initech --title 'Initech Ltd'", 0, {"organization": "initech"}),
    Row("org list", "fresh", "service --home {acme} org list", 0, {"organizations": [ORG]}, text=True, says="globex"),
    Row("org show", "fresh", "service --home {acme} org show globex", 0, {**ORG, "name": "globex"}, text=True),
    no("org show of nobody", "fresh", "service --home {acme} org show nobody", 1, "not_found"),
    no("org create twice", "fresh", "service --home {acme} org create globex", 1, "already_exists"),
    Row("product create", "service", "service product create sketch --name Sketch --edition pro --edition lite --feature layers:pro --feature print"
        " --grace 10 --terms https://x.example/t --threshold 2 --count-group servers --mode enforce", 0,
        {**SERVICE_PRODUCT, "slug": "sketch", "name": "Sketch", "mode": "enforce", "test": False, "version": 1,
         "editions": {"pro": ("layers", "print"), "lite": ("print",)}, "terms": {"grace_days": 10, "threshold": 2, "count_group": "servers"}}),
    Row("product create --test", "service", "service product create sketch --test", 0, {**SERVICE_PRODUCT, "test": True, "product": Word(r".*/sketch\+test")}),
    no("product create twice", "service", "service product create paintest", 1, "already_exists", untouched=False),
    no("product create of a bad slug", "service", "service product create Paint_Box", 2, "usage"),
    no("a feature of no edition", "service", "service product create sketch --feature layers:gold", 2, "usage"),
    Row("product set", "service", "service product set paintest --mode advise --grace 5", 0,
        {**SERVICE_PRODUCT, "mode": "advise", "version": 2, "terms": {"grace_days": 5}}),
    no("product set of nothing", "service", "service product set paintest", 2, "usage"),
    Row("product list", "fresh", "service --home {acme} product list", 0, {"products": [SERVICE_PRODUCT]}, text=True),
    Row("product show", "fresh", "service --home {acme} product show paintbox", 0, {**SERVICE_PRODUCT, "slug": "paintbox"}, text=True),
    no("product show of nothing", "service", "service product show nothing", 1, "not_found"),
    Row("product export prints the URL and warns on loopback", "fresh", "service --home {acme} product export paintbox -o p.ktproduct", 0,
        {"file": "p.ktproduct", "product": PRODUCT_NAME, "url": Word("https://localhost:[0-9]+"), "probe_url": str}, text=True, says="Warning"),
    no("product export of nothing", "service", "service product export nothing -o p", 1, "not_found"),
    Row("key mint", "fresh", "service --home {acme} key mint --product paintbox", 0,
        {"keys": ({**MINTED, "channel": "retail", "limit": 1},)}, text=True),
    Row("key mint of every option", "fresh", "service --home {acme} key mint --product paintest --channel mak --org globex --edition pro"
        " --feature print --term 365 --limit 50 --count 3 --note 'for the lab'", 0, {"keys": ({**MINTED, "channel": "mak", "limit": 50},) * 3}),
    *(Row(f"key mint into a {kind} file", "fresh", f"service --home {{acme}} key mint --product paintbox --until 2030-01-01 --count 2 -o k.{kind}", 0,
          {"file": f"k.{kind}", "count": 2}) for kind in ("json", "csv", "txt")),
    no("key mint without a product", "service", "service key mint", 2, "usage"),
    no("key mint for nothing", "service", "service key mint --product nothing", 1, "not_found"),
    no("a MAK without an organization", "service", "service key mint --product paintest --channel mak --limit 5", 2, "usage"),
    no("a retail key for two", "service", "service key mint --product paintest --limit 2", 2, "usage"),
    no("a term and a date", "service", "service key mint --product paintest --term 5 --until 2030-01-01", 2, "usage"),
    no("a date that is none", "service", "service key mint --product paintest --until tomorrow", 2, "usage"),
    no("the pepper is gone", "service-no-pepper", "service key mint --product paintest", 6, "store_damaged"),
    Row("key list", "fresh", "service --home {acme} key list", 0, {"keys": [SERVICE_KEY]}, text=True),
    Row("key list of a product", "fresh", "service --home {acme} key list --product paintbox", 0, {"keys": [{**SERVICE_KEY, "product": "paintbox"}]}),
    Row("key show", "licensed", "service --home {acme} key show {serial}", 0, {**SERVICE_KEY, "activations": [SERVICE_ACTIVATION]}, text=True),
    no("key show of nothing", "service", "service key show 268435455", 1, "not_found"),
    Row("key set", "fresh", "service --home {acme} key set {mak_serial} --limit 7 --note more", 0, {**SERVICE_KEY, "limit": 7, "note": "more"}),
    no("a retail key for more", "fresh", "service --home {acme} key set {serial} --limit 2", 2, "usage"),
    Row("key block", "fresh", "service --home {acme} key block {mak_serial}", 0, {**SERVICE_KEY, "blocked": True}),
    Row("key unblock", "fresh", "service --home {acme} key unblock {mak_serial}", 0, {**SERVICE_KEY, "blocked": False}),
    Row("activation list", "licensed", "service --home {acme} activation list", 0, {"activations": [SERVICE_ACTIVATION]}, text=True),
    Row("activation list of none", "service", "service activation list", 0, {"activations": ()}, text=True),
    Row("activation show", "licensed", "service --home {acme} activation show {activation}", 0, {**SERVICE_ACTIVATION, "ended_at": None}, text=True),
    no("activation show of nothing", "service", "service activation show nothing", 1, "not_found"),
    no("activation reclaim off a terminal", "licensed", "service --home {acme} activation reclaim {activation}", 2, "confirmation_required"),
    Row("activation reclaim", "licensed:reclaim", "service --home {acme} activation reclaim {activation} --yes", 0,
        {**SERVICE_ACTIVATION, "ended_at": TIME, "ended_by": "reclaimed"}),
    Row("answer a file", "asked", "service --home {acme} answer r.ktx", 0, {"file": "r.ktx", "answered": 1, "refused": 0}),
    Row("answer by another service", "asked", "service --home {idle} answer r.ktx", 0, {"file": "r.ktx", "answered": 0, "refused": 1}),
    no("answer of no file", "service", "service answer nothing.ktx", 4, "file_malformed"),
    no("answer of a product file", "service", "service answer {test}", 4, "file_malformed"),
]  # fmt: skip
TABLE = [*CLIENT, *SERVICE]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContractWorld]:
    made = ContractWorld(tmp_path_factory.mktemp("contract"))
    yield made
    made.close()


def _filled(text: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _words(world: ContractWorld, row: Row, home: Path) -> dict[str, str]:
    key = world.words["key"]
    words = {**world.words, "home": str(home), "key_mistyped": ("7" if key[0] != "7" else "8") + key[1:]}
    if "{activation}" in row.command:
        (entry,) = [e for e in _entries(world, home) if e["activation_id"]]
        words["activation"] = entry["activation_id"]
    return words


def _entries(world: ContractWorld, home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Home(home, sysroot=world.computers["office-pc-a"])("status").ok().json["products"]
    return found


@pytest.mark.parametrize("row", TABLE, ids=[row.story for row in TABLE])
def test_the_contract(row: Row, world: ContractWorld, tmp_path: Path) -> None:
    """The command ends as the contract says, prints data on stdout and everything else on stderr."""
    ways = [False] if row.plain else [True, False] if row.text or row.code else [True]
    situations = [world.situation(row.situation, tmp_path / ("json" if json else "text")) for json in ways]
    with ThreadPoolExecutor() as both:  # Each in a folder of its own, so at the same time.
        for outcome in [both.submit(_try, row, world, *pair) for pair in zip(situations, ways, strict=True)]:
            outcome.result()


def _try(row: Row, world: ContractWorld, situation: Situation, json: bool) -> None:
    words = _words(world, row, situation.home)
    (situation.folder / "key.txt").write_text(world.words["key"] + "\n")
    env = {name: _filled(value, words) for name, value in row.env.items()}
    arguments = shlex.split(_filled(row.command, words))
    before = files_below(situation.home) if situation.home.exists() else {}
    given = None if row.input is None else _filled(row.input, words)
    done = call(arguments, situation, env, given, json=json and "--json" not in arguments)
    said = f"{done.command}\nexit {done.exit}\n{done.out}\n{done.err}"
    assert done.exit == row.exit, said
    assert "Traceback" not in done.err, said
    if json:
        check(done.json, row.shape)
        check_names(done.json)
    elif row.code:
        assert done.out == "", said
        assert row.code in done.err, said
        assert "Reference KT-" in done.err, said
    else:
        assert done.out.strip(), said
    if row.says and not json:
        assert row.says in done.out + done.err, said
    if row.untouched:
        assert (files_below(situation.home) if situation.home.exists() else {}) == before, said


def test_every_exit_code_of_the_contract_has_a_row() -> None:
    """0 to 6 each occur, and every code named in the table is the catalogue's, with its exit status."""
    assert {row.exit for row in TABLE} == set(range(7))
    for row in TABLE:
        assert row.code is None or CATALOGUE[row.code].exit == row.exit, row.story


def test_the_service_says_when_it_is_ready(world: ContractWorld) -> None:
    """``run --json`` prints one line when it is ready: event, url, probe_url and its process id."""
    ready = world.running.ready
    check(ready, {"event": "ready", "url": Word(r"https://.+:\d+"), "probe_url": Word(r"http://.+:\d+/probe"), "pid": int})
    assert world.running.process is not None
    assert ready["pid"] == world.running.process.pid


def test_the_log_of_a_service_is_json_lines_without_addresses(world: ContractWorld) -> None:
    """What ``run`` writes to stderr is one JSON object a line, dated, and holds no product key and no address."""
    lines = world.running.log().splitlines()
    for line in lines:
        value = jsons.loads(line)
        assert RFC3339.fullmatch(value["at"])
        assert "127.0.0.1" not in line
        assert world.words["key"] not in line
