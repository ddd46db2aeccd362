# The two main targets are `make demo` and `make test`. `make help` lists all.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
SOURCES := schemas handlers worker deploy tests
TEST_WORKERS ?= 5  # with four, two cores were idle for 7% of the time, with five 5%; each has its own RabbitMQ and PostgreSQL
PYTEST := $(BIN)/python -m pytest
# Python starts faster from cached bytecode, and the tests start hundreds of processes. uv installs none.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-live live-project setup setup-test system system-test up lint style type collect upgrade watched pictures chaos variants fuzz bench docs dashboards lock clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: setup  ## install the runtime, then process sample generations from webhook to storage
	$(BIN)/outlast demo

test: setup-test  ## install the test tools, then run linters, type checks and all tests
	$(MAKE) --no-print-directory -j 3 style type collect
	$(PYTEST) -n $(TEST_WORKERS)

test-fast: setup-test  ## only the quick unit and contract tests, without services; under a minute
	$(PYTEST) -n $(TEST_WORKERS) -m 'not service and not slow' tests/unit tests/contracts

test-live: live-project setup-test  ## run the storage tests against a real Supabase project, in buckets of their own
	OUTLAST_LIVE=1 $(PYTEST) tests/contracts/test_storage.py tests/contracts/gateway/test_recorded.py

live-project:
	@test -n "$$SUPABASE_URL" && test -n "$$SUPABASE_SERVICE_ROLE_KEY" || { \
	  echo 'test-live: set SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY (and optionally SUPABASE_ANON_KEY) to those of a' \
	    'test project. Other buckets of the project are not changed.' >&2; exit 2; }

setup: system .venv/.running  ## install the runtime: Debian packages, virtual environment
setup-test: setup system-test .venv/.testing  ## install the runtime and the test tools

system:
	@sh deploy/local/setup.sh

system-test:
	@sh deploy/local/setup.sh tests

.venv/.created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Outlast needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv .venv
	@touch $@

# uv installs packages in seconds. pip does it where uv cannot, for example with an index that only pip knows.
.venv/.uv: .venv/.created requirements-test.lock
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-test.lock >.venv/uv.txt
	$(PIP) install --progress-bar off --require-hashes -r .venv/uv.txt || echo 'setup: without uv, pip takes a minute longer'
	@touch $@

.venv/.running: .venv/.uv requirements.lock pyproject.toml
	$(UV) --require-hashes -r requirements.lock || $(PIP) install --progress-bar off --require-hashes -r requirements.lock
	$(UV) --no-deps --editable . || $(PIP) install --no-deps --editable .
	@touch $@

.venv/.testing: .venv/.running requirements-test.lock
	$(UV) --require-hashes -r requirements-test.lock \
	  || $(PIP) install --progress-bar off --require-hashes -r requirements-test.lock
	@touch $@

up: setup  ## run the local stack in the foreground
	$(BIN)/outlast up

lint: setup-test style  ## ruff, formatting, import contracts, and the checks of deploy/, which are also a test
	$(BIN)/python -m tests.deploy.checks

style: setup-test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports

type: setup-test  ## mypy, strict
	$(BIN)/mypy

# Compiles the tests once. Each process of xdist would otherwise compile all of them, at the same time.
collect: setup-test
	@$(PYTEST) --collect-only -qq >.pytest_cache.log 2>&1 || { cat .pytest_cache.log; exit 1; }
	@rm .pytest_cache.log

upgrade: setup-test  ## only the tests of deployment and upgrades (some need root)
	$(PYTEST) tests/deploy tests/upgrade

watched: setup-test  ## only the tests of metrics, alerts and dashboards, with a real Prometheus
	$(PYTEST) tests/metrics tests/grafana

pictures: setup-test  ## draw the dashboards of a test run to deploy/grafana/pictures/*.png, the console to .outlast/console/
	$(BIN)/python -m tests.grafana.draw
	TEST_PICTURES=1 $(PYTEST) -n 0 tests/console/test_console_accessibility.py

chaos: setup-test  ## only the chaos tests, then their long form: 2,000 generations, about 20 minutes
	$(PYTEST) tests/chaos
	$(BIN)/python -m tests.chaos.run --long

variants: setup-test  ## 300 generations with variants, while workers are killed and rows deleted; about a minute
	TEST_GENERATIONS=300 $(PYTEST) tests/broker/test_variants_of_many.py

fuzz: setup-test  ## decode 10,000 damaged files and compare with strict decoders; some minutes
	$(BIN)/python -m tests.fuzz.run --cases 10000

bench: setup-test  ## compare speed and memory with alternatives; about half an hour, on an idle machine
	$(BIN)/python -m tests.benchmarks.run

docs: setup-test  ## generate the reference pages and tables in deploy/docs/: settings, HTTP, SQL, metrics, media types, FAL's outputs
	$(BIN)/python -m tests.reference
	$(BIN)/python -m worker.cli.settings_table deploy/docs/settings.md
	$(BIN)/python -m tests.media_matrix deploy/docs/media.md
	$(BIN)/python -m tests.fal_outputs.page deploy/docs/fal-outputs.md

dashboards: setup-test  ## generate deploy/grafana/dashboards/*.json
	$(BIN)/python -m deploy.grafana

lock: setup  ## update both lock files from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
	  --custom-compile-command 'make lock' --extra local pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command 'make lock' --extra local --extra otel --group test -c requirements.lock pyproject.toml \
	  -o requirements-test.lock

clean:  ## remove the virtual environments, caches and the local stack's data
	rm -rf .venv .venv-* .outlast .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

# Tests on other Python versions, and on Debian 13.
.PHONY: pythons debian13
pythons: setup-test  ## run the smoke test on every other installed Python
	$(BIN)/python -m tests.pythons.run

debian13:  ## as root: create a Debian 13 chroot, run the demo and the smoke test in it; some minutes
	sh tests/deploy/debian.sh
