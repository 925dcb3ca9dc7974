# Needs Python 3.11 or newer and make. Everything is installed into .venv, nothing else is touched.
#   make demo        the whole method on the embedded model (ARGS="--seed 1" are handed on)
#   make test        the default tests      make test-slow   the long ones
#   make test-faults what a run must survive, long: docs/reliability.md
#   make lint        style and types        make venv        only install
# WORKERS=0 runs the default tests in this one process (for --pdb), not in two beside each other.
# PYTHON=/path/to/python3.12 chooses the interpreter, PIP_FLAGS="..." adds flags to pip install.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS ?=
ARGS ?=
WORKERS ?= 2
INSTALL := $(BIN)/python -m pip install --no-input --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt

.PHONY: help demo test test-slow test-faults lint venv clean
.DELETE_ON_ERROR:

help:
	@sed -n '1,7s/^# //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/curr-reft run recipes/demo.yaml $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist worksteal $(ARGS) </dev/null

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow $(ARGS) </dev/null
	$(BIN)/python -m pytest tests/rewards tests/tasks -m "not slow" --hypothesis-profile=slow $(ARGS) </dev/null

FAULTS := tests/faults tests/train/test_checkpoint.py tests/train/test_cut_off_saves.py tests/train/test_publish.py \
	tests/train/test_loop.py
test-faults: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(FAULTS) $(ARGS) </dev/null

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

venv: $(VENV)/.installed-dev

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The stamps say what was installed from which files, so that it is done once.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[dev]"
	@touch $(VENV)/.installed $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { \
		echo "error: Python 3.11 or newer is needed, and none was found; give one: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is not Python 3.11 or newer; give one: make PYTHON=/path/to/python3.11 ..." >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { \
		echo "error: $(PYTHON) has no venv module (on Debian: apt-get install python3-venv)" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
