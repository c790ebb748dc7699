# The one door to the workshop: `make` lists what there is.
# Needs Python 3.11 or newer (with venv), git and make; everything else is installed below .venv, tests/node and packaging/console.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.made-for
LOCKS  := base service host fleet demo phone wheel dev
NODE   := tests/node/node_modules/.made
# Parts of others that the console uses in the browser; fetched, never committed, and shipped in the wheel.
VENDOR  := src/keyturn/fleet/static/vendor
CONSOLE := $(VENDOR)/htmx.min.js
# On every core; for example on one and until the first failure: make test PYTEST_ARGS='-x -k productkey'
PYTEST_ARGS ?= -n auto

# An environment knows the folder it was made in, so a copied tree makes its own.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help dev console demo test pytest lint types node vectors vectors-check pages docs man bench simulate unit show-online show-solid show-keys show-lifecycle show-host show-fleet show-telephone chaos faults forge codes hostile lifecycles in-time wheel deb client-bundle locale lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

dev: $(STAMP) $(CONSOLE) ## make the environment .venv from the hash-pinned lock files (does nothing when they are unchanged)

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Keyturn needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "This Python has no venv: install it (Debian: apt-get install python3-venv), then run make again." >&2; exit 1; }
	@test "$$(cat $(STAMP) 2>/dev/null)" = '$(CURDIR)' || { \
	  echo "Making $(VENV) with $$($(PYTHON) --version) ..."; $(PYTHON) -m venv --clear $(VENV); }
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@printf '%s' '$(CURDIR)' > $(STAMP)

demo: $(STAMP) ## the whole story on this computer, in under a minute: mint a key, activate, check, return the seat
	$(VENV)/bin/keyturn demo

test: lint types node console vectors-check pytest ## everything that CI checks

pytest: $(STAMP) ## the tests alone (PYTEST_ARGS='-x -k word')
	$(PY) -m pytest $(PYTEST_ARGS)

lint: $(STAMP) ## ruff: likely bugs, order of imports, argued exceptions
	$(PY) -m ruff check .

types: $(STAMP) ## mypy --strict on source and tests
	$(PY) -m mypy

node: $(NODE) ## the independent checkers: npm's jose and @noble/curves below tests/node

# Without npm (or without a network to it) the tests that need it are listed as skipped; under CI that is a failure.
$(NODE): tests/node/package.json tests/node/package-lock.json
	@if command -v npm >/dev/null 2>&1 && (cd tests/node && npm ci --silent --no-audit --no-fund --ignore-scripts); then \
	  touch $@; \
	else \
	  echo "*** NOT INSTALLED: npm's jose and @noble/curves. The checks in Node will be SKIPPED. ***" >&2; \
	  test "$${CI:-}" != true; \
	fi

console: $(CONSOLE) ## what the fleet manager's console needs in the browser: htmx, Pico CSS, uPlot

# Without npm the console works plainly, and the tests that need these parts are listed as skipped; under CI that is a failure.
$(CONSOLE): packaging/console/package.json packaging/console/package-lock.json
	@if command -v npm >/dev/null 2>&1 && (cd packaging/console && npm ci --silent --no-audit --no-fund --ignore-scripts); then \
	  mkdir -p $(VENDOR) && cd packaging/console/node_modules && \
	  cp uplot/dist/uPlot.iife.min.js uplot/dist/uPlot.min.css @picocss/pico/css/pico.min.css '$(CURDIR)/$(VENDOR)' && \
	  cp uplot/LICENSE '$(CURDIR)/$(VENDOR)/uPlot.LICENSE.txt' && cp htmx.org/LICENSE '$(CURDIR)/$(VENDOR)/htmx.LICENSE.txt' && \
	  cp @picocss/pico/LICENSE.md '$(CURDIR)/$(VENDOR)/pico.LICENSE.txt' && cp htmx.org/dist/htmx.min.js '$(CURDIR)/$@'; \
	else \
	  echo "*** NOT INSTALLED: htmx, Pico CSS and uPlot. The console will be plain, and its tests SKIPPED. ***" >&2; \
	  test "$${CI:-}" != true; \
	fi

vectors: $(STAMP) ## make the golden vectors in tests/vectors anew
	$(PY) tests/make_vectors.py tests/vectors

vectors-check: $(STAMP) ## make them anew elsewhere and compare with the committed ones
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PY) tests/make_vectors.py "$$scratch" && diff -r tests/vectors "$$scratch" && echo "The golden vectors are as committed."

pages: $(STAMP) ## make the pages that repeat what the program knows anew: errors, commands, addresses, what is sent
	$(PY) tests/make_pages.py docs

docs: $(STAMP) ## the pages as a site in build/docs, which works offline; a warning is an error
	$(PY) -m sphinx -b html -W --keep-going -n -q -E -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

man: $(STAMP) ## the man pages keyturn(1), keyturn-service(1) and keyturn-host(1) in build/man: man -l build/man/keyturn.1
	$(PY) tests/make_man.py build/man

bench: $(STAMP) ## measure: activations, minting, license check, start-up, the agent at rest (ONLY=activations; WRITE=1 writes docs/benchmarks.md)
	$(PY) tests/bench.py $(if $(ONLY),--only $(ONLY)) $(if $(WRITE),--write docs/benchmarks.md)

simulate: $(STAMP) ## how often seats are falsely the same or different, at 100, 10 000 and 1 000 000 computers
	$(PY) tests/seat_simulation.py

unit: $(STAMP) ## the service's unit under a real systemd, booted from this computer's /usr in seconds (root; needs systemd-nspawn)
	$(PY) tests/boot_unit.py

show-online: $(STAMP) node ## walk the list "activate this computer online" against the real programs, a line per item
	$(PY) tests/show_online.py

# More of everything: make show-solid SHOW='--step 1 --cycles 1000'
show-solid: $(STAMP) ## walk the list "solid" against the real programs: kills, faults, forgeries, attacks (SHOW='--only WORD')
	$(PY) tests/show_solid.py $(SHOW)

show-keys: $(STAMP) ## walk the list "keys and platforms for the long run": roots, theft, other days, signers, Windows and macOS
	$(PY) tests/show_keys.py $(SHOW)

show-lifecycle: $(STAMP) ## walk the list "the license lifecycle on the computer": states, reminders, events, policy, agent (SHOW='--only WORD')
	$(PY) tests/show_lifecycle.py $(SHOW)

show-host: $(STAMP) ## walk the list "activation host": thresholds, failover, clones, impostors, kills, virtual years (SHOW='--only WORD')
	$(PY) tests/show_host.py $(SHOW)

show-fleet: $(STAMP) $(NODE) $(CONSOLE) ## walk the list "fleet manager": by proxy, by file, re-imaging, limits, kills, console (SHOW='--only WORD')
	$(PY) tests/show_fleet.py $(SHOW)

show-telephone: $(STAMP) $(NODE) ## walk the list "by telephone": by hand without a network, slips, limits, tickets, pages (SHOW='--only WORD')
	$(PY) tests/show_telephone.py $(SHOW)

BUDGET ?= 3m
chaos: $(STAMP) ## kill storms against the real service (BUDGET=20m SEED=...)
	$(PY) tests/chaos.py --budget $(BUDGET) $(if $(SEED),--seed $(SEED))

faults: $(STAMP) ## each of the service's first writes and fsyncs fails once, with EIO and ENOSPC (FIRST=200 SEED=...; needs strace)
	$(PY) tests/faults.py --first $(or $(FIRST),200) $(if $(SEED),--seed $(SEED))

forge: $(STAMP) ## forged answers against the client's verifier (N=1000000 SEED=...)
	$(PY) tests/forge.py --count $(or $(N),1000000) $(if $(SEED),--seed $(SEED))

codes: $(STAMP) ## slips and guesses against the codes of telephone activation (IDS=10000 N=1000000 SEED=...)
	$(PY) tests/codes.py --ids $(or $(IDS),10000) --count $(or $(N),1000000) $(if $(SEED),--seed $(SEED))

hostile: $(STAMP) ## hostile requests against the real service over TLS
	$(PY) tests/hostile.py $(if $(SEED),--seed $(SEED))

lifecycles: $(STAMP) ## random lives of a copy against a small model of its states (LIVES=10000 SEED=...)
	$(PY) tests/lifecycles.py --lives $(or $(LIVES),10000) $(if $(SEED),--seed $(SEED))

in-time: $(STAMP) ## the whole suite on other days: +90 d, +1 y, +10 y, leap day, 2038, 2100 (MOMENT=+10y; needs gcc)
	$(PY) tests/in_time.py $(if $(MOMENT),--moment $(MOMENT))

wheel: $(STAMP) $(CONSOLE) ## build the wheel into dist/
	$(PY) -m build --wheel --no-isolation --outdir dist .

deb: $(STAMP) ## the Debian package of client and agent, in build/
	$(PY) tests/make_deb.py build

locale: $(STAMP) ## bring the translations up to date with the source; names what is not translated yet
	$(PY) tests/make_locale.py src/keyturn/locale

client-bundle: $(STAMP) ## the client as one folder that needs no Python, in build/client
	$(PY) tests/make_bundle.py build/client

# dev.txt holds every extra, so it leads and the others follow it. Newer releases: make lock LOCK_FLAGS=--upgrade
PINS = $(PY) -m uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(LOCK_FLAGS)
LOCK = $(PINS) pyproject.toml
lock: $(STAMP) ## pin the dependencies of pyproject.toml anew (LOCK_FLAGS=--upgrade for newer releases)
	$(LOCK) --all-extras --group dev --output-file requirements/dev.txt
	$(LOCK) --constraints requirements/dev.txt --output-file requirements/base.txt
	$(LOCK) --constraints requirements/dev.txt --extra service --output-file requirements/service.txt
	$(LOCK) --constraints requirements/dev.txt --extra host --output-file requirements/host.txt
	$(LOCK) --constraints requirements/dev.txt --extra fleet --output-file requirements/fleet.txt
	$(LOCK) --constraints requirements/dev.txt --extra demo --output-file requirements/demo.txt
	$(LOCK) --constraints requirements/dev.txt --extra phone --output-file requirements/phone.txt
	$(PINS) --constraints requirements/dev.txt --group wheel --output-file requirements/wheel.txt
	@! grep -nE '://|@ |^ *(-i|-f|--index|--extra-index|--find-links|--trusted-host)|^ *#' $(LOCKS:%=requirements/%.txt)

clean: ## remove what was made here
	rm -rf $(VENV) dist build tests/node/node_modules packaging/console/node_modules $(VENDOR) .mypy_cache .pytest_cache .ruff_cache .hypothesis htmlcov .coverage*
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
