# What a newcomer runs. Every target makes the virtual environment that it needs.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# pyenv keeps its interpreters off the path; tox finds them behind everything else.
PYENV_ROOT ?= $(HOME)/.pyenv
empty :=
export PATH := $(PATH):$(subst $(empty) $(empty),:,$(wildcard $(PYENV_ROOT)/versions/3.1[1-3].*/bin))

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench backends stack clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1|\2/' | column -t -s '|'

# A stamp a set of packages, made anew when pyproject.toml changes.
$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "wirewitness needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/demo: $(VENV)/python pyproject.toml
	@echo "Installing wirewitness with its demo into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/tox: $(VENV)/python pyproject.toml
	@$(BIN)/python -m pip install --quiet 'tox>=4.26'
	@touch $@

# With what is there already, so that one set of versions fits all.
$(VENV)/lint: $(VENV)/demo pyproject.toml
	@$(BIN)/python -m pip install --quiet --editable '.[demo,curl]' --group lint --group test
	@touch $@

$(VENV)/bench: $(VENV)/demo pyproject.toml
	@$(BIN)/python -m pip install --quiet --editable '.[demo]' --group bench
	@touch $@

demo: $(VENV)/demo ## Watch a real Optimizely client dispatch through good and bad days
	@$(BIN)/wirewitness demo

test: $(VENV)/tox ## Run the tests on every CPython from 3.11 to 3.13 that is here
	@$(BIN)/tox run

lint: $(VENV)/lint ## Check style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

backends: $(VENV)/python ## Install Jaeger, Prometheus and Alertmanager where they are missing
	@$(BIN)/python dashboards/backends.py

stack: $(VENV)/python ## Run Jaeger, Prometheus and Alertmanager on loopback until Ctrl-C
	@$(BIN)/python dashboards/stack.py

bench: $(VENV)/bench ## Measure what watching costs, beside controls
	@$(BIN)/python benchmarks/run.py

clean: ## Remove what the other targets made
	@rm -rf $(VENV) .tox .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist traces.jsonl metrics.prom
