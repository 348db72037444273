# make finetune     fine-tune a pretrained Wide ResNet on real images, beside the same net from scratch
# make hub          browse the models and serve them as the Hub does, on http://127.0.0.1:8000
# make try-in-browser  fetch what runs small nets in a browser (needs npm), for hub and hub.py --export
# make test         every test
# make test-quick   those that need no two minutes; says which files it leaves out
# make lint         ruff, mypy, and that no part of the package imports from one above it
# Each makes .venv and installs into it by itself; all it needs is Python, as new as pyproject.toml says, or newer.

PYTHON ?= python3
BIN := .venv/bin
OLDEST := $(shell sed -n 's/^requires-python = ">=\(.*\)"/\1/p' pyproject.toml)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

.PHONY: finetune hub try-in-browser test test-quick lint clean

finetune: .venv/installed
	$(BIN)/accelerate launch --quiet --config_file scripts/accelerate/one_process.yaml scripts/finetune.py --versus-scratch

hub: .venv/installed-hub
	$(BIN)/python scripts/hub.py

try-in-browser: .venv/installed-hub
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[export]'
	$(BIN)/python scripts/maintain/fetch_onnxruntime_web.py

test: .venv/installed-dev
	$(BIN)/python -m pytest

test-quick: .venv/installed-dev
	$(BIN)/python -m pytest -m "not slow"

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(OLDEST)".split("."))))' || \
	  { echo "$(PYTHON) is not Python $(OLDEST) or newer: install one and name it, as in make PYTHON=python$(OLDEST)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) lacks venv: install it (on Debian and Ubuntu: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(INSTALL) .
	touch $@

.venv/installed-hub: .venv/installed
	$(INSTALL) '.[hub]'
	touch $@

.venv/installed-dev: .venv/installed tests/fetch_timm_tests.py
	$(INSTALL) '.[cards,export,hub,dev]'
	$(BIN)/python tests/fetch_timm_tests.py
	touch $@
