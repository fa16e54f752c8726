# The README's commands. Each builds what it needs: Python 3.11 and a package index are enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs
NAME ?= main

# 16 settings of each policy-gradient method: 4 learning rates x 4 entropy bonuses.
GRID := ppo.lr=0.001,0.003,0.01,0.03 ppo.entropy=0.03,0.1,0.2,0.4 \
        reinforce.lr=0.003,0.01,0.03,0.1 reinforce.entropy=0.02,0.04,0.08,0.16

.PHONY: help search validate test test-slow test-external check lint bench clean

help:
	@echo "make search     thousands of controllers search AnalogNAS-Bench; ends with a report"
	@echo "make validate   small networks trained on digits, then measured on simulated chips"
	@echo "make test       the default tests: 9 minutes on 2 quiet cores"
	@echo "make test-slow  the slow tests"
	@echo "make test-external  the tests that need the extra external (t-SNE, UMAP, ...)"
	@echo "make check      lint, types and the default tests"
	@echo "make bench      the benchmarks; see benchmarks/README.md"

search: $(VENV)/.installed
	$(BIN)/jaxnas search --algorithms random evolution reinforce ppo \
	  --objective analog_1month --budget 500 --max-proposals 1000 --seeds 64 \
	  --grid $(GRID) --out $(OUT) --name $(NAME)

# Small networks are searched on digits, and the best three are put on simulated chips.
validate: $(VENV)/.installed-analog
	$(BIN)/jaxnas search --oracle child --space nb201 \
	  --oracle-set data=digits size=channels:8,cells:1 epochs=10 augment=shift \
	  --algorithms random evolution reinforce --set reinforce.batch=4 --seeds 1 --budget 30 \
	  --workers 2 --out $(OUT) --name digits
	$(BIN)/jaxnas validate $(OUT)/digits --top 3 --workers 2

test: $(VENV)/.installed-dev $(VENV)/.installed-analog
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(VENV)/.installed-dev $(VENV)/.installed-analog
	$(BIN)/python -m pytest -n auto --dist loadfile -m "slow and not external"

test-external: $(VENV)/.installed-dev $(VENV)/.installed-external
	$(BIN)/python -m pytest -n auto --dist loadfile -m external

check: lint test

lint: $(VENV)/.installed-dev $(VENV)/.installed-analog
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pyright
	$(BIN)/codespell jaxnas tests benchmarks experiments docs README.md CHANGELOG.md CONTRIBUTING.md

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/trees.py
	$(BIN)/python benchmarks/latent.py
	$(BIN)/python benchmarks/regret.py

# aihwkit's own requirements name much that it does not use when it runs: without them.
$(VENV)/.installed-analog: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	$(BIN)/python -m pip install --quiet torch==2.13.0 numpy scipy "requests>=2.32,<3" protobuf tqdm
	$(BIN)/python -m pip install --quiet --no-deps aihwkit==1.1.0
	touch $(VENV)/.installed $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(VENV)/.installed $@

$(VENV)/.installed-external: pyproject.toml | $(VENV)/.installed-dev $(VENV)/.installed-analog
	$(BIN)/python -m pip install --quiet --editable ".[external]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
