# make finetune   fine-tune a pretrained Wide ResNet on real images, beside the same net from scratch
# make hub        browse the models and serve them as the Hub does, on http://127.0.0.1:8000
# make test       every test
# make lint       ruff and mypy
# Each makes .venv and installs into it by itself; all it needs is Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: finetune hub test lint clean

finetune: .venv/installed
	$(BIN)/accelerate launch --quiet --config_file scripts/accelerate/one_process.yaml scripts/finetune.py --versus-scratch

hub: .venv/installed-hub
	$(BIN)/python scripts/hub.py

test: .venv/installed-dev
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is not Python 3.11 or newer: install one and name it, as in make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) lacks venv: install it (on Debian and Ubuntu: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-hub: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[hub]'
	touch $@

.venv/installed-dev: .venv/installed tests/fetch_timm_tests.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cards,hub,dev]'
	$(BIN)/python tests/fetch_timm_tests.py
	touch $@
