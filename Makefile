# One word for each thing that people do here. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev

.DEFAULT_GOAL := help
.PHONY: $(shell awk -F: '/^[a-z-]+:.*## /{print $$1}' $(firstword $(MAKEFILE_LIST)))

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUNTIME) ## Set everything up and serve, with a demo page (ARGS="--port 8001 …")
	@$(BIN)/nexus-gateway demo $(ARGS)

test: $(DEV) tests/sdk/node_modules loadtest/bench/node_modules ## Set everything up and run all tests (ARGS="tests/hub -k …")
	@$(BIN)/python -m pytest $(ARGS)

lint: $(DEV) ## Style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(DEV) bench-history bench-encodings bench-forms bench-outbox ## Measure this gateway and others side by side, about eight minutes (ARGS="--quick")
	@$(BIN)/python -m loadtest.bench $(ARGS)

bench-tls: $(DEV) ## Measure what TLS costs, half a minute (ARGS="--connections 3000")
	@$(BIN)/python -m loadtest.tls $(ARGS)

bench-encodings: $(DEV) ## Measure reading and writing in JSON, Protobuf and msgpack, seven seconds
	@$(BIN)/python -m loadtest.encodings $(filter --strict,$(ARGS))

bench-forms: $(DEV) ## Measure encodings, compression and deltas side by side, about a minute (FORMS="--connections 1000")
	@$(BIN)/python -m loadtest.forms $(FORMS)

bench-cache: $(DEV) ## Measure hits of the response cache beside a plain GET, a few seconds
	@$(BIN)/python -m gateway.cache.examples.cost

bench-peers: $(DEV) loadtest/bench/node_modules ## Measure Centrifugo, Bun, ws, Socket.IO and others beside the gateway, 15 minutes (ARGS="--quick")
	@$(BIN)/python -m loadtest.peers $(ARGS)

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

bench-outbox: $(DEV) ## Measure rows per second and commit → client on PostgreSQL and SQLite, a minute (OUTBOX="--database sqlite")
	@$(BIN)/python -m loadtest.outbox bench $(if $(filter --quick,$(ARGS)),--rows 5000) $(OUTBOX)

faults-fleet: $(DEV) ## Two gateways on Sentinel and on a cluster: masters killed, silenced, slots moved; counted (ARGS="sentinel --small")
	@$(BIN)/python -m loadtest.fleet $(ARGS)

MINUTES ?= 10
soak: $(DEV) ## Clients come and go while workers are rolled; what is left of them? (MINUTES=10)
	@$(BIN)/python -m loadtest.soak --minutes $(MINUTES) $(ARGS)

load: $(DEV) ## Locust: users of all kinds and of the API, with thresholds, about a minute (ARGS="--scale 5")
	@$(BIN)/python -m loadtest.load $(ARGS)

storm: $(DEV) ## 10,000 clients at once, a worker killed, churn, a rolling reload, two minutes (ARGS="--clients 2000")
	@$(BIN)/python -m loadtest.storm $(ARGS)

CONNECTIONS ?= 100000
scale: $(DEV) ## Hold very many connections on this machine, two minutes (CONNECTIONS=100000)
	@$(BIN)/python -m loadtest.scale --connections $(CONNECTIONS) $(ARGS)

curves: $(DEV) ## What grows with connections, channels and workers, about ten minutes (ARGS="--small")
	@$(BIN)/python -m loadtest.scale.curves $(ARGS)


docs: $(DEV) ## Write the generated tables of the documentation anew
	@$(BIN)/python -m tests.docs.generated

proto: $(DEV) ## Write the Protobuf code anew from protocol/client.proto
	@$(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. protocol/client.proto

lock: $(DEV) ## Update the lock files: one for production, one to build with, one for development
	@for lock in "requirements.lock --extra=server" \
	            "requirements-dev.lock --all-extras --constraint=requirements.lock" \
	            "requirements-build.lock --extra=build --extra=embedded --constraint=requirements-dev.lock"; do \
	  set -- $$lock; file=$$1; shift; \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --python-version=3.11 --generate-hashes --no-header \
	    --output-file=$$file "$$@" pyproject.toml || exit 1; \
	done

SUPPLY := PYTHONPATH=.ci $(BIN)/python -m supply

licences: $(DEV) ## Write THIRD-PARTY.md anew, and see that every licence may be shipped (after lock)
	@$(SUPPLY).licences

sbom: $(DEV) ## Write the bill of materials of the locked dependencies, dist/sbom.cdx.json (CycloneDX)
	@$(SUPPLY).sbom dist/sbom.cdx.json

audit: $(DEV) ## Ask for known vulnerabilities of the locked dependencies; status 3 = nobody answered
	@$(SUPPLY).audit $(ARGS); status=$$?; [ $$status -eq 0 ] || echo "make audit: status $$status" >&2; exit $$status

dist: $(DEV) ## Build wheel and source distribution into dist/
	@$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null && ls dist

clean: ## Remove what the other words have made
	@rm -rf $(VENV) artifacts dist bench.json tests/sdk/node_modules loadtest/bench/node_modules loadtest/bench/centrifugo/bin \
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

$(RUNTIME): requirements.lock requirements-build.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the locked dependencies …"
	@$(PIP) install --quiet --only-binary :all: --require-hashes -r requirements.lock -r requirements-build.lock
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

# Peers of the bench that come from npm. Without npm they are not measured, and the tests that start them skip.
loadtest/bench/node_modules: loadtest/bench/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "Installing the peers that come from npm …" && cd loadtest/bench && \
	  npm ci --ignore-scripts --silent --no-audit --no-fund && touch node_modules; \
	else echo "npm not found: Bun, ws and Socket.IO are not measured"; fi
