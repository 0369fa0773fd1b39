# `make train` and `make test` work on a fresh machine with Python 3.10 or newer and the package index; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CORES := $(shell nproc 2>/dev/null || echo 2)
ARGS ?=

.PHONY: train test lint bench setup clean

train: $(READY)  ## Train, measure and save a dual encoder; more arguments in ARGS, for example ARGS="--compare clip".
	@# Quiet: of an error, the recipe's own words and not those of its launcher as well.
	$(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		--num_cpu_threads_per_process $(CORES) recipes/clip_decoupled.py $(ARGS)

test: $(READY)  ## Run all tests: no network, no Hub, no GPU.
	@# A process for each core with one thread each: on the small tensors of tests a second one costs more than it brings.
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile $(ARGS)

lint: $(READY)  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## Print the tables of all benchmarks.
	$(BIN)/python -m tests.benchmarks

setup: $(READY)  ## Create .venv with pinned packages.

# torch first and alone: another package's range would take a build with gigabytes of CUDA.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "hf_contrastive needs Python 3.10 or newer, but $(PYTHON) is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 train")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[recipes,dev]'
	touch $(READY)

clean:  ## Remove the environment and outputs.
	rm -rf $(VENV) outputs
