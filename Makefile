# The two commands are `make demo` and `make test`; each sets up what it needs, inside this folder.
VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= python3
UV     := uv==0.13.9
# Bytecode is kept, whatever the shell says: without it a service takes 4 s to start, and not 1.3.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check lint types layers suite proofs bench bench-quick bench-steady scale flips kills cluster docs lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 13

demo: $(VENV)/ready ## See it work: make demo [SPECTRA=dir] [PORT=n] [ONCE=1]
	$(BIN)/specserver demo $(if $(SPECTRA),--spectra "$(SPECTRA)") $(if $(PORT),--port $(PORT)) $(if $(ONCE),--once)

test: $(VENV)/ready ## Lint, types, layers, tests, in ten minutes
	$(MAKE) --no-print-directory --jobs 2 lint layers types suite  # mypy alone takes 40 s, on one core

check: lint types layers ## The quick part of `make test`

lint: $(VENV)/ready ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready ## mypy, strict
	$(BIN)/mypy

layers: $(VENV)/ready ## import-linter: one way down
	$(BIN)/lint-imports

suite: $(VENV)/ready ## pytest
	@$(BIN)/python scripts/install-system-packages
	$(BIN)/pytest -n 3 --dist loadfile -m "not proof"  # some of them wait

proofs: $(VENV)/ready ## Slow tests, in ten more minutes: faults, clusters, browsers, the guide; CI runs them, too
	@$(BIN)/python scripts/install-system-packages
	$(BIN)/pytest -n 3 --dist loadfile -m proof

bench: $(VENV)/ready ## How fast, against what: docs/performance.md
	@$(BIN)/python scripts/install-system-packages postgresql
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/ready ## The same on less data, in two minutes
	@$(BIN)/python scripts/install-system-packages postgresql
	$(BIN)/python -m benchmarks --quick

docs: $(VENV)/ready ## The user guide, into site/
	$(BIN)/python scripts/build-docs

bench-steady: $(VENV)/ready ## Does it stay steady under load? make bench-steady DATA=dir
	$(BIN)/python -m benchmarks.steady --data "$(DATA)"

scale: $(VENV)/ready ## 100,000 spectra, 10,000,000 rows: is it as fast? 30 GB for a while: make scale [FOLDER=dir]
	$(BIN)/python -m benchmarks.scale $(if $(FOLDER),--folder "$(FOLDER)")

flips: $(VENV)/ready ## Does a flipped bit go unnoticed? Of 600, in ten minutes: make flips [FLIPS=n]
	$(BIN)/python -m benchmarks.flips $(if $(FLIPS),--flips $(FLIPS))

kills: $(VENV)/ready ## Does a killed ingest, merge or migration lose anything? make kills [KILLS=n]
	SPECSERVER_TEST_KILLS=$(or $(KILLS),100) $(BIN)/pytest -p no:cacheprovider --timeout 3600 -o faulthandler_timeout=0 \
	    tests/test_kills.py

cluster: $(VENV)/ready ## Does a cluster lose anything when its parts die? make cluster [SPECTRA=n] [FOLDER=dir]
	@$(BIN)/python scripts/install-system-packages
	$(BIN)/python -m benchmarks.cluster $(if $(SPECTRA),--spectra $(SPECTRA)) $(if $(FOLDER),--folder "$(FOLDER)")

lock: $(VENV)/ready ## Renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra all --group dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q -o requirements.lock

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "specserver needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	    || { echo "python3-venv is missing: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }
	@echo "setting up $(VENV), once:"
	@echo "installing uv …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(UV)
	@echo "installing the packages of requirements.lock: some minutes …"
	@$(BIN)/uv pip install -q --require-hashes -r requirements.lock
	@echo "installing specserver …"
	@$(BIN)/uv pip install -q --no-deps -e .
	@echo "compiling what is imported …"
	@$(BIN)/python -c 'import bokeh.plotting, specutils'  # writes their bytecode, so that first use is fast
	@touch $@

clean: ## Remove all that the targets made
	rm -rf $(VENV) .venv-old .cache demo site docs/reference docs/pictures docs/notebooks/*.md .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
