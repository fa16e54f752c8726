# The README's commands. Each builds what it needs: Python 3.11 and a network are enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/main

.PHONY: search test test-slow check bench clean

search: $(BIN)/.installed
	$(BIN)/jaxnas search \
	  --algorithms random evolution reinforce ppo \
	  --objective analog_1month --budget 500 --max-proposals 1000 --seeds 64 \
	  --grid $(GRID) \
	  --out $(dir $(RUN)) --name $(notdir $(RUN))

test: $(BIN)/.installed-dev
	$(BIN)/python -m pytest

test-slow: $(BIN)/.installed-dev
	$(BIN)/python -m pytest -m slow

check: $(BIN)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/codespell jaxnas tests benchmarks docs README.md CHANGELOG.md Makefile
	$(BIN)/python -m pytest

bench: $(BIN)/.installed-dev
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/regret.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(BIN)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(BIN)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $(BIN)/.installed $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
