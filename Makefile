# One word for each thing that people do here. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench bench-history bench-tls bench-encodings bench-forms bench-outbox fuzz idle faults faults-outbox soak proto lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUNTIME) ## Set everything up and serve, with a demo page (ARGS="--port 8001 …")
	@$(BIN)/nexus-gateway demo $(ARGS)

test: $(DEV) tests/sdk/node_modules ## Set everything up and run all tests (ARGS="tests/hub -k …")
	@$(BIN)/python -m pytest $(ARGS)

lint: $(DEV) ## Style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(DEV) bench-history bench-encodings bench-forms ## Measure this gateway and others side by side, about seven minutes (ARGS="--quick")
	@$(BIN)/python -m loadtest.bench $(ARGS)

bench-tls: $(DEV) ## Measure what TLS costs, half a minute (ARGS="--connections 3000")
	@$(BIN)/python -m loadtest.tls $(ARGS)

bench-encodings: $(DEV) ## Measure reading and writing in JSON, Protobuf and msgpack, a few seconds
	@$(BIN)/python -m loadtest.encodings $(filter --strict,$(ARGS))

bench-forms: $(DEV) ## Measure encodings, compression and deltas side by side, about a minute (FORMS="--connections 1000")
	@$(BIN)/python -m loadtest.forms $(FORMS)

SECONDS ?= 60
fuzz: $(DEV) ## Feed damaged frames to every decoder (SECONDS=60)
	@$(BIN)/python -m loadtest.fuzz --seconds $(SECONDS) $(ARGS)

bench-history: $(DEV) ## Measure publishing with history, and 10,000 clients that recover (ARGS="--quick")
	@$(BIN)/python -m loadtest.history $(filter --quick --strict,$(ARGS))

idle: $(DEV) ## Measure 10,000 idle clients, and latency while 10,000 more connect, about three minutes (ARGS="--small")
	@$(BIN)/python -m loadtest.idle $(ARGS)

faults: $(DEV) ## Break what is around the gateway, count what clients lose, about 80 s (ARGS="--small")
	@$(BIN)/python -m loadtest.faults $(ARGS)

faults-outbox: $(DEV) ## Break relays, Redis and databases while 50,000 rows go through, some minutes (ARGS="--database sqlite")
	@$(BIN)/python -m loadtest.outbox faults $(ARGS)

bench-outbox: $(DEV) ## Measure rows per second and commit → client on PostgreSQL and SQLite, a minute
	@$(BIN)/python -m loadtest.outbox bench $(filter-out --quick --strict,$(ARGS))

MINUTES ?= 10
soak: $(DEV) ## Clients come and go while workers are rolled; what is left of them? (MINUTES=10)
	@$(BIN)/python -m loadtest.soak --minutes $(MINUTES) $(ARGS)

proto: $(DEV) ## Write the Protobuf code anew from protocol/client.proto
	@$(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. protocol/client.proto

lock: $(DEV) ## Write the lock files anew
	@for lock in "requirements.lock --extra=embedded --extra=build" \
	             "requirements-dev.lock --extra=embedded --extra=build --extra=dev"; do \
	  set -- $$lock; file=$$1; shift; \
	  $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header \
	    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file=$$file "$$@" pyproject.toml || exit 1; \
	done

clean: ## Remove what the other words have made
	@rm -rf $(VENV) artifacts bench.json tests/sdk/node_modules loadtest/bench/node_modules \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.11 …" >&2; exit 1; }
	@echo "Setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV) >$(VENV).log 2>&1 || { rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "This Python has no venv module: installing Debian's python3-venv …"; \
	    { apt-get update -qq && apt-get install -y -qq python3-venv; } >>$(VENV).log 2>&1 && $(PYTHON) -m venv $(VENV); \
	  else false; fi; } || \
	  { cat $(VENV).log >&2; rm -rf $(VENV); \
	    echo "No virtual environment could be made. On Debian: sudo apt-get install python3-venv" >&2; exit 1; }
	@rm -f $(VENV).log

$(RUNTIME): requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the locked dependencies …"
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock $(RUNTIME)
	@echo "Installing the locked development dependencies …"
	@$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

# The official JavaScript SDK, for the tests that drive it. Without npm those tests skip and say so.
tests/sdk/node_modules: tests/sdk/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "Installing the JavaScript SDK for its tests …" && cd tests/sdk && npm ci --silent --no-audit --no-fund; \
	else echo "npm not found: the tests of the JavaScript SDK will skip"; fi
