# Two commands matter: `make demo` shows it working, `make test` proves it. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := schemas handlers worker deploy tests
TEST_WORKERS ?= 3  # measured on two cores; each has a RabbitMQ and a PostgreSQL of its own
# The tests start hundreds of Python processes, which start faster from cached bytecode.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-live live-project setup setup-test system system-test up lint type upgrade watched pictures chaos fuzz bench docs dashboards lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: setup  ## install what running needs, then send real generations through the whole chain
	$(BIN)/outlast demo

test: setup-test  ## install what tests need, then lint, check types and contracts, and run every test
	$(MAKE) --no-print-directory lint type
	$(PYTEST) -n $(TEST_WORKERS)

test-fast: setup-test  ## the quick ones of the unit and contract tests, no service: for while you edit
	$(PYTEST) -n $(TEST_WORKERS) -m 'not service and not slow' tests/unit tests/contracts

test-live: live-project setup-test  ## run what holds for Storage against a real project, in buckets of its own
	OUTLAST_LIVE=1 $(PYTEST) tests/contracts/test_storage.py tests/contracts/gateway/test_recorded.py

live-project:
	@test -n "$$SUPABASE_URL" && test -n "$$SUPABASE_SERVICE_ROLE_KEY" || { \
	  echo 'test-live: set SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY (SUPABASE_ANON_KEY too, if you like) in the' \
	    'environment, to those of a project for tests; its other buckets are left alone' >&2; exit 2; }

setup: system .venv/.running  ## install what running needs: Debian packages, virtual environment
setup-test: setup system-test .venv/.testing  ## add what only tests need

system:
	@sh deploy/local/setup.sh

system-test:
	@sh deploy/local/setup.sh tests

.venv/.created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Outlast needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.running: .venv/.created requirements.lock pyproject.toml
	$(PIP) install --progress-bar off --require-hashes -r requirements.lock
	$(PIP) install --no-deps --editable .
	@touch $@

.venv/.testing: .venv/.running requirements-test.lock
	$(PIP) install --progress-bar off --require-hashes -r requirements-test.lock
	@touch $@

up: setup  ## run the local stack in the foreground
	$(BIN)/outlast up

lint:  ## ruff with every rule, formatting, the import contracts, and what deploy/ holds
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python -m tests.deploy.checks

type:  ## mypy, strict
	$(BIN)/mypy

upgrade: setup-test  ## where it runs, alone: the checks, an installation by the letter (as root), releases old and new side by side
	$(PYTEST) tests/deploy tests/upgrade

watched: setup-test  ## load and faults under a real Prometheus: alerts, dashboards, and whether the figures add up
	$(PYTEST) tests/metrics tests/grafana

pictures: setup-test  ## the same run, drawn: deploy/grafana/pictures/*.png
	$(BIN)/python -m tests.grafana.draw

chaos: setup-test  ## the tests that kill and cut things, then the long form: 2,000 generations, about 20 minutes
	$(PYTEST) tests/chaos
	$(BIN)/python -m tests.chaos.run --long

fuzz: setup-test  ## 10,000 damaged files through detection and decoding, judged by strict decoders; some minutes
	$(BIN)/python -m tests.fuzz.run --cases 10000

bench: setup-test  ## speed and thrift beside what users would pick instead; about half an hour, on a quiet machine
	$(BIN)/python -m tests.benchmarks.run

docs:  ## renew the README's table of settings
	$(BIN)/python -m worker.settings_table README.md

dashboards:  ## write deploy/grafana/dashboards/*.json anew
	$(BIN)/python -m deploy.grafana

lock:  ## renew both lock files from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
	  --custom-compile-command 'make lock' --extra local pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command 'make lock' --extra local --extra otel --group test -c requirements.lock pyproject.toml \
	  -o requirements-test.lock

clean:  ## remove the virtual environment, caches and the local stack's data
	rm -rf .venv .outlast .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
