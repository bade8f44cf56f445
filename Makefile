# What a newcomer runs. Every target makes the virtual environment that it needs.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Exactly the files that the tests passed with: see there.
INSTALL := $(BIN)/python .ci/install.py --editable
SETS := pyproject.toml constraints.txt .ci/install.py

# pyenv keeps its interpreters off the path; tox finds them behind everything else.
PYENV_ROOT ?= $(HOME)/.pyenv
empty :=
export PATH := $(PATH):$(subst $(empty) $(empty),:,$(wildcard $(PYENV_ROOT)/versions/3.1[1-3].*/bin))

# Hundreds of tests start a Python: without compiled files, each would compile all of wirewitness anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo check test test-all lint bench backends stack constraints clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/' | column -t -s '|'

# One stamp per set of packages, made anew when what they are chosen by changes.
$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "wirewitness needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo: $(VENV)/python $(SETS)
	@echo "Installing wirewitness with its demo into $(VENV)"
	@$(INSTALL) --extra demo
	@touch $@

$(VENV)/test: $(VENV)/demo
	@echo "Installing what the tests need into $(VENV)"
	@$(INSTALL) --extra demo --extra curl --group test
	@touch $@

$(VENV)/tools: $(VENV)/python $(SETS)
	@$(INSTALL) --extra demo --group tools
	@touch $@

$(VENV)/lint: $(VENV)/test
	@$(INSTALL) --extra demo --group lint
	@touch $@

$(VENV)/bench: $(VENV)/demo
	@$(INSTALL) --extra demo --group bench
	@touch $@

demo: $(VENV)/demo ## Watch a real Optimizely client dispatch through good and bad days
	@$(BIN)/wirewitness demo

check: $(VENV)/test ## Run the quick tests, for every save
	@$(BIN)/python -m pytest -q -n auto --tier check

test: $(VENV)/test ## Run all tests that need no server and no second Python
	@$(BIN)/python -m pytest -q -n auto

test-all: $(VENV)/tools ## Run everything: CPython 3.11 to 3.13, coverage, conformance, real servers
	@$(BIN)/tox run

lint: $(VENV)/lint ## Check style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@mkdir -p build && $(BIN)/python tests/typing/readme.py > build/readme.py
	@$(BIN)/mypy
	@$(BIN)/mypy --config-file= build/readme.py
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --level error build/readme.py
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes wirewitness --ignoreexternal > build/verifytypes.txt || { cat build/verifytypes.txt; exit 1; }
	@$(BIN)/lint-imports

backends: $(VENV)/python ## Install Jaeger, Prometheus and Alertmanager where they are missing
	@$(BIN)/python dashboards/backends.py

stack: $(VENV)/python ## Run Jaeger, Prometheus and Alertmanager on loopback until Ctrl-C
	@$(BIN)/python dashboards/stack.py

bench: $(VENV)/bench ## Measure what watching costs, beside controls
	@$(BIN)/python benchmarks/run.py

constraints: $(VENV)/tools ## Choose the newest versions that pyproject.toml allows, anew
	@$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --all-extras \
		--group test --group lint --group bench --group dashboards --group targets --group tools --output-file constraints.txt

clean: ## Remove what the other targets made
	@rm -rf $(VENV) .tox build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist traces.jsonl metrics.prom
