# The one front door, for people and for CI. Needs Python >= 3.11 (with venv) and make; everything else comes
# from the lock files.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# Compiled code is kept, whatever the shell says: without it each start of a process takes a third longer.
unexport PYTHONDONTWRITEBYTECODE
# Installed as a plain path (`compat`), not by an import hook that takes 0.05 s of every start of a process.

.PHONY: up down status test check bench sim mutants chaos fuzz settings lock clean help

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

up: $(VENV)/.run ## Start everything around an embedded Valkey and a simulated broker; Ctrl-C stops it.
	@$(BIN)/julie up $(ARGS)

down: $(VENV)/.run ## Stop it from another terminal.
	@$(BIN)/julie down

status: $(VENV)/.run ## Show every process, the session, positions.
	@$(BIN)/julie status

test: $(VENV)/.dev ## Run everything the project promises (lint, types, unit, integration, end to end, containers).
	@BIN=$(BIN) tools/test

check: $(VENV)/.dev ## Format, lint, types, import directions and unit tests; under a minute.
	@BIN=$(BIN) tools/check

bench: $(VENV)/.dev ## Measure; each figure as a ratio against its floor from the same run.
	@$(BIN)/python -m bench $(ARGS)

fuzz: $(VENV)/.dev ## Bad input by the hundred thousand (RUNS=100000 SEED=1).
	@$(BIN)/python -m proof.fuzz --runs $(or $(RUNS),100000) --seed $(or $(SEED),1)

chaos: $(VENV)/.dev ## Kill, freeze, cut and starve real processes, then check all (SEED=1 SECONDS=N PLAN=short).
	@$(BIN)/python -m proof.chaos --seed $(or $(SEED),1) --plan $(or $(PLAN),short) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

sim: $(VENV)/.dev ## Play simulated worlds with faults: make sim SEEDS=1000, or SEED=7 for one with its trace.
	@$(BIN)/python -m proof.simulation $(if $(SEED),--seed $(SEED) --log,--seeds $(or $(SEEDS),1000)) $(ARGS)

mutants: $(VENV)/.dev ## Plant each bug of the list in the simulation and see it caught within 500 seeds.
	@$(BIN)/python -m proof.simulation --seeds 0 --mutants

settings: $(VENV)/.dev ## Write julie.toml anew from the settings' own descriptions.
	@$(BIN)/python -m tools.example_settings > julie.toml.new && mv julie.toml.new julie.toml

lock: $(VENV)/.dev ## Resolve the dependencies anew (needs uv).
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--quiet pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--quiet --group dev pyproject.toml -o requirements-dev.lock

clean: ## Remove environment and caches; data stays.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Julie needs Python 3.11 or newer; this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python requirements.lock pyproject.toml
	@echo "installing what requirements.lock names ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "installing what requirements-dev.lock names ..."
	@$(PIP) install --no-compile --require-hashes -r requirements-dev.lock
	@touch $@
